//! This process, one that is gone, and the kernel's way to write a path.

use std::process;

use super::*;

#[test]
fn this_process_can_be_read() {
    let entry = Entry::open(process::id()).unwrap();
    let stat = entry.stat().unwrap();
    assert_eq!(stat.pid, process::id());
    assert!(!entry.command_line().unwrap().is_empty());
    assert!(!entry.mounts().unwrap().is_empty());
    assert!(entry.namespace("mnt").unwrap() > 0);
    assert_eq!(
        entry.working_directory().unwrap(),
        std::env::current_dir().unwrap()
    );
    assert!(boot_time().unwrap() > 0);
}

#[test]
fn parent_group_and_session_are_read() {
    // Not of this process: the leader of its session may be in no namespace of ours.
    let mut command = process::Command::new("sleep");
    command.arg("60");
    crate::sys::new_session(&mut command, false);
    let mut child = command.spawn().unwrap();
    let stat = Entry::open(child.id()).and_then(|entry| entry.stat());
    child.kill().unwrap();
    child.wait().unwrap();
    let stat = stat.unwrap();
    assert_eq!(stat.parent, process::id());
    assert_eq!((stat.group, stat.session), (child.id(), child.id()));
}

#[test]
fn a_process_that_was_reaped_is_gone_though_its_directory_is_held() {
    let mut child = process::Command::new("true").spawn().unwrap();
    let entry = Entry::open(child.id()).unwrap();
    child.wait().unwrap();
    let error = entry.stat().unwrap_err();
    assert!(
        matches!(error, Error::Gone { pid } if pid == child.id()),
        "{error}"
    );
    assert!(matches!(Entry::open(child.id()), Err(Error::Gone { .. })));
}

#[test]
fn a_mapping_is_known_by_the_end_of_its_line() {
    let entry = Entry::open(process::id()).unwrap();
    assert!(entry.maps("[stack]").unwrap());
    assert!(!entry.maps("anon_inode:[io_uring]").unwrap());
}
