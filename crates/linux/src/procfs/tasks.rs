//! `/proc/PID/task`: the threads of a process, and the children of each.

use std::{fs, io, path::PathBuf};

use rustix::process::Pid;

use super::is_gone;

/// The children of `parent`, of all its threads. None if it has ended.
pub fn children(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for thread in threads(parent)? {
        let file = directory(parent).join(thread.as_raw_pid().to_string());
        // A thread may have ended.
        let line = unless_gone(fs::read_to_string(file.join("children")))?;
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
    let status = fs::read_to_string(format!("/proc/{}/status", thread.as_raw_pid())).ok()?;
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
    PathBuf::from(format!("/proc/{}/task", process.as_raw_pid()))
}

fn number(word: &str) -> Option<Pid> {
    Pid::from_raw(word.parse().ok()?)
}
