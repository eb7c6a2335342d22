//! The only unsafe code: what happens in a child between fork and exec, socket options that no crate
//! has, a signal to one thread, what the kernel knows of processes and their numbers, and
//! descriptors in tokio's hands or marked by their numbers.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Watches `descriptor` in the runtime of the caller.
///
/// # Errors
/// If the system refuses.
pub fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` has one number for as long as it lives, and stays open so long.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    watched.map_err(io::Error::from)
}

/// The same for one that is shared, so that its other owners can go on using it.
///
/// # Errors
/// If the system refuses.
pub fn watch_shared(
    descriptor: Arc<OwnedFd>,
    interest: Interest,
) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `OwnedFd` stays open until it is dropped, and it is not before the `AsyncFd` has
    // dropped its share; an `Arc` never swaps what it points to.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    watched.map_err(io::Error::from)
}

/// Lets `command` inherit exactly `inherited`, under the numbers that they have here, and nothing
/// else but its standard streams, whatever this process or a library in it has left open.
///
/// They stay open in this process until `command` is dropped.
pub fn inherit_only(command: &mut Command, inherited: Vec<Arc<OwnedFd>>) {
    let child = move || {
        // SAFETY: it marks descriptors of this process, which is single-threaded since the fork,
        // and closes none before exec.
        let marked = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3_u32,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        if marked == -1 {
            return Err(io::Error::last_os_error());
        }
        for descriptor in &inherited {
            keep_open(descriptor.as_raw_fd())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only; it takes no memory and
    // no lock.
    unsafe { command.pre_exec(child) };
}

/// Has the kernel kill the child with SIGKILL when the thread that starts it ends.
///
/// What outlives whoever started it would go on changing what somebody else is removing.
pub fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let child = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Had the parent died before the call above, no signal would ever come.
        if getppid() == Some(parent) {
            Ok(())
        } else {
            Err(Errno::SRCH.into())
        }
    };
    // SAFETY: the closure makes two system calls on values that it owns; it neither allocates nor
    // takes a lock, so it may run in the child of a process with several threads.
    unsafe { command.pre_exec(child) };
}

/// Lets every descriptor but the standard streams end at the next exec, those included that were
/// inherited from whoever started us: who lives long would keep a stranger's lock or pipe as long.
///
/// # Errors
/// If the descriptors cannot be listed.
pub fn close_on_exec() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|number| *number > libc::STDERR_FILENO) {
            // SAFETY: no pointers. A flag of a descriptor of ours changes, whose owner relies on
            // its staying open now, not after an exec. One that was closed meanwhile, as the
            // listing itself is, needs no mark.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Gives what the allocator keeps for later back to the system, as far as it has a way to.
pub fn trim_heap() {
    // SAFETY: it takes a number, and touches only memory that is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Lets `command` ignore SIGXFSZ, so that a write beyond `RLIMIT_FSIZE` fails with `EFBIG` and
/// the process lives to clean up.
pub fn ignore_file_size_signal(command: &mut Command) {
    let child = || {
        // SAFETY: the disposition is no pointer to a handler.
        match unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } {
            libc::SIG_ERR => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: `signal` is async-signal-safe, and nothing else happens.
    unsafe { command.pre_exec(child) };
}

/// Starts `command` in the network namespace `namespace`.
pub fn enter_network(command: &mut Command, namespace: Arc<OwnedFd>) {
    let child = move || {
        // SAFETY: two numbers; a wrong one is an error.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure makes a system call only.
    unsafe { command.pre_exec(child) };
}

/// Stops `thread` of `process`, if it has not ended.
pub fn stop_thread(process: Pid, thread: Pid) {
    let (process, thread) = (process.as_raw_pid(), thread.as_raw_pid());
    // SAFETY: three numbers; a wrong one is an error.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGSTOP) };
}

fn keep_open(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: a number goes in and a number comes out; a wrong one is EBADF.
    match unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The size of an int, as socket options have it.
const INT: libc::socklen_t = 4;

/// Ends the repair mode of a TCP socket, in which CRIU reads its queues and in which it says
/// nothing to its peer. No window probe is sent (`TCP_REPAIR_OFF_NO_WP`, linux/tcp.h).
pub fn end_tcp_repair(socket: BorrowedFd<'_>) -> io::Result<()> {
    const TCP_REPAIR_OFF_NO_WP: libc::c_int = -1;
    let value = TCP_REPAIR_OFF_NO_WP;
    // SAFETY: the option is an int, `value` is one and lives through the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const value).cast(),
            INT,
        )
    };
    match set {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether `socket` is a TCP socket in repair mode.
pub fn in_tcp_repair(socket: BorrowedFd<'_>) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = INT;
    // SAFETY: the option is an int; `value` is one, `length` says so, and both live through the
    // call.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    got == 0 && value == 1
}

/// Puts `command` into a session of its own. With `terminal`, its standard input becomes the
/// controlling terminal of that session.
pub fn new_session(command: &mut Command, terminal: bool) {
    let child = move || {
        // SAFETY: it takes nothing; it fails only for the leader of a group, which the child of a
        // fork is not.
        if unsafe { libc::setsid() } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the argument is a number: take the terminal from nobody.
        if terminal && unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe { command.pre_exec(child) };
}

/// Gives `command` every signal as a program expects it: none ignored because this process, or
/// the `nohup` that it runs under, ignores it. That none is blocked, std sees to.
pub fn default_signals(command: &mut Command) {
    /// The kernel's own `struct sigaction`, all of it zero: the default, with no flags and an
    /// empty mask, wherever the fields are. No architecture's is longer.
    const DEFAULT: [u64; 4] = [0; 4];
    /// The kernel's set of signals, in bytes.
    const SET: usize = 8;
    let child = || {
        for signal in 1..=SIGNAL_MAX {
            // SAFETY: the action is there and is no handler, and the old one is not asked for.
            // Not by libc, which would leave its own two signals as they are. For SIGKILL and
            // SIGSTOP it fails, and nothing is changed.
            unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    DEFAULT.as_ptr(),
                    std::ptr::null::<u64>(),
                    SET,
                )
            };
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe { command.pre_exec(child) };
}

/// The highest signal number of Linux (signal(7)).
const SIGNAL_MAX: libc::c_int = 64;

/// Sends a signal by its number, real-time signals included, to the process of `pidfd`.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: two numbers, no information to go with the signal, no flags.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    match sent {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Is `number` taken: by a process, reaped or not, by a thread, a group or a session?
///
/// Whoever reaps a process frees its number only after all that goes by processes, as kill(2) and
/// `/proc` do, has forgotten it (`release_task` in kernel/exit.c): until then nothing can be
/// restored with it. An owner of a file's signals may be a number that no process has any more.
pub fn is_taken(number: Pid) -> io::Result<bool> {
    let file = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    // SAFETY: two numbers; the file is nobody else's, and no signal comes of it.
    let owned = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETOWN, number.as_raw_pid()) };
    match owned {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(error),
        },
        _ => Ok(true),
    }
}

/// How long ago something came last over this TCP connection (`TCP_INFO`).
pub fn since_received(socket: BorrowedFd<'_>) -> io::Result<Duration> {
    #[expect(clippy::cast_possible_truncation, reason = "it is some hundred bytes")]
    const SIZE: libc::socklen_t = size_of::<libc::tcp_info>() as libc::socklen_t;
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = SIZE;
    // SAFETY: the kernel is told that it may write as much as `info` has.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if asked == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all of it is numbers, zero where the kernel has written nothing.
    let info = unsafe { info.assume_init() };
    Ok(Duration::from_millis(info.tcpi_last_data_recv.into()))
}

/// What the kernel keeps of a process that was reaped, for those who hold a pidfd of it: its wait
/// status. None while it is not reaped, and always none before Linux 6.15.
///
/// Layout and numbers: linux/pidfd.h, `PIDFD_GET_INFO` and `PIDFD_INFO_EXIT`.
pub fn pidfd_exit(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    /// The first published form of `struct pidfd_info`; its size is part of the request.
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    const SIZE: u32 = 64;
    const _: () = assert!(size_of::<PidfdInfo>() == SIZE as usize);
    // _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)
    const PIDFD_GET_INFO: u32 = (3 << 30) | (SIZE << 16) | 0xff0b;
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the request says how much the kernel may write, which is the size of `info`.
    let asked = unsafe {
        libc::ioctl(
            pidfd.as_raw_fd(),
            PIDFD_GET_INFO as libc::Ioctl,
            &raw mut info,
        )
    };
    match asked {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)),
    }
}
