//! What a program is given at its start, and how its end is told.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    process::Command,
};

use rustix::{
    io::{Errno, FdFlags},
    process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit, wait},
    termios::tcgetpgrp,
};
use stasis_plain::{
    Attached, DumpPlan, Exit, Liveness, Managed, ProcessError, Run, Size, Stdio, Tree,
};

use crate::{Ended, pipes};

#[tokio::test]
async fn an_exit_is_told_to_all_who_wait_and_again() {
    let process = Run::new("sh").args(["-c", "exit 7"]).start().unwrap();
    let (one, other) = tokio::join!(process.exited(), process.exited());
    assert_eq!(
        (one.unwrap(), other.unwrap()),
        (Exit::Code(7), Exit::Code(7))
    );
    assert_eq!(process.exited().await.unwrap(), Exit::Code(7));
    assert_eq!(process.state().unwrap(), Liveness::Exited(Exit::Code(7)));
    assert!(matches!(process.kill(), Err(ProcessError::Gone { .. })));
    assert!(matches!(process.tree(), Err(ProcessError::Gone { .. })));
}

#[tokio::test]
async fn a_signal_that_ends_a_process_is_told() {
    let process = Run::new("sleep").arg("600").start().unwrap();
    assert_eq!(process.state().unwrap(), Liveness::Running);
    process.kill().unwrap();
    assert_eq!(process.exited().await.unwrap(), Exit::Signal(9));
}

#[tokio::test]
async fn a_stopped_process_is_told_from_a_running_one() {
    let process = Ended(Run::new("sleep").arg("600").start().unwrap());
    process.0.signal(libc::SIGSTOP).unwrap();
    let stopped = rustix::process::WaitIdOptions::STOPPED;
    let pidfd = rustix::process::WaitId::PidFd(process.0.pidfd());
    rustix::process::waitid(pidfd, stopped).unwrap();
    assert_eq!(process.0.state().unwrap(), Liveness::Stopped);
}

#[test]
fn a_program_that_is_not_there_is_an_error_that_names_it() {
    let error = Run::new("/no/such/program").start().unwrap_err();
    assert_eq!(error.to_string(), "cannot start /no/such/program");
}

#[tokio::test]
async fn a_pid_file_that_cannot_be_written_ends_what_was_started() {
    let directory = tempfile::tempdir().unwrap();
    let before = Tree::read(std::process::id()).unwrap();
    let started = Run::new("sleep")
        .arg("601")
        .pid_file(directory.path().join("none/pid"))
        .start();
    assert!(matches!(started, Err(ProcessError::File { .. })));
    let after = Tree::read(std::process::id()).unwrap();
    let sleeps = |tree: &Tree| {
        let all = tree.processes().iter();
        all.filter(|process| process.command_line == "sleep 601")
            .count()
    };
    assert_eq!((sleeps(&before), sleeps(&after)), (0, 0));
}

#[test]
fn a_program_is_not_left_to_itself_for_want_of_a_descriptor() {
    // The limit is the whole process's, which so has to be one of its own.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "run::a_program_of_a_process_with_few_descriptors",
        ])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 passed"), "{told}");
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_program_of_a_process_with_few_descriptors() {
    let whole = getrlimit(Resource::Nofile);
    let few = fs::File::open("/dev/null").unwrap().as_raw_fd();
    let mut unmanaged = 0;
    for more in 0..64 {
        let current = Some(u64::try_from(few + more).unwrap());
        setrlimit(Resource::Nofile, Rlimit { current, ..whole }).unwrap();
        let started = Run::new("sleep").arg("602").stdio(Stdio::Pipes).start();
        setrlimit(Resource::Nofile, whole).unwrap();
        match started {
            Ok(process) => {
                process.kill().unwrap();
                assert!(unmanaged > 0, "it began where all of it went well");
                return;
            }
            Err(ProcessError::Start { .. } | ProcessError::Stream { .. }) => {}
            Err(_) => unmanaged += 1,
        }
        let children = wait(WaitOptions::NOHANG);
        assert_eq!(children.map(drop), Err(Errno::CHILD), "{more} descriptors");
    }
    panic!("it was never started");
}

#[tokio::test]
async fn a_program_leads_its_session_and_inherits_nothing_else() {
    let leak = OwnedFd::from(fs::File::open("/dev/zero").unwrap());
    rustix::io::fcntl_setfd(&leak, FdFlags::empty()).unwrap();
    let process = Ended(Run::new("sleep").arg("600").start().unwrap());
    rustix::io::fcntl_setfd(&leak, FdFlags::CLOEXEC).unwrap();
    let tree = process.0.tree().unwrap();
    let root = tree.root();
    assert_eq!((root.session, root.group), (root.pid, root.pid));
    assert_eq!(root.terminal, 0);
    let open: Vec<_> = root
        .files
        .iter()
        .map(|file| (file.fd, file.path.as_path()))
        .collect();
    let null = Path::new("/dev/null");
    assert_eq!(open, [(0, null), (1, null), (2, null)]);
}

#[tokio::test]
async fn a_program_ignores_no_signal_because_we_do() {
    // A shell ignores SIGHUP and SIGUSR1 for its children, which run this test's binary again.
    let binary = std::env::current_exe().unwrap();
    let inner = "signals_of_a_program_that_is_run";
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' HUP USR1; exec \"$0\" --exact --ignored \"$1\"",
        ])
        .arg(binary)
        .arg(inner)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
}

#[tokio::test]
#[ignore = "run by another test, under a shell that ignores signals"]
async fn signals_of_a_program_that_is_run() {
    let process = Ended(Run::new("sleep").arg("600").start().unwrap());
    let field = |pid: u32, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        u64::from_str_radix(value.trim(), 16).unwrap()
    };
    assert_ne!(field(std::process::id(), "SigIgn:"), 0);
    for name in ["SigIgn:", "SigBlk:"] {
        assert_eq!(field(process.0.pid(), name), 0, "{name}");
    }
}

#[tokio::test]
async fn an_attached_process_is_spoken_with_over_pipes() {
    let mut process = Run::new("sh")
        .args(["-c", "read word; echo got $word"])
        .stdio(Stdio::Pipes)
        .start()
        .unwrap();
    let (mut stdin, mut stdout) = pipes(&mut process);
    stdin.write_all(b"hello\n").unwrap();
    let mut answer = String::new();
    stdout.read_line(&mut answer).unwrap();
    assert_eq!(answer, "got hello\n");
    assert!(process.exited().await.unwrap().is_success());
}

#[tokio::test]
async fn a_terminal_is_the_controlling_one_and_of_the_size_asked_for() {
    let size = Size {
        rows: 40,
        columns: 132,
    };
    let mut process = Run::new("sh")
        .args(["-c", "stty size </dev/tty; read nothing"])
        .stdio(Stdio::Terminal { size })
        .start()
        .unwrap();
    let Some(Attached::Terminal(master)) = process.take_attached() else {
        panic!("no terminal");
    };
    let mut terminal = BufReader::new(fs::File::from(master.try_clone().unwrap()));
    let mut line = String::new();
    terminal.read_line(&mut line).unwrap();
    assert_eq!(line, "40 132\r\n");
    let root = process.tree().unwrap().root().clone();
    assert_ne!(root.terminal, 0);
    assert_eq!(
        tcgetpgrp(&master).unwrap().as_raw_pid().cast_unsigned(),
        root.pid
    );
    rustix::io::write(&master, b"\n").unwrap();
    assert!(process.exited().await.unwrap().is_success());
}

#[tokio::test]
async fn a_log_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    for word in ["one", "two"] {
        let process = Run::new("sh")
            .args(["-c", &format!("echo {word}; echo error >&2")])
            .stdio(Stdio::Log(log.clone()))
            .start()
            .unwrap();
        assert!(process.exited().await.unwrap().is_success());
    }
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text, "one\nerror\ntwo\nerror\n");
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_grandchild_is_told_once_its_parent_took_it() {
    let mut parent = Run::new("sh")
        .args([
            "-c",
            "exec 3<&0; (read word <&3; exit 5) & echo $!; wait $!; echo taken; read nothing",
        ])
        .stdio(Stdio::Pipes)
        .start()
        .unwrap();
    let (mut stdin, mut stdout) = pipes(&mut parent);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let grandchild = Managed::take_over(line.trim().parse().unwrap()).unwrap();
    assert!(!grandchild.is_child());
    stdin.write_all(b"go\n").unwrap();
    // The paused clock stands still while a thread works: the time that a parent has does not pass
    // before it has taken the status.
    let taken = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        stdout.read_line(&mut line).map(|_| line)
    });
    let (exit, taken) = tokio::join!(grandchild.exited(), taken);
    assert_eq!(taken.unwrap().unwrap(), "taken\n");
    let exit = exit.unwrap();
    // Before Linux 6.15 nobody but the parent is told.
    assert!(matches!(exit, Exit::Code(5) | Exit::Unknown), "{exit}");
    if kernel_keeps_exits() {
        assert_eq!(exit, Exit::Code(5));
    }
    assert_eq!(grandchild.state().unwrap(), Liveness::Exited(exit));
    drop(stdin);
    parent.exited().await.unwrap();
}

fn kernel_keeps_exits() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15)
}

#[tokio::test]
async fn an_orphan_that_nobody_reaps_is_a_zombie_and_then_unknown() {
    // The parent is stopped, so that it does not take the status.
    let mut parent = Run::new("sh")
        .args([
            "-c",
            "exec 3<&0; (read word <&3; exit 5) & echo $!; read nothing",
        ])
        .stdio(Stdio::Pipes)
        .start()
        .unwrap();
    let (mut stdin, mut stdout) = pipes(&mut parent);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let grandchild = Managed::take_over(line.trim().parse().unwrap()).unwrap();
    parent.signal(libc::SIGSTOP).unwrap();
    stdin.write_all(b"go\n").unwrap();
    assert_eq!(grandchild.exited().await.unwrap(), Exit::Unknown);
    parent.kill().unwrap();
    parent.exited().await.unwrap();
}

#[tokio::test]
async fn a_child_that_another_started_here_is_ours_to_reap() {
    let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let process = Managed::take_over(child.id()).unwrap();
    assert!(process.is_child());
    assert_eq!(process.exited().await.unwrap(), Exit::Code(3));
    // Whoever else waits comes too late.
    child.wait().unwrap_err();
    assert!(matches!(
        Managed::take_over(child.id()),
        Err(ProcessError::Gone { .. })
    ));
}

#[test]
fn a_process_that_is_gone_is_told_as_gone() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    for error in [
        Tree::read(child.id()).unwrap_err(),
        Managed::take_over(child.id()).unwrap_err(),
        DumpPlan::detect(child.id()).unwrap_err(),
    ] {
        assert!(
            matches!(error, ProcessError::Gone { pid } if pid == child.id()),
            "{error}"
        );
    }
    assert!(Managed::take_over(0).is_err() && Managed::take_over(u32::MAX).is_err());
}

#[test]
fn reading_a_pipe_to_its_end_needs_no_copy_of_ours() {
    let mut process = Run::new("sh")
        .args(["-c", "echo done"])
        .stdio(Stdio::Pipes)
        .start()
        .unwrap();
    let Some(Attached::Pipes {
        stdout: Some(mut stdout),
        ..
    }) = process.take_attached()
    else {
        panic!("no pipes");
    };
    let mut text = String::new();
    // Ends only if nobody here holds the other end.
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "done\n");
    drop(Ended(process));
}
