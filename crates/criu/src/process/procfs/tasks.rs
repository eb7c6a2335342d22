//! `/proc/PID/task`: the threads of a process, and the children of each.

use std::{fs, path::PathBuf};

use rustix::process::Pid;

/// The children of `parent`, of all its threads. None if it has ended.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for thread in threads(parent) {
        let file = directory(parent).join(thread.as_raw_pid().to_string());
        // A thread may have ended.
        let line = fs::read_to_string(file.join("children")).unwrap_or_default();
        children.extend(line.split_whitespace().filter_map(number));
    }
    children
}

/// The threads of `process`. None if it has ended.
pub(crate) fn threads(process: Pid) -> Vec<Pid> {
    let entries = fs::read_dir(directory(process)).into_iter().flatten();
    entries
        .filter_map(|thread| number(thread.ok()?.file_name().to_str()?))
        .collect()
}

fn directory(process: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{}/task", process.as_raw_pid()))
}

fn number(word: &str) -> Option<Pid> {
    Pid::from_raw(word.parse().ok()?)
}
