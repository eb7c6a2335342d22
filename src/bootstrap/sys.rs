//! The system call that has no safe wrapper.

use std::{fs, io, os::fd::RawFd};

use nix::libc;

/// Lets every descriptor but the standard streams end at the next exec, those included that
/// were inherited from whoever started us: a shim lives for long, and would keep a stranger's
/// lock or pipe as long.
///
/// # Errors
/// If the descriptors cannot be listed.
pub fn close_on_exec() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if fd > libc::STDERR_FILENO {
            set_close_on_exec(fd);
        }
    }
    Ok(())
}

/// One that was closed meanwhile, as the listing itself is, needs no mark.
fn set_close_on_exec(fd: RawFd) {
    // SAFETY: no pointers. The call changes a flag of a descriptor of ours, and whatever owns it
    // relies on its staying open now, not on its staying open after an exec.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}
