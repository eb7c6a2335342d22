//! The unsafe code of the exerciser: forks, shared memory, and what no crate wraps.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
    sync::atomic::AtomicU64,
};

/// The process that a fork continues in.
pub enum Fork {
    /// The one that asked.
    Parent,
    /// The new one.
    Child,
}

/// Forks. It has to be asked for before there is a second thread.
pub fn fork() -> Fork {
    // SAFETY: the process has one thread, so that the child finds no lock held.
    match unsafe { libc::fork() } {
        -1 => panic!("cannot fork: {}", io::Error::last_os_error()),
        0 => Fork::Child,
        _ => Fork::Parent,
    }
}

/// So many numbers, zero at first, that this process shares with those that it forks.
pub fn shared(numbers: usize) -> &'static [AtomicU64] {
    // SAFETY: a new mapping, at a place that the kernel chooses.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            numbers * size_of::<AtomicU64>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    // SAFETY: zeroed, as long as is said, aligned to a page, never unmapped, and used by none but
    // atomic operations, here and in the other processes.
    unsafe { std::slice::from_raw_parts(address.cast(), numbers) }
}

/// An instance of io_uring.
pub fn ring() -> io::Result<OwnedFd> {
    // `struct io_uring_params` has 120 bytes, zero where nothing is asked for.
    let mut params = [0_u64; 15];
    // SAFETY: the kernel writes into `params`, which is as large as it takes it to be.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, params.as_mut_ptr()) };
    let Ok(ring @ 0..) = i32::try_from(ring) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(ring) })
}
