//! `/proc/PID/task`: the threads of a process, and the children of each.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, getpid};

use super::is_gone;
use crate::file;

/// More than the numbers of as many children as there can be.
const CHILDREN: u64 = 32 << 20;

/// A process may be in 65,536 groups of ten digits.
const STATUS: u64 = 1 << 20;

/// The children of `parent`, of all its threads. None if it has ended.
pub fn children(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in threads(parent)? {
        let file = directory(parent).join(thread.as_raw_pid().to_string());
        // A thread may have ended.
        let line = unless_gone(file::read(&file.join("children"), CHILDREN))?;
        let line = String::from_utf8_lossy(&line);
        children.extend(line.split_whitespace().filter_map(number));
    }
    Ok(children)
}

/// The threads of `process`. None if it has ended.
pub fn threads(process: Pid) -> io::Result<Vec<Pid>> {
    let mut threads = Vec::new();
    let entries = unless_gone(fs::read_dir(directory(process)).map(Some))?;
    for entry in entries.into_iter().flatten() {
        let Some(entry) = unless_gone(entry.map(Some))? else {
            break;
        };
        threads.extend(entry.file_name().to_str().and_then(number));
    }
    Ok(threads)
}

/// The process that a thread is of. None if it has ended.
pub fn process_of(thread: Pid) -> Option<Pid> {
    let path = format!("/proc/{}/status", thread.as_raw_pid());
    let status = file::read(Path::new(&path), STATUS).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    number(line.trim())
}

fn unless_gone<T: Default>(read: io::Result<T>) -> io::Result<T> {
    read.or_else(|error| match is_gone(&error) {
        true => Ok(T::default()),
        false => Err(error),
    })
}

fn directory(process: Pid) -> PathBuf {
    // Where `/proc` is another PID namespace's, our own number is a stranger's there.
    if process == getpid() {
        return PathBuf::from("/proc/self/task");
    }
    PathBuf::from(format!("/proc/{}/task", process.as_raw_pid()))
}

fn number(word: &str) -> Option<Pid> {
    Pid::from_raw(word.parse().ok()?)
}
