//! Programs that are run, managed and looked at for a dump, on the kernel at hand and without CRIU.
//! Running and managing are in `run`, looking for a dump in `adapters`.

// Clippy looks for `#[cfg(test)]`; all of this binary is tests.
#![allow(clippy::tests_outside_test_module)]

mod adapters;
mod run;

use std::{
    io::{BufRead as _, BufReader, PipeReader, PipeWriter},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio as Standard},
    sync::{Mutex, PoisonError},
};

use rustix::io::FdFlags;
use stasis_plain::{Attached, Managed};

/// What the tests start goes with them.
struct Ended(Managed);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(self.0.pidfd()),
            rustix::process::WaitIdOptions::EXITED,
        );
    }
}

/// A shell that says a word when it has got ready, and then waits for its input to end.
fn ready(script: &str, leave_open: &[&OwnedFd]) -> Child {
    // What is left open for one shell is not for the one of a test that runs beside.
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    for descriptor in leave_open {
        rustix::io::fcntl_setfd(descriptor, FdFlags::empty()).unwrap();
    }
    let child = Command::new("sh")
        .args(["-c", &format!("{script} echo ready; read nothing")])
        .stdin(Standard::piped())
        .stdout(Standard::piped())
        .stderr(Standard::null())
        .spawn();
    for descriptor in leave_open {
        rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC).unwrap();
    }
    drop(one);
    let mut child = child.unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Lets such a shell go.
fn finish(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn pipes(process: &mut Managed) -> (PipeWriter, BufReader<PipeReader>) {
    match process.take_attached() {
        Some(Attached::Pipes {
            stdin: Some(stdin),
            stdout: Some(stdout),
            ..
        }) => (stdin, BufReader::new(stdout)),
        other => panic!("{other:?}"),
    }
}
