//! What a process writes, copied until its end, and then what it has left.
//!
//! Its end of a pipe closes with it, unless somebody else holds it, such as a child in the
//! background: then no end comes to be read. So after the process has ended the rest is what was
//! in the pipe by then, which is copied however slowly it is taken here, and what comes of the
//! others within a while.

use std::{
    io::{self, PipeReader, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionread},
};

/// As much as a pipe has.
const BUFFER: usize = 1 << 16;

/// How much may be left when the process has ended.
#[derive(Debug, Clone, Copy)]
pub enum Rest {
    /// Of a pipe: what is in it then.
    Pipe,
    /// Of a terminal: all until it is empty. The kernel hangs it up, for whoever else has it too,
    /// and does not tell how much is in it.
    Terminal,
}

/// Copies until the end of `from`; or, once the other end of `ended` is closed, until the `rest`
/// is copied and nothing else has come for `patience` since.
pub fn drain(
    mut from: impl Read + AsFd,
    mut to: impl Write,
    ended: &PipeReader,
    rest: Rest,
    patience: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while !first_is_closed([ended.as_fd(), from.as_fd()])? {
        if copy(&mut from, &mut to, &mut buffer)? == 0 {
            return Ok(());
        }
    }
    let deadline = Instant::now() + patience;
    let mut owed = match rest {
        Rest::Pipe => ioctl_fionread(&from)?,
        Rest::Terminal => u64::MAX,
    };
    loop {
        let patience = deadline.saturating_duration_since(Instant::now());
        let over = patience.is_zero() && owed == 0;
        if over || !is_readable(from.as_fd(), patience)? {
            return Ok(());
        }
        match copy(&mut from, &mut to, &mut buffer)? {
            0 => return Ok(()),
            copied => owed = owed.saturating_sub(copied),
        }
    }
}

/// Copies what is there. 0 is the end.
fn copy(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> io::Result<u64> {
    let length = match from.read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return copy(from, to, buffer),
        read => read?,
    };
    to.write_all(&buffer[..length])?;
    Ok(u64::try_from(length).unwrap_or(u64::MAX))
}

/// Waits for either, and says whether it was the first.
fn first_is_closed([first, second]: [BorrowedFd<'_>; 2]) -> io::Result<bool> {
    let mut polled = [
        PollFd::from_borrowed_fd(first, PollFlags::IN),
        PollFd::from_borrowed_fd(second, PollFlags::IN),
    ];
    wait(&mut polled, None)?;
    Ok(!polled[0].revents().is_empty())
}

fn is_readable(descriptor: BorrowedFd<'_>, patience: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let patience = Timespec::try_from(patience).map_err(|_| Errno::INVAL)?;
    wait(&mut polled, Some(&patience))
}

/// Whether there is something, or an end.
fn wait(polled: &mut [PollFd<'_>], patience: Option<&Timespec>) -> io::Result<bool> {
    let ready = rustix::io::retry_on_intr(|| poll(polled, patience))?;
    Ok(ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe and what tells of an end that has been.
    fn pipe() -> (PipeReader, io::PipeWriter, PipeReader) {
        let (from, writer) = io::pipe().unwrap();
        let (ended, _) = io::pipe().unwrap();
        (from, writer, ended)
    }

    #[test]
    fn what_was_written_before_the_end_is_copied_though_no_time_is_left() {
        let (from, mut writer, ended) = pipe();
        let written = vec![b'x'; BUFFER];
        writer.write_all(&written).unwrap();
        let mut to = Vec::new();
        drain(from, &mut to, &ended, Rest::Pipe, Duration::ZERO).unwrap();
        assert!(to == written);
    }

    #[test]
    fn somebody_who_writes_on_and_on_ends_nothing_but_his_time() {
        /// Writes to the other end whatever comes here.
        struct Echo(io::PipeWriter);
        impl Write for Echo {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (from, mut writer, ended) = pipe();
        writer.write_all(b"again").unwrap();
        drain(from, Echo(writer), &ended, Rest::Pipe, Duration::ZERO).unwrap();
    }

    #[test]
    fn an_end_is_the_end_whether_or_not_the_process_has_ended() {
        let (from, mut writer, ended) = pipe();
        writer.write_all(b"last").unwrap();
        drop(writer);
        let mut to = Vec::new();
        drain(
            &from,
            &mut to,
            &ended,
            Rest::Pipe,
            Duration::from_secs(1 << 20),
        )
        .unwrap();
        assert_eq!(to, b"last");
        let (goes_on, _running) = io::pipe().unwrap();
        drain(from, &mut to, &goes_on, Rest::Pipe, Duration::ZERO).unwrap();
        assert_eq!(to, b"last");
    }
}
