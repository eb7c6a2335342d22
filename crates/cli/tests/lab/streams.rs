//! The streams of a process, over a dump and a restore.

use std::{
    fs,
    io::Write as _,
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    command::{Done, Scratch, done, stasis},
    processes::{Counter, Held, Lines, PATIENCE, Victim, dump, readable, stat},
};

/// Counts the lines that it reads, says so, and ends with its input.
const ANSWERS: &str = "i=0; while read -r line; do i=$((i + 1)); echo \"$i $line\"; done; exit 5";

#[test]
#[ignore = "needs the lab"]
fn a_detached_process_counts_on() {
    let scratch = Scratch::new();
    let mut counter = Counter::new(&scratch);
    let process = counter.run("");
    assert_eq!(counter.ask(), 1);
    let images = scratch.word("images");
    dump(&process, &images);
    let file = scratch.word("pid");
    let said = done(&format!("restore -D {images} --detach --pid-file {file}")).success();
    assert_eq!(said, format!("{}\n", process.pid));
    let restored = Held::of_file(file.into());
    assert_eq!(restored.pid, process.pid);
    assert_eq!(counter.ask(), 2);
}

#[test]
#[ignore = "needs the lab"]
fn a_log_goes_on_or_becomes_another() {
    let scratch = Scratch::new();
    let mut counter = Counter::new(&scratch);
    let (first, second) = (scratch.word("first"), scratch.word("second"));
    let process = counter.run(&format!("--log {first}"));
    assert_eq!(counter.ask(), 1);
    let images = scratch.word("images");
    dump(&process, &images);

    done(&format!("restore -D {images} -d")).success();
    let process = Held::new(process.pid);
    assert_eq!(counter.ask(), 2);
    assert_eq!(fs::read_to_string(&first).unwrap(), "1\n2\n");
    let images = scratch.word("again");
    dump(&process, &images);

    done(&format!("restore -D {images} -d --log {second}")).success();
    let _process = Held::new(process.pid);
    assert_eq!(counter.ask(), 3);
    assert_eq!(fs::read_to_string(&first).unwrap(), "1\n2\n");
    assert_eq!(fs::read_to_string(&second).unwrap(), "3\n");
}

#[test]
#[ignore = "needs the lab"]
fn a_job_in_the_session_of_another_comes_back_into_that_of_whoever_restores() {
    let scratch = Scratch::new();
    let mut counter = Counter::new(&scratch);
    let leader = counter.run_as_job(&scratch);
    assert_eq!(counter.ask(), 1);
    let job = Held::of_file(scratch.path("job"));
    assert_eq!(session(job.pid), leader.pid);
    let images = scratch.word("images");
    dump(&job, &images);

    let restore = stasis(["restore", "-D", &images, "-d"]);
    let mut session_of_its_own = Command::new("setsid");
    session_of_its_own.arg("--wait").arg(restore.get_program());
    let restored = session_of_its_own.args(restore.get_args()).output();
    assert_eq!(
        Done::from(restored.unwrap()).success(),
        format!("{}\n", job.pid)
    );
    let job = Held::new(job.pid);
    assert_ne!(session(job.pid), leader.pid);
    assert_eq!(counter.ask(), 2);
}

fn session(pid: u32) -> u32 {
    stat(pid).unwrap()[3].parse().unwrap()
}

/// Starts `stasis` with pipes.
fn piped(words: &[&str]) -> (Child, Lines) {
    let mut child = stasis(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Lines::new(child.stdout.take().unwrap());
    (child, lines)
}

#[test]
#[ignore = "needs the lab"]
fn attached_pipes_are_those_of_whoever_restores() {
    let scratch = Scratch::new();
    let (images, file) = (scratch.word("images"), scratch.word("pid"));
    let words = ["run", "-a", "-q", "--pid-file", &file, "sh", "-c", ANSWERS];
    let (mut run, mut lines) = piped(&words);
    run.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    assert_eq!(lines.next(), "1 one");
    let process = Held::of_file(scratch.path("pid"));
    dump(&process, &images);
    assert_eq!(run.wait().unwrap().code(), Some(137));

    let (mut restore, mut lines) = piped(&["restore", "-D", &images, "-a"]);
    restore.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
    assert_eq!(lines.next(), "2 two");
    // It sees the end of its input, and its status is ours.
    drop(restore.stdin.take());
    assert_eq!(lines.rest(), "");
    assert_eq!(restore.wait().unwrap().code(), Some(5));
}

#[test]
#[ignore = "needs the lab"]
fn what_a_process_wrote_is_there_also_for_whoever_reads_late() {
    // More than two pipes hold: one is the process's, one the reader's.
    let mut run = stasis(["run", "-a", "-q", "--", "sh", "-c", "seq 20000; exit 3"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Longer than what others write is waited for. That it does not end no event tells.
    let held = Held::new(run.id());
    assert!(!held.ends_within(Duration::from_secs(3)));
    let lines = Lines::new(run.stdout.take().unwrap()).rest();
    assert_eq!(lines.lines().count(), 20000);
    assert!(lines.ends_with("\n20000\n"));
    assert_eq!(run.wait().unwrap().code(), Some(3));
}

#[test]
#[ignore = "needs the lab"]
fn somebody_who_holds_the_streams_keeps_nobody_waiting() {
    // Silent until its input ends, which it does with the command.
    let silent = "exec 8<&0; cat <&8 & echo done; exit 3";
    let (mut run, mut lines) = piped(&["run", "-a", "-q", "--", "sh", "-c", silent]);
    assert_eq!(lines.next(), "done");
    assert!(Held::new(run.id()).ends_within(PATIENCE));
    assert_eq!(run.wait().unwrap().code(), Some(3));

    let mut run = stasis(["run", "-a", "-q", "--", "sh", "-c", "yes & exit 3"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(Held::new(run.id()).ends_within(PATIENCE));
    assert_eq!(run.wait().unwrap().code(), Some(3));
}

/// A terminal with `stasis` on it.
struct Terminal {
    master: fs::File,
    slave: OwnedFd,
    seen: String,
}

impl Terminal {
    fn new() -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).unwrap();
        Self {
            master: master.into(),
            slave,
            seen: String::new(),
        }
    }

    fn start(&self, words: &[&str]) -> Child {
        let end = || self.slave.try_clone().unwrap();
        let mut command = stasis(words);
        command.stdin(end()).stdout(end()).stderr(end());
        command.spawn().unwrap()
    }

    fn types(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Waits until it shows a text.
    fn shows(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(readable(&self.master, PATIENCE), "{:?}", self.seen);
            let mut buffer = [0; 4096];
            let length = rustix::io::read(&self.master, &mut buffer).unwrap();
            self.seen
                .push_str(str::from_utf8(&buffer[..length]).unwrap());
        }
    }

    /// Does it hand lines on, and show what is typed, as a shell's does?
    fn is_ordinary(&self) -> bool {
        let modes = tcgetattr(&self.slave).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

#[test]
#[ignore = "needs the lab"]
fn an_attached_terminal_is_that_of_whoever_restores() {
    let scratch = Scratch::new();
    let (images, file) = (scratch.word("images"), scratch.word("pid"));
    let script = format!("trap 'exit 7' INT; stty size; {ANSWERS}");
    let mut terminal = Terminal::new();
    let mut run = terminal.start(&["run", "-a", "--pid-file", &file, "sh", "-c", &script]);
    terminal.shows("30 100\r\n");
    terminal.types(b"one\r");
    terminal.shows("1 one\r\n");
    assert!(!terminal.is_ordinary());
    let process = Held::of_file(scratch.path("pid"));
    dump(&process, &images);
    assert_eq!(run.wait().unwrap().code(), Some(137));
    assert!(terminal.is_ordinary());

    // It had a terminal, and none is here.
    let (kind, error) = done(&format!("restore -D {images} -d --json")).failure_object();
    assert_eq!(kind, "unavailable", "{error}");
    assert!(error.contains("attach"), "{error}");

    let mut terminal = Terminal::new();
    let mut restore = terminal.start(&["restore", "-D", &images, "-a"]);
    terminal.types(b"two\r");
    terminal.shows("2 two\r\n");
    // Ctrl-C is the process's.
    terminal.types(b"\x03");
    assert_eq!(restore.wait().unwrap().code(), Some(7));
    assert!(terminal.is_ordinary());
}

#[test]
#[ignore = "needs the lab"]
fn a_terminal_shows_how_many_pages_are_written() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 256);
    let mut terminal = Terminal::new();
    let (pid, images) = (victim.pid().to_string(), scratch.word("images"));
    let mut dump = terminal.start(&["dump", "-t", &pid, "-D", &images]);
    // 256 MiB are 65536 pages, and it has some more.
    terminal.shows("/65");
    terminal.shows(" pages ");
    terminal.shows("which has ended");
    assert_eq!(dump.wait().unwrap().code(), Some(0));
    victim.was_dumped();
}
