//! What is refused, by which name, and what is let through.

use std::{
    fs, io, os::unix::ffi::OsStrExt as _, os::unix::fs::symlink, path::PathBuf, time::Duration,
};

use super::{descriptor, rendered, samples};
use crate::{
    options::{
        AutoMounts, CgroupRoot, Dir, EmptyNamespace, External, GhostLimit, InheritedFd,
        JoinNamespace, Joinable, LogLevel, LsmProfile, NetworkLock, OptionError, Options,
        PageServer, Tls, VethPair, table,
    },
    request::Request,
    version::Version,
};

fn dump(options: &Options) -> Result<(), OptionError> {
    options.check(Request::Dump, None)
}

/// The option that is refused, whatever the reason.
fn refused(checked: Result<(), OptionError>) -> String {
    match checked.unwrap_err() {
        OptionError::WrongRequest { option, .. }
        | OptionError::Value { option, .. }
        | OptionError::Conflict { option, .. }
        | OptionError::Path { option, .. }
        | OptionError::NotUtf8 { option, .. }
        | OptionError::NoKey { option, .. }
        | OptionError::Unwritable { option, .. }
        | OptionError::Harmful { option, .. } => option.to_owned(),
        OptionError::TooNew { option, .. } => option,
        OptionError::Incomplete { what, .. } => what,
    }
}

/// Options for a dump in a directory of their own.
fn scratch() -> (tempfile::TempDir, Options) {
    let images = tempfile::tempdir().unwrap();
    let options = Options::new(images.path()).pid(4711);
    (images, options)
}

#[test]
fn every_option_is_taken_by_its_requests_and_refused_by_the_others() {
    let images = tempfile::tempdir().unwrap();
    for sample in samples(images.path()) {
        let options = (sample.set)(Options::new(images.path()));
        let rows: Vec<_> = options.given().map(|(row, _)| row).collect();
        for request in Request::ALL {
            let taken = rows.iter().all(|row| row.requests.contains(&request));
            match options.check(request, None) {
                Err(OptionError::WrongRequest { option, .. }) => {
                    assert!(!taken, "{option} for a {request}");
                }
                // What else it may lack is the other tests' subject.
                Ok(()) | Err(OptionError::Incomplete { .. }) => {
                    assert!(taken, "{} for a {request}", sample.field);
                }
                Err(error) => panic!("{} for a {request}: {error}", sample.field),
            }
        }
    }
}

#[test]
fn every_option_is_refused_by_a_release_that_does_not_have_it() {
    let images = tempfile::tempdir().unwrap();
    for sample in samples(images.path()) {
        let options = (sample.set)(Options::new(images.path()));
        let row = table().find(|row| row.number == sample.field).unwrap();
        let given = options
            .given()
            .find(|(given, _)| given.number == row.number);
        let request = given.unwrap().0.requests[0];
        if row.since.minor > 0 {
            let (major, minor) = (row.since.major.into(), u32::from(row.since.minor) - 1);
            let error = options.check(request, Some(&Version::new(major, minor, 99)));
            let error = error.unwrap_err();
            assert!(
                matches!(error, OptionError::TooNew { .. }),
                "{}: {error}",
                row.name
            );
        }
        let now = Version::new(4, 2, 1);
        let checked = options.check(request, Some(&now));
        assert!(
            !matches!(checked, Err(OptionError::TooNew { .. })),
            "{}",
            row.name
        );
    }
}

#[test]
fn an_error_names_option_value_and_way_out() {
    let (_images, options) = scratch();
    let error = dump(&options.clone().log_file("logs/dump")).unwrap_err();
    let text = "log_file cannot be \"logs/dump\": it is a name in the work directory, which \
                `work_dir` sets";
    assert_eq!(error.to_string(), text);
    let error = options
        .clone()
        .leave_running(true)
        .check(Request::Restore, None);
    assert_eq!(
        error.unwrap_err().to_string(),
        "pid is not for a restore, only for: dump, pre-dump, single pre-dump"
    );
    let error = options.network_lock(NetworkLock::Skip);
    let error = error
        .check(Request::Dump, Some(&Version::new(3, 17, 1)))
        .unwrap_err();
    let text = "network_lock skip needs CRIU 3.19 or later, and this one is 3.17.1";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_dump_of_nobody_is_refused_since_criu_would_dump_its_client() {
    let (images, options) = scratch();
    dump(&options).unwrap();
    assert_eq!(refused(dump(&Options::new(images.path()))), "dump");
    assert_eq!(refused(dump(&options.clone().pid(0))), "pid");
    assert_eq!(refused(dump(&options.pid(u32::MAX))), "pid");
}

#[test]
fn values_that_criu_would_misread_are_refused() {
    let (images, options) = scratch();
    let o = || options.clone();
    let second = Duration::from_secs(1);
    for (options, option) in [
        (o().log_file(""), "log_file"),
        (o().log_file(".."), "log_file"),
        (o().log_file("a\0b"), "log_file"),
        (o().timeout(second / 2), "timeout"),
        (o().timeout(second * 4_294_968), "timeout"),
        (o().cgroup_root(CgroupRoot::all("machine")), "cg_root"),
        (
            o().cgroup_root(CgroupRoot::of("a:b", "/machine")),
            "cg_root",
        ),
        (o().cgroup_dump_controller(""), "cgroup_dump_controller"),
        (o().enable_fs("ext4,xfs"), "enable_fs"),
        (o().skip_mnt("sys"), "skip_mnt"),
        (o().root("rootfs"), "root"),
        (o().root("/nowhere/at/all"), "root"),
        (o().root("/dev/null"), "root"),
        (o().irmap_scan_path("etc"), "irmap_scan_paths"),
        (o().freeze_cgroup("/nowhere/at/all"), "freeze_cgroup"),
        (o().cgroup_yard("/nowhere/at/all"), "cgroup_yard"),
        (
            o().cgroup_props_file("/nowhere/at/all"),
            "cgroup_props_file",
        ),
        (o().config_file("/nowhere/at/all"), "config_file"),
        (o().config_file("criu.conf"), "config_file"),
        (o().work_dir(images.path().join("none")), "work_dir_fd"),
        (o().work_dir(Dir::Named("/tmp".into())), "work_dir_fd"),
        (
            o().lsm_profile(LsmProfile::SeLinux(String::new())),
            "lsm_profile",
        ),
    ] {
        assert_eq!(refused(dump(&options)), option);
    }
    let missing = Options::new(images.path().join("none")).pid(1);
    assert_eq!(refused(dump(&missing)), "images_dir_fd");
    assert_eq!(
        refused(missing.rendered(Request::Dump).map(drop)),
        "images_dir_fd"
    );
    dump(&o().timeout(Duration::ZERO)).unwrap();
}

#[test]
fn values_of_a_restore_that_criu_would_misread_are_refused() {
    let images = tempfile::tempdir().unwrap();
    let o = || Options::new(images.path());
    let network = || JoinNamespace::new(Joinable::Network, "/proc/self/ns/net");
    for (options, option) in [
        (o().exec_cmd([""]), "exec_cmd"),
        (
            o().inherit_fd(InheritedFd::new("/tmp/log", descriptor())),
            "inherit_fd",
        ),
        (
            o().inherit_fd(InheritedFd::new("", descriptor())),
            "inherit_fd",
        ),
        (
            o().inherit_fd(InheritedFd::new("a", descriptor()))
                .inherit_fd(InheritedFd::new("a", descriptor())),
            "inherit_fd",
        ),
        (
            o().join_ns(JoinNamespace::new(Joinable::Uts, "4711")),
            "join_ns",
        ),
        (
            o().join_ns(JoinNamespace::new(Joinable::Uts, "/nowhere")),
            "join_ns",
        ),
        (
            o().join_ns(JoinNamespace::user("/proc/self/ns/user", 65_536, 0)),
            "join_ns",
        ),
        (o().join_ns(network()).join_ns(network()), "join_ns"),
        (
            o().join_ns(network()).empty_ns(EmptyNamespace::Network),
            "empty_ns",
        ),
        (o().lsm_mount_context(""), "lsm_mount_context"),
    ] {
        assert_eq!(refused(options.check(Request::Restore, None)), option);
    }
}

#[test]
fn numbers_and_texts_out_of_range_are_refused_where_they_are_made() {
    GhostLimit::try_from(u64::from(u32::MAX)).unwrap();
    GhostLimit::try_from(1 << 32).unwrap_err();
    assert_eq!(LogLevel::try_from(4).unwrap(), LogLevel::Debug);
    LogLevel::try_from(99).unwrap_err();
    for text in ["apparmor", "apparmor:", "smack:a", "none", "none:a", ""] {
        text.parse::<LsmProfile>().expect_err(text);
    }
    assert_eq!("none:".parse::<LsmProfile>().unwrap(), LsmProfile::None);
}

#[test]
fn what_is_no_utf_8_is_refused_by_name() {
    let (_images, options) = scratch();
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"/a\xff"));
    let error = dump(&options.clone().skip_mnt(&path)).unwrap_err();
    assert!(
        matches!(
            error,
            OptionError::NotUtf8 {
                option: "skip_mnt",
                ..
            }
        ),
        "{error}"
    );
    let error = options
        .skip_mnt(path)
        .to_config(&[Request::Dump], None)
        .unwrap_err();
    assert!(matches!(error, OptionError::NotUtf8 { .. }), "{error}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let (_images, options) = scratch();
    let o = || options.clone();
    let address = |address: [u8; 4]| PageServer::at(address.into(), 27);
    let socket = || PageServer::connected(descriptor());
    for (options, option) in [
        (o().leave_running(true).leave_stopped(true), "leave_running"),
        (o().tcp_established(true).tcp_close(true), "tcp_established"),
        (o().log_file("a").log_to_stderr(true), "log_file"),
        (o().lazy_pages(true).page_server(socket()), "ps"),
        (
            o().lazy_pages(true).page_server(address([192, 0, 2, 7])),
            "ps",
        ),
        (o().tls(Tls::default()).page_server(socket()), "tls"),
        (o().tls(Tls::default()), "tls"),
        (
            o().tls(Tls::default().key("/nowhere"))
                .page_server(address([1; 4])),
            "tls_key",
        ),
        (o().status_fd(descriptor()), "status_fd"),
        (o().page_server(PageServer::listening(27)), "ps"),
        (
            o().page_server(PageServer::at([192, 0, 2, 7].into(), 0)),
            "ps",
        ),
    ] {
        assert_eq!(refused(dump(&options)), option);
    }
    for options in [
        o().lazy_pages(true).page_server(PageServer::listening(0)),
        o().lazy_pages(true)
            .page_server(address([0; 4]))
            .tls(Tls::default()),
        o().lazy_pages(true).status_fd(descriptor()),
        o().page_server(socket()),
    ] {
        dump(&options).unwrap();
    }
}

#[test]
fn a_page_server_takes_any_port_and_any_address() {
    let images = tempfile::tempdir().unwrap();
    let options = Options::new(images.path());
    let request = Request::PageServerChild;
    options.check(request, None).unwrap();
    let options = options.page_server(PageServer::listening(0));
    options.check(request, None).unwrap();
    let ps = rendered(&options, request).ps.unwrap();
    assert_eq!((ps.address, ps.port, ps.fd), (None, Some(0), None));
}

#[test]
fn a_parent_image_that_criu_would_miss_is_refused() {
    let all = tempfile::tempdir().unwrap();
    let images = all.path().join("2");
    let first = all.path().join("1");
    fs::create_dir(&images).unwrap();
    let options = Options::new(&images).pid(4711).parent_img("../1");

    let missing = dump(&options).unwrap_err();
    let OptionError::Path {
        option: "parent_img",
        source,
        ..
    } = missing
    else {
        panic!("{missing}");
    };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);

    fs::create_dir(&first).unwrap();
    assert_eq!(refused(dump(&options)), "parent_img", "it is empty");
    // The memory is at the other end.
    let server = PageServer::at([192, 0, 2, 7].into(), 27);
    dump(&options.clone().page_server(server)).unwrap();

    fs::write(first.join("pagemap-4711.img"), "").unwrap();
    dump(&options).unwrap();
    dump(&options.clone().parent_img(&first)).unwrap();
    let opened = Options::new(Dir::Descriptor(fs::File::open(&images).unwrap().into()));
    dump(&opened.pid(4711).parent_img("../1")).unwrap();
    assert_eq!(
        refused(dump(&options.clone().parent_img("../2"))),
        "parent_img"
    );

    let mark = first.join("stasis-no-parent");
    fs::write(&mark, "").unwrap();
    assert_eq!(refused(dump(&options)), "parent_img", "the chain has ended");
    fs::remove_file(mark).unwrap();

    symlink("../0", images.join("parent")).unwrap();
    assert_eq!(
        refused(dump(&options)),
        "parent_img",
        "CRIU would keep the link"
    );
    fs::remove_file(images.join("parent")).unwrap();
    symlink("../1", images.join("parent")).unwrap();
    dump(&options).unwrap();
}

#[test]
fn dedup_on_restore_is_not_had_by_asking_for_that_of_the_dump() {
    let images = tempfile::tempdir().unwrap();
    let dumped = Options::new(images.path()).dedup_on_dump(true);
    assert_eq!(refused(dumped.check(Request::Restore, None)), "auto_dedup");
    let spent = Options::new(images.path()).spend_image_on_restore(true);
    spent.check(Request::Restore, None).unwrap();
    assert_eq!(rendered(&spent, Request::Restore).auto_dedup, Some(true));
    assert_eq!(
        refused(spent.pid(1).check(Request::Dump, None)),
        "auto_dedup"
    );
}

#[test]
fn a_resource_reads_back_as_it_is_written() {
    for text in [
        "mnt[/etc/hosts]:hosts",
        "mnt[]",
        "mnt[]:m",
        "mnt[]:s",
        "dev[8/1]:disk",
        "file[2a:9f3]",
        "tty[8801:18]",
        "unix[4711]",
        "veth[eth0]:vh0",
        "veth[eth0]:vh0@br0",
        "macvlan[eth0]:eno1",
        "netdev[eth0]:vh0",
        "net[4026532281]:extRootNetNS",
        "pid[4026532282]:extRootPidNS",
    ] {
        let resource: External = text.parse().unwrap();
        assert_eq!(resource.to_string(), text);
    }
}

#[test]
fn a_resource_that_criu_would_not_find_is_refused() {
    for text in [
        "",
        "zzz",
        "mnt[zzz",
        "mnt[a]",
        "mnt[a]:",
        "mnt[a]b",
        "mnt[]:ms",
        "mnt[]:x",
        "dev[8/1]",
        "file[2A:9]",
        "file[2a]",
        "file[2a:9]:x",
        "file[02a:9]",
        "tty[g:1]",
        "unix[+1]",
        "unix[4294967296]",
        "veth[eth0]",
        "veth[]:vh0",
        "veth[eth0]:vh0@",
        "veth[a-name-too-long-for-it]:vh0",
        "net[1]",
        "net[one]:key",
        "ipc[1]:key",
    ] {
        text.parse::<External>().expect_err(text);
    }
    let (_images, options) = scratch();
    for resource in [
        External::mount("", "x"),
        External::mount("a]", "x"),
        External::Veth(VethPair::new("eth0", "a b")),
        External::Device {
            key: String::from("disk"),
            value: String::from("x"),
        },
    ] {
        assert_eq!(
            refused(dump(&options.clone().external(resource))),
            "external"
        );
    }
}

#[test]
fn a_resource_is_named_once() {
    let (_images, options) = scratch();
    let twice = options.clone().external(External::mount("/a", "x"));
    let twice = twice.external(External::mount("/a", "y"));
    assert_eq!(refused(dump(&twice)), "external");
    let both = options.external(External::AutoMounts(AutoMounts::Masters));
    dump(&both.external(External::AutoMounts(AutoMounts::Sharing))).unwrap();
}

#[test]
fn a_resource_newer_than_the_criu_that_runs_is_refused_by_its_form() {
    let (_images, options) = scratch();
    let options = options.external("pid[4026532282]:extRootPidNS".parse().unwrap());
    let check = |minor| options.check(Request::Dump, Some(&Version::new(3, minor, 0)));
    assert_eq!(refused(check(14)), "external pid");
    check(15).unwrap();
    let time = Options::new("/").join_ns(JoinNamespace::new(Joinable::Time, "/proc/self/ns/time"));
    let error = time.check(Request::Restore, Some(&Version::new(3, 13, 0)));
    assert_eq!(refused(error), "join_ns time");
}
