//! Processes, each held by a pidfd: what is sent to one reaches no other that has its number by
//! then. And the walk down from some to all that descend from them.

use std::{
    collections::VecDeque,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions},
};

use crate::{
    procfs::{self, Entry},
    sys,
};

/// Deeper and wider than any tree of processes.
const MAX_PROCESSES: usize = 1 << 16;

/// More descriptors than are looked at in one process: the kernel's own limit, fs.nr_open.
const MAX_DESCRIPTORS: usize = 1 << 20;

/// How often it is looked whether a process has been reaped, which no event tells before
/// Linux 6.9.
const LOOK: Duration = Duration::from_millis(1);

/// How long the number of a process that was reaped may stay taken: until whoever reaps it has gone
/// on ([`sys::is_taken`]). Longer it is that of a session or a group, or of another process.
pub const RELEASE: Duration = Duration::from_secs(1);

/// A process, held.
#[derive(Debug)]
pub struct Pidfd {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Pidfd {
    /// Takes hold of the process that has this number now.
    pub fn take(pid: Pid) -> rustix::io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, pidfd })
    }

    /// Its number, which may be another's once it has been reaped.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What `/proc` has of it, unless it has been reaped.
    pub fn entry(&self) -> Option<Entry> {
        let entry = Entry::open(self.pid.as_raw_pid().unsigned_abs()).ok()?;
        // It still has its number, and so had it when that was looked up.
        (!self.is_reaped()).then_some(entry)
    }

    /// Its children. None if it has ended.
    pub fn children(&self) -> io::Result<Vec<Pid>> {
        let children = procfs::children(self.pid)?;
        // As in `entry`: otherwise they may be another's.
        if self.is_reaped() {
            return Ok(Vec::new());
        }
        Ok(children)
    }

    /// Sends it a signal, if it has not ended.
    pub fn send(&self, signal: Signal) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }

    /// Has it ended, be it as a zombie?
    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// Waits for its end, for so long at most. Whether it has ended.
    pub fn ends_within(&self, time: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut poll = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut poll, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until `deadline` for it to end, to be reaped and to leave its number to others, and
    /// reaps it if it is ours. Whether it is gone.
    pub fn is_gone(&self, deadline: Instant) -> bool {
        if !self.ends_within(deadline.saturating_duration_since(Instant::now())) {
            return false;
        }
        // Another's child is reaped by its own parent.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        while !self.is_reaped() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(LOOK);
        }
        let released = deadline.min(Instant::now() + RELEASE);
        while sys::is_taken(self.pid).unwrap_or_default() && Instant::now() < released {
            thread::sleep(LOOK);
        }
        true
    }

    /// Its sockets, by their descriptors there.
    pub fn sockets(&self) -> impl Iterator<Item = (i32, OwnedFd)> {
        fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_pid()))
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .take(MAX_DESCRIPTORS)
            .filter(|entry| {
                fs::read_link(entry.path()).is_ok_and(|target| {
                    let target = target.as_os_str();
                    target.as_encoded_bytes().starts_with(b"socket:")
                })
            })
            .filter_map(|entry| {
                let descriptor = entry.file_name().to_str()?.parse().ok()?;
                let flags = PidfdGetfdFlags::empty();
                let socket = rustix::process::pidfd_getfd(&self.pidfd, descriptor, flags);
                Some((descriptor, socket.ok()?))
            })
    }

    /// Has it been reaped, so that its number may be another's? One that has merely ended takes
    /// signals still.
    pub fn is_reaped(&self) -> bool {
        let asked = sys::send_signal(self.pidfd.as_fd(), 0);
        asked.is_err_and(|error| error.raw_os_error() == Some(Errno::SRCH.raw_os_error()))
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl From<Pidfd> for OwnedFd {
    fn from(pidfd: Pidfd) -> Self {
        pidfd.pidfd
    }
}

/// Walks down from `roots`, parents before their children. `visit` returns the children to go on
/// to, of the process that it has taken hold of.
pub fn descend(roots: impl IntoIterator<Item = Pid>, mut visit: impl FnMut(Pid) -> Vec<Pid>) {
    let mut queue: VecDeque<Pid> = roots.into_iter().collect();
    for _ in 0..MAX_PROCESSES {
        let Some(pid) = queue.pop_front() else { break };
        queue.extend(visit(pid));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        net::TcpListener,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_child_that_has_ended_is_reaped_and_gone() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let held = Pidfd::take(Pid::from_child(&child)).unwrap();
        assert!(!held.has_ended());
        assert!(!held.is_gone(Instant::now()));
        assert_eq!(held.entry().unwrap().pid(), child.id());
        held.send(Signal::KILL);
        assert!(held.ends_within(Duration::from_secs(60)));
        // A zombie is in /proc still, and has its number.
        assert!(held.entry().is_some());
        assert!(sys::is_taken(held.pid).unwrap());
        assert!(held.is_gone(Instant::now() + Duration::from_secs(60)));
        assert!(held.entry().is_none());
        assert!(held.is_reaped());
        assert!(!sys::is_taken(held.pid).unwrap());
        assert!(child.try_wait().is_err(), "somebody else has reaped it");
    }

    #[test]
    fn sockets_are_found_among_the_descriptors_and_are_the_same_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = Pidfd::take(rustix::process::getpid()).unwrap();
        let own = listener.local_addr().unwrap();
        let found = held.sockets().any(|(_, socket)| {
            let name = rustix::net::getsockname(&socket).ok();
            name.and_then(|name| name.try_into().ok()) == Some(own)
        });
        assert!(found);
    }

    #[test]
    fn who_was_reaped_has_no_children_whoever_has_its_number_by_then() {
        let mut gone = Command::new("true").spawn().unwrap();
        let reaped = Pidfd::take(Pid::from_child(&gone)).unwrap();
        gone.wait().unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let parent = Pidfd::take(rustix::process::getpid()).unwrap();
        assert!(
            parent
                .children()
                .unwrap()
                .contains(&Pid::from_child(&child))
        );

        let reused = Pidfd {
            pid: parent.pid,
            pidfd: reaped.pidfd,
        };
        assert_eq!(reused.children().unwrap(), []);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_walk_goes_down_where_it_is_told_to() {
        let script = "sh -c 'sleep 600 & echo; wait' & wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();

        let root = Pid::from_child(&shell);
        let walk = |depth: usize| {
            let mut seen = Vec::new();
            descend([root], |pid| {
                seen.push(pid);
                match seen.len() < depth {
                    true => Pidfd::take(pid).unwrap().children().unwrap(),
                    false => Vec::new(),
                }
            });
            seen
        };
        let all = walk(usize::MAX);
        assert_eq!(all.len(), 3);
        for depth in 1..=3 {
            assert_eq!(walk(depth), all[..depth]);
        }
        for pid in all {
            Pidfd::take(pid).unwrap().send(Signal::KILL);
        }
        shell.wait().unwrap();
    }
}
