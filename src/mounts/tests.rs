//! Tests of [`super`]. Those that mount need root; each has a mount namespace of its own.

use std::fs;

use stasis_proc::ErrorKind;

use super::*;

fn a_mount(kind: &str, source: &str, options: &[&str]) -> MountRequest {
    MountRequest {
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..MountRequest::default()
    }
}

fn parse(options: &[&str]) -> Result<Options, String> {
    Options::parse(&a_mount("", "", options).options)
}

#[test]
fn options_are_flags_or_data() {
    let options = parse(&["nosuid", "ro", "lowerdir=/a:/b", "index=off"]).unwrap();

    assert_eq!(options.flags, MsFlags::MS_NOSUID | MsFlags::MS_RDONLY);
    assert_eq!(options.data, "lowerdir=/a:/b,index=off");
}

#[test]
fn the_last_of_opposite_options_counts() {
    assert_eq!(parse(&["ro", "rw"]).unwrap().flags, MsFlags::empty());
    assert_eq!(
        parse(&["exec", "noexec"]).unwrap().flags,
        MsFlags::MS_NOEXEC
    );
    assert_eq!(
        parse(&["rbind"]).unwrap().flags,
        MsFlags::MS_BIND | MsFlags::MS_REC
    );
}

#[test]
fn what_only_containerd_can_do_is_refused_by_name() {
    for (mount, named) in [
        (a_mount("ext4", "/img", &["loop"]), "loop"),
        (
            a_mount("ext4", "/img", &["loop=/dev/loop1"]),
            "loop=/dev/loop1",
        ),
        (
            a_mount("bind", "/src", &["rbind", "uidmap=0:1000:1"]),
            "uidmap=0:1000:1",
        ),
        (
            a_mount("bind", "/src", &["X-containerd.mkdir.path=/x"]),
            "X-containerd.mkdir.path=/x",
        ),
        (
            a_mount("format/mkdir/overlay", "overlay", &[]),
            "format/mkdir/overlay",
        ),
        (
            a_mount("overlay", "overlay", &["lowerdir={{ mount 0 }}"]),
            "{{ mount 0 }}",
        ),
        (a_mount("bind", "{{ mount 0 }}", &["bind"]), "{{ mount 0 }}"),
        (
            MountRequest {
                target: "/etc".to_owned(),
                ..a_mount("bind", "/src", &["bind"])
            },
            "/etc",
        ),
    ] {
        let error = RootfsMounts::mount(&[mount], Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn an_option_that_only_begins_like_one_of_containerds_is_data() {
    assert_eq!(parse(&["loopback"]).unwrap().data, "loopback");
}

#[test]
fn lower_directories_are_shortened_to_what_they_differ_in() {
    let mut options = parse(&[
        "workdir=/s/9/work",
        "lowerdir=/s/snap/1/fs:/s/snap/12/fs",
        "index=off",
    ])
    .unwrap();

    assert_eq!(
        options.shorten_lowerdir().as_deref(),
        Some(Path::new("/s/snap"))
    );
    assert_eq!(
        options.data,
        "workdir=/s/9/work,lowerdir=1/fs:12/fs,index=off"
    );
}

#[test]
fn lower_directories_with_nothing_in_common_stay_as_they_are() {
    for data in [
        "lowerdir=/a/x:/b/x",
        "lowerdir=a/x:a/y",
        r"lowerdir=/a/x\:y:/a/z",
        "index=off",
    ] {
        let mut options = parse(&[data]).unwrap();
        assert_eq!(options.shorten_lowerdir(), None, "{data}");
        assert_eq!(options.data, data);
    }
}

#[test]
fn a_lower_directory_above_another_is_not_made_an_empty_name() {
    let mut options = parse(&["lowerdir=/s/snap:/s/snap/1"]).unwrap();

    assert_eq!(options.shorten_lowerdir().as_deref(), Some(Path::new("/s")));
    assert_eq!(options.data, "lowerdir=snap:snap/1");
}

#[test]
fn options_beyond_a_page_are_refused_with_their_length() {
    let long = format!("lowerdir={}", "x".repeat(5000));

    let error = RootfsMounts::mount(&[a_mount("overlay", "overlay", &[&long])], Path::new("/x"));

    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("5009 bytes"), "{error}");
}

#[test]
fn unmounting_what_is_not_there_is_no_error() {
    let dir = tempfile::tempdir().unwrap();

    unmount(dir.path()).unwrap();
    unmount(&dir.path().join("missing/rootfs")).unwrap();
}

/// A directory to mount on, in a mount namespace of the calling thread.
fn stage() -> tempfile::TempDir {
    unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Overlay does not take every file system for its upper directory, but takes tmpfs.
    nix::mount::mount(
        Some("t"),
        dir.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    fs::create_dir(dir.path().join("rootfs")).unwrap();
    dir
}

fn mounted_below(dir: &Path) -> usize {
    let mounts = mountinfo::mounts().unwrap().into_iter();
    mounts
        .map(|mount| mount.mount_point)
        .filter(|point| point != dir && point.starts_with(dir))
        .count()
}

#[test]
#[ignore = "needs root and a mount namespace: make test"]
fn a_rootfs_is_mounted_and_taken_away_with_what_is_below() {
    let stage = stage();
    let rootfs = stage.path().join("rootfs");

    RootfsMounts::mount(&[a_mount("tmpfs", "tmpfs", &["size=64k"])], &rootfs)
        .unwrap()
        .keep();
    fs::create_dir(rootfs.join("below")).unwrap();
    RootfsMounts::mount(&[a_mount("tmpfs", "tmpfs", &[])], &rootfs.join("below"))
        .unwrap()
        .keep();
    assert_eq!(mounted_below(stage.path()), 2);

    unmount(&rootfs).unwrap();

    assert_eq!(mounted_below(stage.path()), 0);
    unmount(&rootfs).unwrap();
}

#[test]
#[ignore = "needs root and a mount namespace: make test"]
fn a_mount_that_fails_undoes_those_before_it() {
    let stage = stage();
    let mounts = [
        a_mount("tmpfs", "tmpfs", &[]),
        a_mount("nosuchfs", "none", &[]),
    ];

    let error = RootfsMounts::mount(&mounts, &stage.path().join("rootfs")).unwrap_err();

    assert!(
        error.to_string().contains("none (type nosuchfs)"),
        "{error}"
    );
    assert_eq!(mounted_below(stage.path()), 0);
}

#[test]
#[ignore = "needs root and a mount namespace: make test"]
fn mounts_that_are_not_kept_are_taken_away() {
    let stage = stage();

    drop(RootfsMounts::mount(
        &[a_mount("tmpfs", "tmpfs", &[])],
        &stage.path().join("rootfs"),
    ));

    assert_eq!(mounted_below(stage.path()), 0);
}

#[test]
#[ignore = "needs root and a mount namespace: make test"]
fn a_bind_mount_can_be_read_only() {
    let stage = stage();
    let (source, rootfs) = (stage.path().join("source"), stage.path().join("rootfs"));
    fs::create_dir(&source).unwrap();

    let bind = a_mount("bind", source.to_str().unwrap(), &["rbind", "ro"]);
    let _mounted = RootfsMounts::mount(&[bind], &rootfs).unwrap();

    let error = fs::write(rootfs.join("file"), "x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    fs::write(source.join("file"), "x").unwrap();
}

#[test]
#[ignore = "needs root and a mount namespace: make test"]
fn an_overlay_of_many_layers_leaves_the_working_directory_alone() {
    let stage = stage();
    let (base, rootfs) = (stage.path().join("layers"), stage.path().join("rootfs"));
    let layers: Vec<String> = (0..200)
        .map(|layer| {
            let dir = base.join(format!("{layer}/fs"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("of-{layer}")), "").unwrap();
            dir.to_str().unwrap().to_owned()
        })
        .collect();
    let lower = format!("lowerdir={}", layers.join(":"));
    assert!(lower.len() > MAX_DATA);
    let before = std::env::current_dir().unwrap();

    let overlay = a_mount("overlay", "overlay", &[&lower]);
    let _mounted = RootfsMounts::mount(&[overlay], &rootfs).unwrap();

    assert_eq!(fs::read_dir(&rootfs).unwrap().count(), 200);
    assert_eq!(std::env::current_dir().unwrap(), before);
}
