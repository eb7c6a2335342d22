//! Programs with a deadline. One that hangs is killed with its process group, and fails its test.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Seek, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// What a command may take unless its test says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A command that is being put together.
#[derive(Debug)]
pub struct Run {
    command: Command,
    line: String,
    stdin: Option<Vec<u8>>,
    deadline: Duration,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// The exit status; 128 and the signal where one ended it.
    pub status: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Run {
    /// A command line, its words separated by blanks.
    pub fn new(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().expect("a command line is not empty"));
        command.args(words).process_group(0);
        Self {
            command,
            line: line.to_owned(),
            stdin: None,
            deadline: DEADLINE,
        }
    }

    /// Appends arguments, which may contain blanks.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        for argument in arguments {
            self.line.push(' ');
            self.line.push_str(argument);
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Gives the command `bytes` to read; without this it reads nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Sets another deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// Output goes through files: a pipe that some process left behind holds open would hang us.
    pub fn run(mut self) -> Output {
        let mut stdout = tempfile::tempfile().expect("a file for stdout");
        let mut stderr = tempfile::tempfile().expect("a file for stderr");
        self.command
            .stdin(
                self.stdin
                    .as_deref()
                    .map_or_else(Stdio::null, |bytes| holding(bytes).into()),
            )
            .stdout(stdout.try_clone().expect("a descriptor"))
            .stderr(stderr.try_clone().expect("a descriptor"));
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run `{}`: {error}", self.line));
        let in_time = ends_within(&child, self.deadline);
        if !in_time {
            // It may end between the two lines: then there is no group to kill.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        }
        let status = child.wait().expect("a child that nobody else waits for");
        let output = Output {
            status: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: contents(&mut stdout),
            stderr: String::from_utf8_lossy(&contents(&mut stderr)).into_owned(),
            line: self.line,
        };
        assert!(in_time, "hung, killed after {:?}: {output}", self.deadline);
        output
    }
}

impl Run {
    /// Runs it; what it wrote, after it has succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        self.run().ok()
    }

    /// Runs it; what it wrote, after it has exited with `status`.
    #[track_caller]
    pub fn exits(self, status: i32) -> String {
        self.run().exits(status)
    }
}

impl Output {
    /// What the command wrote, after it has succeeded.
    #[track_caller]
    pub fn ok(&self) -> String {
        self.exits(0)
    }

    /// What the command wrote, after it has exited with `status`.
    #[track_caller]
    pub fn exits(&self, status: i32) -> String {
        assert!(
            self.status == status,
            "status {status} was expected of {self}"
        );
        self.text()
    }

    /// What the command complained of, after it has failed.
    #[track_caller]
    pub fn fails(&self) -> String {
        assert!(self.status != 0, "success was not expected of {self}");
        self.stderr.clone()
    }

    /// The standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = self.text();
        if text.len() > 2000 {
            text = format!("({} bytes)", text.len());
        }
        write!(
            f,
            "`{}`: status {}\nstdout: {text}\nstderr: {}",
            self.line, self.status, self.stderr
        )
    }
}

fn ends_within(child: &Child, deadline: Duration) -> bool {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("pidfd_open");
    let timeout = Timespec::try_from(deadline).expect("a deadline of some seconds");
    let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
    poll(&mut ended, Some(&timeout)).expect("poll") == 1
}

fn holding(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file for stdin");
    file.write_all(bytes).expect("room for stdin");
    file.rewind().expect("a file can be rewound");
    file
}

fn contents(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("a file can be rewound");
    file.read_to_end(&mut bytes).expect("a readable file");
    bytes
}
