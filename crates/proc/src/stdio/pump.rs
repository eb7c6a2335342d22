//! Moves bytes from one pipe or FIFO to another until the first has met its end.
//!
//! By splice(2), which hands over the pages, so that no byte passes through our memory. Where
//! splice refuses (EINVAL), by read and write through a buffer that is made only then. Both ends
//! are non-blocking; the pump sleeps until the end that is not ready becomes so.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionread, read, write},
    pipe::{SpliceFlags, splice},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::coop::consume_budget,
};

use stasis_linux::sys;

use crate::error::{Error, Result};

/// How much one splice moves at most: what a pipe holds.
const SPLICE_SIZE: usize = 64 * 1024;

/// The buffer of the fallback.
const COPY_SIZE: usize = 16 * 1024;

/// One direction of one stream.
#[derive(Debug)]
pub(super) struct Pump {
    from: AsyncFd<Arc<OwnedFd>>,
    to: AsyncFd<Arc<OwnedFd>>,
    /// Whether bytes may be in the buffer of the fallback.
    in_hand: Arc<AtomicBool>,
}

/// What a pump has still to move. It keeps nothing open.
#[derive(Debug)]
pub(super) struct Rest {
    from: Weak<OwnedFd>,
    in_hand: Arc<AtomicBool>,
}

impl Rest {
    /// Whether everything that was written so far is moved, or the pump has ended.
    pub(super) fn is_empty(&self) -> bool {
        let Some(from) = self.from.upgrade() else {
            return true;
        };
        // In this order: bytes go from the pipe into the hand.
        ioctl_fionread(&from).unwrap_or_default() == 0 && !self.in_hand.load(Ordering::SeqCst)
    }
}

impl Pump {
    /// A pump between two non-blocking ends.
    pub(super) fn new(from: OwnedFd, to: OwnedFd) -> Result<Self> {
        let register = |fd, interest| {
            sys::watch_shared(Arc::new(fd), interest).map_err(Error::system("watch a stream"))
        };
        Ok(Self {
            from: register(from, Interest::READABLE)?,
            to: register(to, Interest::WRITABLE)?,
            in_hand: Arc::default(),
        })
    }

    /// A look at what it has still to move.
    pub(super) fn rest(&self) -> Rest {
        Rest {
            from: Arc::downgrade(self.from.get_ref()),
            in_hand: Arc::clone(&self.in_hand),
        }
    }

    /// Moves everything. Returns when the source has met its end or the sink has no reader.
    pub(super) async fn run(self) -> io::Result<()> {
        let end = match self.splice().await {
            Err(Errno::INVAL) => self.copy().await,
            end => end,
        };
        match end {
            // Nobody is left to take it.
            Ok(()) | Err(Errno::PIPE) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves everything by splice.
    async fn splice(&self) -> Result<(), Errno> {
        loop {
            let mut from = self.from.readable().await.map_err(|error| errno(&error))?;
            let mut to = self.to.writable().await.map_err(|error| errno(&error))?;
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            match splice(&self.from, None, &self.to, None, SPLICE_SIZE, flags) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // Which of them it was, splice does not tell. To mark the wrong one as not
                    // ready would be to wait for an edge that never comes.
                    let (readable, writable) = self.ready()?;
                    if !readable {
                        from.clear_ready();
                    }
                    if !writable {
                        to.clear_ready();
                    }
                }
                Err(error) => return Err(error),
            }
            // With both ends busy nothing above ever waits, and the thread is not ours alone.
            consume_budget().await;
        }
    }

    /// Whether the source has something to give or to say, and whether the sink has room.
    fn ready(&self) -> Result<(bool, bool), Errno> {
        let mut fds = [
            PollFd::new(&self.from, PollFlags::IN),
            PollFd::new(&self.to, PollFlags::OUT),
        ];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )?;
        Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
    }

    /// Moves everything through a buffer.
    pub(super) async fn copy(&self) -> Result<(), Errno> {
        let mut buffer = vec![0; COPY_SIZE];
        loop {
            let read = |fd: &Arc<OwnedFd>| {
                self.in_hand.store(true, Ordering::SeqCst);
                let count = read(fd, &mut buffer[..]);
                self.in_hand.store(count.is_ok(), Ordering::SeqCst);
                Ok(count?)
            };
            let count = self
                .from
                .async_io(Interest::READABLE, read)
                .await
                .map_err(|error| errno(&error))?;
            let mut rest = &buffer[..count];
            if rest.is_empty() {
                return Ok(());
            }
            while !rest.is_empty() {
                let write = |fd: &Arc<OwnedFd>| Ok(write(fd, rest)?);
                let count = self
                    .to
                    .async_io(Interest::WRITABLE, write)
                    .await
                    .map_err(|error| errno(&error))?;
                rest = &rest[count..];
            }
            self.in_hand.store(false, Ordering::SeqCst);
            consume_budget().await;
        }
    }
}

/// The system's error beneath one that came through the reactor; its own, at a shutdown of the
/// runtime, has none.
fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::CANCELED)
}
