//! The processes of a cgroup and of those below it.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
};

use super::error::CgroupError;
use crate::{Pidfd, file, procfs::process_of, sys};

/// A number and a line end for each process of the largest machine, `PID_MAX_LIMIT`.
const LIST: u64 = 8 << 22;

/// How many processes are held at once, out of the descriptors that this process may have.
const HELD: usize = 64;

/// The processes of a cgroup and of those below it, which its processes may have made.
///
/// # Errors
/// If it cannot be read. One below that goes meanwhile has nobody in it.
pub fn processes(directory: &Path) -> Result<Vec<Pid>, CgroupError> {
    processes_by(directory, &|path| file::read(path, LIST))
}

/// Sends SIGKILL to every process in a cgroup and below it. One that is forked meanwhile may be
/// missed where it is not frozen.
///
/// # Errors
/// If it cannot be read, or a process cannot be signalled.
pub fn kill(directory: &Path) -> Result<(), CgroupError> {
    let killing = || CgroupError::io("kill a process of", directory);
    for some in processes(directory)?.chunks(HELD) {
        let mut held = Vec::new();
        for &pid in some {
            match Pidfd::take(pid) {
                Ok(pidfd) => held.push(pidfd),
                // The latter two: the number is a thread's by now.
                Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(killing()(errno.into())),
            }
        }
        // Whoever has got the number of one that went before it was held is not listed any more.
        let still = match processes(directory) {
            // It went with the last of them.
            Err(error) if is_gone(&error.source) => return Ok(()),
            listed => listed?,
        };
        for pidfd in held.iter().filter(|one| still.contains(&one.pid())) {
            match sys::send_signal(pidfd.as_fd(), Signal::KILL.as_raw()) {
                Err(error) if Errno::from_io_error(&error) != Some(Errno::SRCH) => {
                    return Err(killing()(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

pub(super) fn processes_by(
    directory: &Path,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Vec<Pid>, CgroupError> {
    let mut pids = Vec::new();
    let mut cgroups = vec![directory.to_owned()];
    while let Some(cgroup) = cgroups.pop() {
        match members(&cgroup, read) {
            Ok((own, below)) => {
                pids.extend(own);
                cgroups.extend(below);
            }
            Err(error) if cgroup != directory && is_gone(&error.source) => {}
            Err(error) => return Err(error),
        }
    }
    // A process is in a cgroup once, and so are its threads in several.
    pids.sort_unstable_by_key(|pid| pid.as_raw_pid());
    pids.dedup();
    Ok(pids)
}

/// The processes of a cgroup, and the cgroups right below it.
fn members(
    cgroup: &Path,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<(Vec<Pid>, Vec<PathBuf>), CgroupError> {
    let entries = fs::read_dir(cgroup).map_err(CgroupError::io("list", cgroup))?;
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let below = entries.flatten().filter(is_directory);
    let below = below.map(|entry| entry.path()).collect();
    let list = |name: &str| {
        let path = cgroup.join(name);
        read(&path).map_err(CgroupError::io("read", path))
    };
    let pids = match list("cgroup.procs") {
        // A threaded cgroup of version 2 tells its threads only (cgroups(7), "Thread mode").
        Err(error) if Errno::from_io_error(&error.source) == Some(Errno::OPNOTSUPP) => {
            let threads = numbers(&list("cgroup.threads")?);
            threads.into_iter().filter_map(process_of).collect()
        }
        listed => numbers(&listed?),
    };
    Ok((pids, below))
}

fn numbers(list: &[u8]) -> Vec<Pid> {
    let list = String::from_utf8_lossy(list);
    // 0 is a process of a PID namespace that we do not see into, and to kill(2) it is our own
    // process group.
    let seen = list.lines().filter_map(|line| line.parse().ok());
    seen.filter(|&pid| pid > 0)
        .filter_map(Pid::from_raw)
        .collect()
}

/// Whether a cgroup was removed before or after its file was opened.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NODEV)
    )
}
