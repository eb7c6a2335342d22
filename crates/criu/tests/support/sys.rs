//! What the tests have to ask the kernel themselves.

use std::{
    fs, io,
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

/// Waits until nobody has any of these numbers: their processes have ended and been reaped by whoever
/// has to, and the kernel has let go of the numbers, so that they can be restored.
pub fn await_free(pids: &[u32], patience: Duration) {
    let deadline = Instant::now() + patience;
    while pids.iter().any(|pid| is_taken(*pid)) {
        assert!(Instant::now() < deadline, "of {pids:?} some stay");
        // Nobody tells of the end of a process that is not a child.
        thread::sleep(Duration::from_millis(1));
    }
}

/// A number is taken for a moment longer than kill(2) and `/proc` know of its process.
fn is_taken(pid: u32) -> bool {
    let file = fs::File::open("/dev/null").unwrap();
    // SAFETY: two numbers; the file is nobody else's, and no signal comes of it.
    let owned = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, pid.cast_signed()) };
    let error = io::Error::last_os_error();
    assert!(
        owned == 0 || error.raw_os_error() == Some(libc::ESRCH),
        "{error}"
    );
    owned == 0
}
