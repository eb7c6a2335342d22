//! Programs with a deadline, timed from before the fork until they have been waited for.

use std::{
    fs::File,
    io::{Read, Seek},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// What any command here may take: a checkpoint of 1 GiB on a busy machine among them.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The command line.
    pub line: String,
    /// How long it took.
    pub took: Duration,
    /// Whether its exit status was 0.
    pub success: bool,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// The command itself if it succeeded, else an error with its last words.
    pub fn ok(self) -> Result<Self> {
        ensure!(
            self.success,
            "`{}` failed: {}",
            self.line,
            self.stderr.trim()
        );
        Ok(self)
    }
}

/// A command made of a line whose words are separated by blanks.
pub fn line(words: &str) -> Command {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Runs a command to its end, whatever that is.
pub fn run(command: &mut Command) -> Result<Ended> {
    let mut stdout = tempfile::tempfile()?;
    let mut ended = run_to(command, stdout.try_clone()?)?;
    ended.stdout = contents(&mut stdout)?;
    Ok(ended)
}

/// The same where standard output goes to a file of the caller's.
///
/// Errors go through a file: a pipe that a process left behind holds open would hang us.
pub fn run_to(command: &mut Command, stdout: File) -> Result<Ended> {
    let line = shown(command);
    let mut stderr = tempfile::tempfile()?;
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr.try_clone()?);
    let begun = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !ends_within(&child, DEADLINE)? {
        // It may end between the two lines: then there is no group to kill.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait()?;
        bail!("`{line}` was killed after {DEADLINE:?}");
    }
    let status = child.wait()?;
    Ok(Ended {
        took: begun.elapsed(),
        success: status.success(),
        stdout: String::new(),
        stderr: contents(&mut stderr)?,
        line,
    })
}

/// Waits for the end of a process that is not our child.
pub fn gone(pid: u32) -> Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        bail!("{pid} is no process");
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => {
            let what = pid.as_raw_nonzero();
            ensure!(ended(&pidfd, DEADLINE)?, "process {what} does not end");
            Ok(())
        }
        Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the end of a child, which is still to be reaped.
pub fn ends_within(child: &Child, deadline: Duration) -> Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    ended(&pidfd, deadline)
}

fn ended(pidfd: &impl std::os::fd::AsFd, deadline: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(deadline)?;
    Ok(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout))? == 1)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn contents(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
