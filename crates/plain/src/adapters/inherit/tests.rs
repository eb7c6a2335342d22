//! Which stream becomes what, and what is refused.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
};

use super::*;
use crate::{Address, Choices, ConnectionState};

fn file(fd: u64, path: &str, mode: &str) -> FileState {
    FileState {
        path: path.to_owned(),
        fd,
        mode: mode.to_owned(),
        mount_id: 5,
        inode: 100 + fd,
        ..FileState::default()
    }
}

fn tree(files: Vec<FileState>, external: &[&str]) -> ProcessState {
    ProcessState {
        pid: 7,
        open_files: files,
        choices: Some(Choices {
            external: external.iter().map(ToString::to_string).collect(),
            ..Choices::default()
        }),
        ..ProcessState::default()
    }
}

fn pipes() -> ProcessState {
    let files = vec![
        file(0, "pipe:[1]", "00"),
        file(1, "pipe:[2]", "01"),
        file(2, "pipe:[2]", "01"),
    ];
    tree(files, &[])
}

fn keys(inheritance: &Inheritance) -> Vec<&str> {
    inheritance.keys().collect()
}

#[test]
fn pipes_to_outside_become_null_where_nobody_attaches() {
    let inheritance = Inheritance::new(&pipes(), RestoreStdio::Keep).unwrap();
    assert_eq!(keys(&inheritance), ["pipe:[1]", "pipe:[2]"]);
}

#[test]
fn a_pipe_within_the_tree_is_left_alone() {
    let mut state = pipes();
    state.children = vec![ProcessState {
        pid: 8,
        open_files: vec![file(5, "pipe:[1]", "01"), file(0, "pipe:[2]", "00")],
        ..ProcessState::default()
    }];
    for stdio in [RestoreStdio::Keep, RestoreStdio::Attach] {
        let inheritance = Inheritance::new(&state, stdio).unwrap();
        assert!(keys(&inheritance).is_empty());
    }
}

#[test]
fn two_streams_of_one_pipe_come_out_of_one_pipe() {
    let mut inheritance = Inheritance::new(&pipes(), RestoreStdio::Attach).unwrap();
    let attached = inheritance.take_attached().unwrap();
    let Attached::Pipes {
        stdin: Some(_),
        stdout: Some(mut stdout),
        stderr: None,
    } = attached
    else {
        panic!("{attached:?}");
    };
    let (_, writer) = inheritance
        .given
        .iter()
        .find(|(key, _)| key == "pipe:[2]")
        .unwrap();
    let mut writer = File::from(
        std::os::fd::AsFd::as_fd(writer)
            .try_clone_to_owned()
            .unwrap(),
    );
    writer.write_all(b"x").unwrap();
    drop((writer, inheritance));
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
}

#[test]
fn output_that_was_a_file_goes_to_the_new_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("new");
    fs::write(&log, "before").unwrap();
    let files = vec![
        file(0, "/dev/null", "00"),
        file(1, "/old", "02001"),
        file(2, "/old", "02001"),
    ];
    let inheritance = Inheritance::new(&tree(files, &[]), RestoreStdio::Log(log.clone())).unwrap();
    assert_eq!(keys(&inheritance), ["old"]);
    assert_eq!(fs::read_to_string(log).unwrap(), "before");
}

#[test]
fn a_log_that_stays_is_opened_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let files = vec![file(1, log.to_str().unwrap(), "02001")];
    let inheritance = Inheritance::new(&tree(files, &[]), RestoreStdio::Log(log)).unwrap();
    assert!(keys(&inheritance).is_empty());
}

#[test]
fn a_pipe_becomes_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let log = RestoreStdio::Log(directory.path().join("log"));
    let error = Inheritance::new(&pipes(), log).unwrap_err();
    assert!(
        matches!(error, ProcessError::Stdio { fd: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_file_that_is_open_for_more_is_not_replaced() {
    let files = vec![file(0, "/dev/null", "02"), file(1, "/dev/null", "02")];
    let error = Inheritance::new(&tree(files, &[]), RestoreStdio::Attach).unwrap_err();
    assert!(
        matches!(error, ProcessError::Stdio { fd: 0, .. }),
        "{error}"
    );
    let files = vec![file(1, "/data", "01"), file(9, "/data", "00")];
    let error = Inheritance::new(&tree(files, &[]), RestoreStdio::Attach).unwrap_err();
    assert!(
        matches!(error, ProcessError::Stdio { fd: 1, .. }),
        "{error}"
    );
}

#[test]
fn an_external_terminal_needs_one_in_its_place() {
    let terminal = |fd| FileState {
        is_tty: true,
        rdev: 0x8803,
        dev: 0x18,
        ..file(fd, "/dev/pts/3", "02")
    };
    let state = tree(vec![terminal(0), terminal(1)], &["tty[8803:18]"]);
    let error = Inheritance::new(&state, RestoreStdio::Keep).unwrap_err();
    assert!(matches!(error, ProcessError::Terminal { .. }), "{error}");
    let mut inheritance = Inheritance::new(&state, RestoreStdio::Attach).unwrap();
    assert_eq!(keys(&inheritance), ["tty[8803:18]"]);
    assert!(matches!(
        inheritance.take_attached(),
        Some(Attached::Terminal(_))
    ));
    let null = || Descriptor::from(File::open("/dev/null").unwrap());
    let given = RestoreStdio::Given([null(), null(), null()]);
    let error = Inheritance::new(&state, given).unwrap_err();
    assert!(
        matches!(error, ProcessError::Stdio { fd: 0, .. }),
        "{error}"
    );
}

#[test]
fn a_terminal_that_is_not_external_is_left_to_criu() {
    let terminal = FileState {
        is_tty: true,
        ..file(0, "/dev/pts/3", "02")
    };
    let inheritance = Inheritance::new(&tree(vec![terminal], &[]), RestoreStdio::Attach).unwrap();
    assert!(keys(&inheritance).is_empty());
}

#[test]
fn external_files_are_opened_if_they_are_still_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let stat = rustix::fs::stat(&fifo).unwrap();
    let there = FileState {
        dev: stat.st_dev,
        inode: stat.st_ino,
        ..file(4, fifo.to_str().unwrap(), "00")
    };
    let replaced = FileState {
        inode: stat.st_ino + 1,
        ..there.clone()
    };
    let gone = file(6, "/nowhere/at/all", "00");
    let [first, second, third] = [&there, &replaced, &gone].map(external_file);
    let external = [first.as_str(), second.as_str(), third.as_str()];
    let state = tree(vec![there, replaced, gone], &external);
    let inheritance = Inheritance::new(&state, RestoreStdio::Keep).unwrap();
    assert_eq!(keys(&inheritance), [first.as_str()]);
    let missing: Vec<_> = inheritance.missing().map(|missing| &missing.was).collect();
    assert_eq!(missing, [fifo.as_path(), Path::new("/nowhere/at/all")]);
}

#[test]
fn a_socket_without_another_end_to_connect_to_is_missing_until_it_is_given() {
    let mut state = tree(vec![file(4, "socket:[9]", "02")], &["unix[9]"]);
    let mut inheritance = Inheritance::new(&state, RestoreStdio::Keep).unwrap();
    let missing: Vec<_> = inheritance.missing().cloned().collect();
    assert_eq!(missing[0].key, "socket:[9]");
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    inheritance.inherit("socket:[9]", OwnedFd::from(socket));
    assert_eq!(inheritance.missing().count(), 0);
    assert_eq!(keys(&inheritance), ["socket:[9]"]);
    state.open_connections = vec![ConnectionState {
        fd: 4,
        family: 1,
        remote: Some(Address::default()),
        ..ConnectionState::default()
    }];
    let inheritance = Inheritance::new(&state, RestoreStdio::Keep).unwrap();
    assert_eq!(inheritance.missing().count(), 0);
}

#[test]
fn a_state_of_cedana_is_read_by_its_rules() {
    let mut state = tree(vec![file(4, "/nowhere", ""), file(5, "pipe:[3]", "")], &[]);
    state.choices = None;
    state.sid = 3;
    let choices = Choices::of_cedana(&state);
    assert_eq!(choices.external, ["file[5:68]"]);
    assert!(choices.shell_job && !choices.tcp_established);
}
