//! Cgroups as files, and what only the kernel would say told by hand.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{io::Errno, process::Pid};

use super::{
    hierarchy::{VERSION_1, VERSION_2, hierarchy, memberships},
    members::processes_by,
    *,
};
use crate::mountinfo;

const HYBRID: &[u8] = b"30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:10 master:2 - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/freezer rw shared:11 - cgroup cgroup rw,freezer
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
";
const UNIFIED: &[u8] = b"31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

fn find(list: &[u8], theirs: &str, ours: &str) -> Option<PathBuf> {
    let theirs = memberships(theirs.as_bytes());
    let ours = memberships(ours.as_bytes());
    let hierarchies: Vec<_> = mountinfo::read(list)
        .expect("parses")
        .into_iter()
        .filter_map(hierarchy)
        .collect();
    Freezer::find(&hierarchies, &theirs, &ours).map(|freezer| {
        let (file, _) = freezer.word(true);
        file.parent().expect("a directory").to_owned()
    })
}

#[test]
fn version_1_freezes_by_its_freezer_and_version_2_by_itself() {
    let theirs = "3:cpu,cpuacct:/x\n2:freezer:/default/c\n1:name=systemd:/y\n0::/z\n";
    let ours = "2:freezer:/\n1:name=systemd:/\n0::/\n";
    let freezer = find(HYBRID, theirs, ours).expect("is found");
    assert_eq!(freezer, Path::new("/sys/fs/cgroup/freezer/default/c"));
    let freezer = find(UNIFIED, "0::/default/c:1\n", "0::/shim\n").expect("is found");
    assert_eq!(freezer, Path::new("/sys/fs/cgroup/default/c:1"));
    assert_eq!(find(b"", "0::/c\n", "0::/\n"), None);
}

#[test]
fn a_container_in_the_shims_cgroup_has_no_freezer() {
    for (theirs, ours) in [
        ("0::/shim", "0::/shim"),
        ("0::/", "0::/shim"),
        ("0::/c", "0::/c/shim"),
    ] {
        assert_eq!(find(UNIFIED, theirs, ours), None, "{theirs} {ours}");
    }
    assert!(find(UNIFIED, "0::/shim/c", "0::/shim").is_some());
    assert!(find(UNIFIED, "0::/shim2", "0::/shim").is_some());
}

#[test]
fn a_mount_may_show_a_part_of_its_hierarchy_only() {
    let part = b"31 30 0:27 /kubepods/pod\\0401 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let freezer = find(part, "0::/kubepods/pod 1/c", "0::/").expect("is found");
    assert_eq!(freezer, Path::new("/sys/fs/cgroup/c"));
    assert_eq!(find(part, "0::/elsewhere/c", "0::/"), None);
    assert_eq!(find(UNIFIED, "0::/../outside", "0::/shim"), None);
}

#[test]
fn processes_below_are_found_and_unseen_ones_are_not_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let below = directory.path().join("made/by/the/container");
    fs::create_dir_all(&below).expect("made");
    for (path, procs) in [
        ("", "0\n12\n"),
        ("made", ""),
        ("made/by", "0\n"),
        ("made/by/the", "13\n"),
    ] {
        fs::write(directory.path().join(path).join("cgroup.procs"), procs).expect("written");
    }
    fs::write(below.join("cgroup.procs"), "14\n15\n").expect("written");
    let found = processes(directory.path()).expect("read");
    let pids: Vec<_> = found.into_iter().map(Pid::as_raw_pid).collect();
    assert_eq!(pids, [12, 13, 14, 15]);
}

#[test]
fn thawing_writes_what_the_version_wants() {
    let directory = tempfile::tempdir().expect("a directory");
    let freezer = Freezer::new(directory.path().to_owned(), VERSION_1);
    freezer.thaw().expect("is written");
    let written = fs::read_to_string(directory.path().join("freezer.state")).expect("read");
    assert_eq!(written, "THAWED");
}

#[tokio::test]
async fn a_cgroup_is_told_once_more_to_freeze_only_if_it_was_told_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |file: &str, text: &str| {
        fs::write(directory.path().join(file), text).expect("written");
    };
    let read = |file: &str| fs::read_to_string(directory.path().join(file)).expect("read");
    let at = |switch| Freezer::new(directory.path().to_owned(), switch);
    let briefly = Some(Duration::from_millis(20));
    let long = Some(Duration::from_secs(100));
    write("cgroup.procs", "12\n");
    write("freezer.state", "FREEZING\n");
    write("freezer.self_freezing", "0\n");
    assert!(!at(VERSION_1).frozen(briefly).await.expect("is read"));
    assert_eq!(read("freezer.state"), "FREEZING\n");
    write("freezer.self_freezing", "1\n");
    assert!(at(VERSION_1).frozen(long).await.expect("is read"));
    assert_eq!(read("freezer.state"), "FROZEN");

    write("cgroup.freeze", "0\n");
    write("cgroup.events", "populated 1\nfrozen 0\n");
    assert!(!at(VERSION_2).frozen(briefly).await.expect("is read"));
    write("cgroup.events", "populated 1\nfrozen 1\n");
    assert!(at(VERSION_2).frozen(long).await.expect("is read"));
    // Nobody is left to wait for.
    write("cgroup.events", "populated 0\nfrozen 0\n");
    write("cgroup.procs", "");
    assert!(at(VERSION_2).frozen(long).await.expect("is read"));
}

#[test]
fn this_process_is_in_its_own_cgroup_and_a_missing_one_in_none() {
    let own = Freezer::of(rustix::process::getpid().as_raw_pid()).expect("is read");
    assert!(own.is_none(), "{own:?}");
    // Above every pid_max of Linux.
    let error = Freezer::of(1 << 23).expect_err("there is none");
    assert!(
        error.to_string().contains("/proc/8388608/cgroup"),
        "{error}"
    );
}

#[test]
fn a_threaded_cgroup_tells_by_its_threads_and_one_that_went_tells_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    for below in ["threaded", "going", "gone"] {
        fs::create_dir(directory.path().join(below)).expect("made");
    }
    let own = rustix::process::getpid();
    let read = |path: &Path| {
        let cgroup = path.parent().and_then(Path::file_name).expect("a name");
        let file = path.file_name().expect("a name");
        let fails = |errno: Errno| Err(io::Error::from(errno));
        match (cgroup.to_str(), file.to_str()) {
            (Some("threaded"), Some("cgroup.procs")) => fails(Errno::OPNOTSUPP),
            // A thread that has ended, and one of this process.
            (Some("threaded"), _) => {
                let thread = rustix::thread::gettid().as_raw_pid();
                Ok(format!("8388608\n{thread}\n").into_bytes())
            }
            (Some("going"), _) => fails(Errno::NODEV),
            (Some("gone"), _) => fails(Errno::NOENT),
            _ => Ok(b"12\n".to_vec()),
        }
    };
    let found = processes_by(directory.path(), &read).expect("read");
    let twelve = Pid::from_raw(12).expect("a number");
    assert_eq!(found.len(), 2);
    assert!(found.contains(&own) && found.contains(&twelve), "{found:?}");
    let gone = |_: &Path| Err(io::Error::from(Errno::NODEV));
    processes_by(directory.path(), &gone).expect_err("is the one that was asked for");
}

#[test]
fn a_directory_tells_by_its_files_how_it_is_frozen() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(Freezer::at(directory.path()).is_none());
    for (file, words) in [
        ("cgroup.freeze", ["0", "1"]),
        ("freezer.state", ["THAWED", "FROZEN"]),
    ] {
        let file = directory.path().join(file);
        fs::write(&file, "").expect("written");
        let freezer = Freezer::at(directory.path()).expect("is one");
        for (frozen, word) in [(false, words[0]), (true, words[1])] {
            assert_eq!(freezer.word(frozen), (file.clone(), word));
        }
        freezer.freeze().expect("is written");
        assert_eq!(fs::read_to_string(&file).expect("read"), words[1]);
    }
}
