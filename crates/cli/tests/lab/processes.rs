//! Processes to dump. Each is started by `stasis run`.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::{Child, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    command::{Scratch, built, done, stasis},
    sys,
};

/// For what takes an instant, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A process that is ended with the test.
#[derive(Debug)]
pub struct Held {
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Held {
    pub fn new(pid: u32) -> Self {
        let number = Pid::from_raw(pid.cast_signed()).unwrap();
        let pidfd = pidfd_open(number, PidfdFlags::empty()).unwrap();
        Self { pid, pidfd }
    }

    /// The process that `--pid-file` names.
    pub fn of_file(file: PathBuf) -> Self {
        Self::new(fs::read_to_string(file).unwrap().parse().unwrap())
    }

    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    pub fn ends_within(&self, patience: Duration) -> bool {
        readable(&self.pidfd, patience)
    }

    /// Ends it, and waits until it and its number are gone.
    pub fn kill(&self) {
        // It may have ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        assert!(readable(&self.pidfd, PATIENCE));
        sys::await_free(&[self.pid], PATIENCE);
    }

    /// Stops it, and waits until it has stopped.
    pub fn stop(&self) {
        pidfd_send_signal(&self.pidfd, Signal::STOP).unwrap();
        eventually("it is stopped", || {
            status(self.pid, "State").starts_with('T')
        });
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        pidfd_send_signal(&self.pidfd, Signal::CONT).unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// Waits for what no event tells of.
fn eventually(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What `/proc/PID/status` says behind a heading.
fn status(pid: u32, heading: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(heading)?.strip_prefix(":"));
    String::from(value.unwrap().trim())
}

/// The one child of a process. Not by its threads, which come and go, as `task/*/children` has it.
pub fn only_child(pid: u32) -> u32 {
    let all = fs::read_dir("/proc").unwrap();
    let children: Vec<u32> = all
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        // It may have ended.
        .filter(|other| stat(*other).is_ok_and(|stat| stat[1] == pid.to_string()))
        .collect();
    let [child] = children[..] else {
        panic!("{pid} has the children {children:?}");
    };
    child
}

/// What `/proc/PID/stat` says behind the name (proc_pid_stat(5)): state, parent, group, session ...
pub fn stat(pid: u32) -> io::Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    Ok(fields.split(' ').map(String::from).collect())
}

/// Waits until there is something to read.
pub fn readable(descriptor: impl AsFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    let patience = Timespec::try_from(patience).unwrap();
    poll(&mut polled, Some(&patience)).unwrap() > 0
}

/// A process that counts how often it was asked, by one FIFO, and answers by another. It says the
/// number to its standard output too.
pub struct Counter {
    asks: fs::File,
    answers: BufReader<fs::File>,
    command: Vec<String>,
}

impl Counter {
    /// One that is to be started in `scratch`.
    pub fn new(scratch: &Scratch) -> Self {
        let fifo = |name| {
            let path = scratch.path(name);
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            // For both, so that it opens without the process.
            let both = fs::File::options().read(true).write(true).open(path);
            both.unwrap()
        };
        let script = "exec 8<>$1 9<>$2; i=0; while read -r line <&8; do i=$((i + 1)); \
                      echo $i; echo $i >&9; done";
        let (asks, answers) = (scratch.word("asks"), scratch.word("answers"));
        Self {
            asks: fifo("asks"),
            answers: BufReader::new(fifo("answers")),
            command: ["sh", "-c", script, "counter", &asks, &answers]
                .map(String::from)
                .into(),
        }
    }

    /// Starts it by `stasis run` with the words of `line`, which tells its number.
    pub fn run(&self, line: &str) -> Held {
        let command = self.command.iter().map(String::as_str);
        Self::start(line, command)
    }

    /// Starts it with a lock on `file`.
    pub fn run_with_lock(&self, file: &str) -> Held {
        let flock = ["flock", "--no-fork", file];
        let command = self.command.iter().map(String::as_str);
        Self::start("", flock.into_iter().chain(command))
    }

    /// Starts it by a shell, which is what is returned. The number of the counter is in the file
    /// `job` when it answers.
    pub fn run_as_job(&self, scratch: &Scratch) -> Held {
        let job = "echo -n $$ > \"$0\"; exec \"$@\"";
        let script = format!("sh -c '{job}' \"$@\" & wait");
        let file = scratch.word("job");
        let shell = ["sh", "-c", &script, "shell", &file];
        let command = self.command.iter().map(String::as_str);
        Self::start("", shell.into_iter().chain(command))
    }

    fn start<'a>(line: &'a str, command: impl Iterator<Item = &'a str>) -> Held {
        let words = ["run", "-d"].into_iter().chain(line.split_whitespace());
        let run = stasis(words.chain(["--"]).chain(command)).output().unwrap();
        assert!(run.status.success(), "{run:?}");
        let pid = String::from_utf8(run.stdout).unwrap();
        Held::new(pid.trim().parse().unwrap())
    }

    /// Asks it once more: how often was that?
    pub fn ask(&mut self) -> u32 {
        self.asks.write_all(b"?\n").unwrap();
        assert!(readable(self.answers.get_ref(), PATIENCE), "no answer");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap()
    }
}

/// A process with memory that follows no pattern, which wakes up each millisecond.
pub struct Victim {
    /// Who started it, and reaps it.
    run: Child,
    pub held: Held,
}

impl Victim {
    pub fn start(scratch: &Scratch, mib: u32) -> Self {
        let program = built("examples/victim");
        assert!(
            program.exists(),
            "build it: cargo build -p stasis-criu --examples"
        );
        let pid_file = scratch.word("victim");
        let memory = mib.to_string();
        let program = program.to_str().unwrap();
        let words = [
            "run",
            "--attach",
            "--quiet",
            "--pid-file",
            &pid_file,
            program,
        ];
        let mut run = stasis(words.into_iter().chain(["--memory", &memory]))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Lines::new(run.stdout.take().unwrap());
        assert_eq!(said.next(), "ready");
        let held = Held::of_file(pid_file.into());
        Self { run, held }
    }

    pub fn pid(&self) -> u32 {
        self.held.pid
    }

    /// It runs, and has nothing of CRIU's.
    pub fn is_well(&self) {
        is_well(self.pid());
    }

    /// Waits for its end, by a dump: `run` tells that it was killed.
    pub fn was_dumped(mut self) {
        assert!(readable(&self.held.pidfd, PATIENCE));
        assert_eq!(self.run.wait().unwrap().code(), Some(137));
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.held.pidfd, Signal::KILL);
        let _ = self.run.wait();
    }
}

/// A victim runs, and has nothing of CRIU's.
pub fn is_well(pid: u32) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(!maps.contains("CRIUMFD"));
    let beats = || {
        status(pid, "voluntary_ctxt_switches")
            .parse::<u64>()
            .unwrap()
    };
    let before = beats();
    eventually("it wakes up", || beats() > before);
}

/// The lines of what somebody writes.
pub struct Lines(BufReader<ChildStdout>);

impl Lines {
    pub fn new(from: ChildStdout) -> Self {
        Self(BufReader::new(from))
    }

    /// The next one.
    pub fn next(&mut self) -> String {
        if self.0.buffer().is_empty() {
            assert!(readable(self.0.get_ref(), PATIENCE), "no line");
        }
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert_eq!(line.pop(), Some('\n'), "it has ended");
        line
    }

    /// What comes until its end.
    pub fn rest(mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// Dumps a process into a directory of `scratch`, and sees that it has ended.
pub fn dump(process: &Held, images: &str) {
    let report = done(&format!("dump -t {} -D {images}", process.pid)).success();
    let begins = format!("dumped process {}, which has ended; ", process.pid);
    assert!(report.starts_with(&begins), "{report}");
    assert!(process.has_ended());
}
