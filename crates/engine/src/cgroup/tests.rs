use super::{
    hierarchy::{VERSION_1, VERSION_2, hierarchy},
    *,
};
use crate::mountinfo::parse;

const HYBRID: &[u8] = b"30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:10 master:2 - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/freezer rw shared:11 - cgroup cgroup rw,freezer
34 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
";
const UNIFIED: &[u8] = b"31 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

fn find(mountinfo: &[u8], theirs: &str, ours: &str) -> Option<PathBuf> {
    let theirs = memberships(theirs.as_bytes());
    let ours = memberships(ours.as_bytes());
    let hierarchies: Vec<_> = parse(mountinfo).into_iter().filter_map(hierarchy).collect();
    Freezer::find(&hierarchies, &theirs, &ours).map(|freezer| freezer.directory)
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
    let mut pids: Vec<_> = found.into_iter().map(Pid::as_raw).collect();
    pids.sort_unstable();
    assert_eq!(pids, [12, 13, 14, 15]);
}

#[test]
fn thawing_writes_what_the_version_wants() {
    let directory = tempfile::tempdir().expect("a directory");
    let freezer = Freezer {
        directory: directory.path().to_owned(),
        switch: VERSION_1,
    };
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
    let at = |switch| Freezer {
        directory: directory.path().to_owned(),
        switch,
    };
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
    let own = Freezer::of(Pid::this()).expect("is read");
    assert!(own.is_none(), "{own:?}");
    // Above every pid_max of Linux.
    let error = Freezer::of(Pid::from_raw(1 << 23)).expect_err("there is none");
    assert!(
        error.to_string().contains("/proc/8388608/cgroup"),
        "{error}"
    );
}

#[test]
fn leftovers_are_removed_only_where_there_was_nobody_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |mount: &str| Hierarchy {
        controllers: Some(vec![mount.to_owned()]),
        root: PathBuf::from("/"),
        mount: directory.path().join(mount),
    };
    let mounts = || vec![at("cpu"), at("freezer")];
    let vacant = Vacant::below(mounts(), Path::new("/default/c"))
        .expect("read")
        .expect("vacant");
    for mount in ["cpu", "freezer"] {
        fs::create_dir_all(directory.path().join(mount).join("default/c/.proxy-crun"))
            .expect("made");
    }
    vacant.remove();
    for mount in ["cpu", "freezer"] {
        assert!(!directory.path().join(mount).join("default/c").exists());
        assert!(directory.path().join(mount).join("default").exists());
    }
    fs::create_dir_all(directory.path().join("cpu/default/c")).expect("made");
    fs::write(directory.path().join("cpu/default/c/cgroup.procs"), "1\n").expect("written");
    assert!(
        Vacant::below(mounts(), Path::new("/default/c"))
            .expect("read")
            .is_none()
    );
}

#[test]
fn systemds_notation_stands_for_a_scope_in_its_slice() {
    for (notation, path) in [
        ("system.slice:runc:c", Some("system.slice/runc-c.scope")),
        (":runc:c", Some("system.slice/runc-c.scope")),
        ("-.slice:cri-containerd:c", Some("cri-containerd-c.scope")),
        (
            "kubepods-burstable-pod1.slice:cri-containerd:c",
            Some(
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/\
                 cri-containerd-c.scope",
            ),
        ),
        ("a.slice:p:b.slice", None),
        ("a.slice:p:c:d", None),
        ("a.slice:p", None),
        ("system:p:c", None),
        ("a.slice:..:/../c", None),
        ("/default/c", None),
    ] {
        assert_eq!(scope(notation), path.map(PathBuf::from), "{notation}");
    }
}

#[test]
fn no_path_outside_the_hierarchies_is_touched() {
    for path in ["", "/", "..", "/a/../..", "./a"] {
        for systemd in [false, true] {
            assert!(Vacant::at(path, systemd).expect("read").is_none(), "{path}");
        }
    }
}
