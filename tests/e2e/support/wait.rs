//! Waiting for what other processes do, where nothing announces it.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything that should happen at once may take on a loaded machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks until there is an answer, and panics with `what` when there is none in time.
pub fn until<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < end,
            "waited {within:?} in vain until {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks until the answer is `wanted`, and panics with the last one when it is not in time.
pub fn until_is<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, ask: impl Fn() -> T) {
    let end = Instant::now() + SOON;
    while ask() != *wanted {
        if Instant::now() > end {
            assert_eq!(ask(), *wanted, "waited {SOON:?} in vain: {what}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the process of this pidfd has ended.
pub fn for_end(pidfd: impl std::os::fd::AsFd, what: &str) {
    let timeout = Timespec::try_from(SOON).expect("some seconds");
    let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
    let count = poll(&mut ended, Some(&timeout)).expect("poll");
    assert!(count == 1, "waited {SOON:?} in vain until {what} ends");
}
