//! What only a kernel tells of cgroups.

use std::{fs, os::unix::process::ExitStatusExt, process::Command, time::Duration};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Pid,
};
use stasis_linux::cgroup::{Freezer, processes};

/// Of version 2 and in thread mode, in which a cgroup does not list its processes.
#[tokio::test]
#[ignore = "needs the lab: make test"]
async fn a_threaded_cgroup_is_listed_frozen_and_killed() {
    assert!(std::env::var_os("STASIS_LAB").is_some(), "{}", super::LAB);
    let hierarchy = tempfile::tempdir().expect("a directory");
    mount(
        "none",
        hierarchy.path(),
        "cgroup2",
        MountFlags::empty(),
        None,
    )
    .expect("is mounted");
    let domain = hierarchy.path().join("stasis-threaded");
    let threaded = domain.join("threaded");
    fs::create_dir_all(&threaded).expect("made");
    fs::write(threaded.join("cgroup.type"), "threaded").expect("is threaded");
    let mut child = Command::new("sleep").arg("1000").spawn().expect("starts");
    let pid = Pid::from_child(&child);
    fs::write(domain.join("cgroup.procs"), child.id().to_string()).expect("is moved");
    fs::write(threaded.join("cgroup.threads"), child.id().to_string()).expect("is moved");

    fs::read(threaded.join("cgroup.procs")).expect_err("lists threads only");
    for cgroup in [&domain, &threaded] {
        assert_eq!(processes(cgroup).expect("are listed"), [pid], "{cgroup:?}");
    }
    let freezer = Freezer::at(&threaded).expect("is one");
    freezer.freeze().expect("is told");
    assert!(
        freezer
            .frozen(Some(Duration::from_secs(60)))
            .await
            .expect("is told")
    );
    freezer.end().expect("is killed and thawed");
    assert_eq!(child.wait().expect("ends").signal(), Some(9));

    for cgroup in [&threaded, &domain] {
        fs::remove_dir(cgroup).expect("nobody is in it");
    }
    unmount(hierarchy.path(), UnmountFlags::empty()).expect("is unmounted");
}
