//! A state as Cedana writes it, as we write it, and what is no state.

use std::{fs, os::unix::fs::PermissionsExt, process};

use super::{super::Tree, *};

const CEDANA: &str = r#"{
  "PID": 4711,
  "Cmdline": "sleep 60",
  "StartTime": 1795272618000,
  "OpenFiles": [
    {
      "Path": "/dev/pts/3",
      "Mode": "0100002",
      "MountID": 26,
      "Inode": 6,
      "IsTTY": true,
      "Dev": 24,
      "Rdev": 34819
    },
    {
      "Path": "/var/log/x",
      "Fd": 1,
      "MountID": 27,
      "Inode": 18446744073709551615
    }
  ],
  "OpenConnections": null,
  "Mounts": [
    {
      "ID": 27,
      "Parent": 1,
      "Major": 254,
      "Root": "/",
      "MountPoint": "/",
      "Options": "rw,relatime",
      "FSType": "ext4",
      "Source": "/dev/vda"
    }
  ],
  "WorkingDir": "/",
  "Status": "sleep",
  "IsRunning": true,
  "Host": {
    "ID": "abc",
    "CPU": {
      "Count": 2
    }
  },
  "UIDs": [
    0,
    0,
    0,
    0
  ],
  "SID": 4000,
  "Children": [
    {
      "PID": 4712,
      "SID": 4000
    }
  ],
  "Novelty": {
    "a": 1
  }
}"#;

#[test]
fn a_state_of_cedana_is_read_and_written_the_same() {
    let state: ProcessState = serde_json::from_str(CEDANA).unwrap();
    assert_eq!(state.pid, 4711);
    assert_eq!(state.open_files[1].inode, u64::MAX);
    assert_eq!(state.open_files[0].flags(), Some(0o100_002));
    assert_eq!(state.open_files[1].flags(), None);
    assert_eq!(state.children[0].pid, 4712);
    assert_eq!(state.choices, None);
    let written = serde_json::to_string_pretty(&state).unwrap();
    let expected = CEDANA.replace("  \"OpenConnections\": null,\n", "");
    assert_eq!(written, expected);
}

#[test]
fn a_mode_may_be_a_number_and_options_a_list() {
    let file: FileState = serde_json::from_str(r#"{"Path": "/x", "Mode": 420}"#).unwrap();
    assert_eq!(file.mode, "420");
    let mount: MountState = serde_json::from_str(r#"{"Options": ["rw", "nosuid"]}"#).unwrap();
    assert_eq!(mount.options, "rw,nosuid");
}

#[test]
fn a_saved_state_is_for_its_owner_and_alone() {
    let images = tempfile::tempdir().unwrap();
    let state = ProcessState::fill(&Tree::read(process::id()).unwrap()).unwrap();
    state.save(images.path()).unwrap();
    state.save(images.path()).unwrap();
    let path = images.path().join(FILE_NAME);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(images.path()).unwrap().count(), 1);
    assert_eq!(ProcessState::reload(images.path()).unwrap(), state);
}

#[test]
fn a_filled_state_knows_process_machine_and_files() {
    let before = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let state = ProcessState::fill(&Tree::read(process::id()).unwrap()).unwrap();
    assert_eq!(state.pid, process::id());
    assert!(state.is_running);
    assert!(!state.open_files.is_empty() && !state.mounts.is_empty());
    let host = state.host.unwrap();
    assert_eq!(host.os, "linux");
    assert!(host.cpu.unwrap().count > 0 && host.memory.unwrap().total > 0);
    // The kernel tells its start in whole seconds.
    let now = u64::try_from(before.as_millis()).unwrap() + 2000;
    assert!(state.start_time <= now && state.start_time + 86_400_000 > now);
}

#[test]
fn a_state_is_not_read_over_a_link() {
    let images = tempfile::tempdir().unwrap();
    let elsewhere = images.path().join("elsewhere");
    fs::write(&elsewhere, CEDANA).unwrap();
    std::os::unix::fs::symlink(&elsewhere, images.path().join(FILE_NAME)).unwrap();
    let error = ProcessState::reload(images.path()).unwrap_err();
    assert!(error.to_string().contains(FILE_NAME), "{error}");
}

#[test]
fn what_is_no_state_is_refused() {
    let images = tempfile::tempdir().unwrap();
    for text in [
        "",
        "[]",
        "{\"PID\": -1}",
        "{\"PID\": 5",
        "{\"OpenFiles\": [1]}",
    ] {
        fs::write(images.path().join(FILE_NAME), text).unwrap();
        assert!(ProcessState::reload(images.path()).is_err(), "{text}");
    }
}

#[test]
fn generations_that_could_not_be_read_again_are_not_written() {
    let images = tempfile::tempdir().unwrap();
    let mut state = ProcessState::default();
    for pid in 1..200 {
        state = ProcessState {
            pid,
            children: vec![state],
            ..ProcessState::default()
        };
    }
    assert!(state.save(images.path()).is_err());
    assert_eq!(fs::read_dir(images.path()).unwrap().count(), 0);
}
