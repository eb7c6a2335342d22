//! A FIFO that takes the output of a process, and that is read when the test says so.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat, open},
};

use super::wait::SOON;

/// The FIFO and its reader.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    reader: File,
}

impl Output {
    /// A new FIFO in a directory.
    pub fn make(directory: &Path, name: &str) -> Self {
        let path = directory.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a new FIFO");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = open(&path, flags, Mode::empty())
            .expect("our own FIFO")
            .into();
        Self { path, reader }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until something was written to it, and leaves it there.
    pub fn await_something(&self) {
        let timeout = Timespec::try_from(SOON).expect("some seconds");
        let mut readable = [PollFd::new(&self.reader, PollFlags::IN)];
        assert_eq!(
            poll(&mut readable, Some(&timeout)),
            Ok(1),
            "nothing is written"
        );
    }

    /// Reads it to its end.
    pub fn read(mut self) -> Vec<u8> {
        fcntl_setfl(&self.reader, OFlags::empty()).expect("a file of our own");
        let mut bytes = Vec::new();
        self.reader
            .read_to_end(&mut bytes)
            .expect("a FIFO can be read");
        bytes
    }
}
