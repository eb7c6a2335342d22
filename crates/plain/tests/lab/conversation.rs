//! A program that repeats each line that it is told, on whatever its standard streams are.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stasis_plain::{Attached, Liveness, Managed};

use crate::victim::{self, PATIENCE};

/// Our end of such a program's streams.
pub struct Conversation {
    to: File,
    from: File,
    /// A terminal repeats what is typed, before the program does.
    echoes: usize,
}

impl Conversation {
    pub fn over(attached: Option<Attached>) -> Self {
        match attached {
            Some(Attached::Terminal(master)) => Self::on(master),
            Some(Attached::Pipes {
                stdin: Some(stdin),
                stdout: Some(stdout),
                ..
            }) => Self {
                to: OwnedFd::from(stdin).into(),
                from: OwnedFd::from(stdout).into(),
                echoes: 1,
            },
            other => panic!("{other:?}"),
        }
    }

    /// On a terminal of which this is the master.
    pub fn on(master: OwnedFd) -> Self {
        let to = File::from(master);
        Self {
            from: to.try_clone().unwrap(),
            to,
            echoes: 2,
        }
    }

    /// Over a socket.
    pub fn with(stream: UnixStream) -> Self {
        let to = File::from(OwnedFd::from(stream));
        Self {
            from: to.try_clone().unwrap(),
            to,
            echoes: 1,
        }
    }

    /// Says `line`.
    pub fn says(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    /// Says `line`, and awaits it.
    pub fn goes_on(&mut self, line: &str) {
        self.says(line);
        let mut heard = String::new();
        while heard.lines().filter(|heard| *heard == line).count() < self.echoes {
            let mut bytes = [0; 256];
            assert!(readable(&self.from), "{line:?} came back as {heard:?}");
            let length = self.from.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "{line:?} came back as {heard:?}");
            heard += std::str::from_utf8(&bytes[..length]).unwrap();
        }
    }
}

/// Waits until there is something to be read.
fn readable(file: &File) -> bool {
    let timeout = Timespec::try_from(PATIENCE).unwrap();
    poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// A process that goes with its test, and all that descend from it.
pub struct Bound(pub Managed);

impl Bound {
    fn has_ended(&self) -> bool {
        // Asking reaps it.
        matches!(self.0.state(), Ok(Liveness::Exited(_)))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // What is restored has its number.
        if self.has_ended() {
            return;
        }
        for pid in victim::tree(self.0.pid()) {
            victim::kill(pid);
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
