//! A configuration file says what the message says. It is read here as CRIU reads it, and put
//! together to a message again.

use super::{descriptor, rendered, samples};
use crate::{
    options::{
        CgroupMode, CgroupRoot, CpuCapabilities, Dir, External, JoinNamespace, Joinable,
        NetworkLock, OptionError, Options, PageServer,
        table::{Key, table},
    },
    request::Request,
    rpc::{self, CriuOpts, CriuPageServerInfo},
    version::Version,
};

/// The long options of 4.1.1, all of which 4.2 has too.
const KEYS: &[&str] = &[
    "action-script",
    "address",
    "all",
    "auto-dedup",
    "cgroup-dump-controller",
    "cgroup-props",
    "cgroup-props-file",
    "cgroup-root",
    "cgroup-yard",
    "close",
    "config",
    "cpu-cap",
    "daemon",
    "deprecated",
    "display-stats",
    "empty-ns",
    "enable-external-masters",
    "enable-external-sharing",
    "enable-fs",
    "evasive-devices",
    "exec-cmd",
    "experimental",
    "ext-mount-map",
    "ext-unix-sk",
    "external",
    "extra",
    "feature",
    "file-locks",
    "file-validation",
    "force-irmap",
    "freeze-cgroup",
    "ghost-fiemap",
    "ghost-limit",
    "help",
    "images-dir",
    "inherit-fd",
    "irmap-scan-path",
    "join-ns",
    "lazy-pages",
    "leave-running",
    "leave-stopped",
    "libdir",
    "link-remap",
    "log-file",
    "log-pid",
    "lsm-mount-context",
    "lsm-profile",
    "manage-cgroups",
    "mntns-compat-mode",
    "ms",
    "network-lock",
    "no-default-config",
    "page-server",
    "pidfile",
    "port",
    "pre-dump-mode",
    "prev-images-dir",
    "ps-socket",
    "restore-detached",
    "restore-sibling",
    "root",
    "shell-job",
    "skip-file-rwx-check",
    "skip-in-flight",
    "skip-mnt",
    "status-fd",
    "stream",
    "tcp-close",
    "tcp-established",
    "timeout",
    "tls",
    "tls-cacert",
    "tls-cacrl",
    "tls-cert",
    "tls-key",
    "tls-no-cn-verify",
    "track-mem",
    "tree",
    "unprivileged",
    "verbosity",
    "version",
    "veth-pair",
    "weak-sysctls",
    "work-dir",
];

/// The words that CRIU gives to `getopt_long(3)` for a line: what `parse_statement` does with
/// lines of the three kinds that we write.
fn words(line: &str) -> (String, Option<String>) {
    let Some((name, rest)) = line.split_once(' ') else {
        return match line.split_once('=') {
            None => (line.to_owned(), None),
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        };
    };
    let inner = rest.strip_prefix('"').unwrap();
    let (value, end) = inner.split_once('"').unwrap();
    assert_eq!(end, "", "CRIU would fail on {line}");
    assert!(!value.contains(['#', '\\']), "CRIU would cut {line}");
    let offset = name.len() + 3;
    assert!(
        !value.chars().skip(offset).any(|c| c == ' '),
        "CRIU would fail on {line}"
    );
    (name.to_owned(), Some(value.to_owned()))
}

/// What CRIU makes of a file, as the message that would make the same of it.
fn read(file: &str) -> CriuOpts {
    let mut opts = CriuOpts {
        images_dir_fd: -1,
        ..CriuOpts::default()
    };
    for line in file.lines() {
        let (key, value) = words(line);
        match value {
            None => switch(&mut opts, &key),
            Some(value) => take(&mut opts, &key, value),
        }
    }
    opts
}

fn switch(opts: &mut CriuOpts, key: &str) {
    let switch = match key {
        "leave-running" => &mut opts.leave_running,
        "ext-unix-sk" => &mut opts.ext_unix_sk,
        "tcp-established" => &mut opts.tcp_established,
        "evasive-devices" => &mut opts.evasive_devices,
        "shell-job" => &mut opts.shell_job,
        "file-locks" => &mut opts.file_locks,
        "track-mem" => &mut opts.track_mem,
        "auto-dedup" => &mut opts.auto_dedup,
        "link-remap" => &mut opts.link_remap,
        "force-irmap" => &mut opts.force_irmap,
        "restore-sibling" => &mut opts.rst_sibling,
        "enable-external-sharing" => &mut opts.ext_sharing,
        "enable-external-masters" => &mut opts.ext_masters,
        "skip-in-flight" => &mut opts.tcp_skip_in_flight,
        "weak-sysctls" => &mut opts.weak_sysctls,
        "lazy-pages" => &mut opts.lazy_pages,
        "tcp-close" => &mut opts.tcp_close,
        "tls" => &mut opts.tls,
        "tls-no-cn-verify" => &mut opts.tls_no_cn_verify,
        "mntns-compat-mode" => &mut opts.mntns_compat_mode,
        "skip-file-rwx-check" => &mut opts.skip_file_rwx_check,
        "unprivileged" => &mut opts.unprivileged,
        "leave-stopped" => &mut opts.leave_stopped,
        "display-stats" => &mut opts.display_stats,
        "page-server" => {
            opts.ps.get_or_insert_default();
            return;
        }
        _ => panic!("CRIU has no switch {key}"),
    };
    *switch = Some(true);
}

fn take(opts: &mut CriuOpts, key: &str, value: String) {
    match key {
        "verbosity" => opts.log_level = Some(value.parse().unwrap()),
        "log-file" => opts.log_file = Some(value),
        "address" => ps(opts).address = Some(value),
        "port" => ps(opts).port = Some(value.parse().unwrap()),
        "root" => opts.root = Some(value),
        "prev-images-dir" => opts.parent_img = Some(value),
        "cpu-cap" => opts.cpu_cap = Some(cpu_cap(&value)),
        "cgroup-root" => opts.cg_root.push(match value.split_once(':') {
            None => rpc::CgroupRoot {
                ctrl: None,
                path: value,
            },
            Some((ctrl, path)) => rpc::CgroupRoot {
                ctrl: Some(ctrl.to_owned()),
                path: path.to_owned(),
            },
        }),
        "skip-mnt" => opts.skip_mnt.push(value),
        "enable-fs" => opts.enable_fs.push(value),
        "manage-cgroups" => {
            let modes = ["ignore", "none", "props", "soft", "full", "strict"];
            let mode = modes.iter().position(|mode| *mode == value).unwrap();
            opts.manage_cgroups_mode = Some(i32::try_from(mode).unwrap());
            opts.manage_cgroups = Some(mode != 0);
        }
        "ghost-limit" => opts.ghost_limit = Some(value.parse().unwrap()),
        "irmap-scan-path" => opts.irmap_scan_paths.push(value),
        "external" => opts.external.push(value),
        "empty-ns" => {
            assert_eq!(value, "net");
            opts.empty_ns = Some(0x4000_0000);
        }
        "join-ns" => {
            let (ns, rest) = value.split_once(':').unwrap();
            let (ns_file, extra_opt) = match rest.split_once(',') {
                None => (rest, None),
                Some((file, extra)) => (file, Some(extra.to_owned())),
            };
            opts.join_ns.push(rpc::JoinNamespace {
                ns: ns.to_owned(),
                ns_file: ns_file.to_owned(),
                extra_opt,
            });
        }
        "cgroup-props-file" => opts.cgroup_props_file = Some(value),
        "cgroup-dump-controller" => opts.cgroup_dump_controller.push(value),
        "freeze-cgroup" => opts.freeze_cgroup = Some(value),
        "timeout" => opts.timeout = Some(value.parse().unwrap()),
        "lsm-profile" => opts.lsm_profile = Some(value),
        "lsm-mount-context" => opts.lsm_mount_context = Some(value),
        "tls-cacert" => opts.tls_cacert = Some(value),
        "tls-cacrl" => opts.tls_cacrl = Some(value),
        "tls-cert" => opts.tls_cert = Some(value),
        "tls-key" => opts.tls_key = Some(value),
        "cgroup-yard" => opts.cgroup_yard = Some(value),
        "pre-dump-mode" => opts.pre_dump_mode = Some(if value == "read" { 2 } else { 1 }),
        "network-lock" => {
            let methods = ["iptables", "nftables", "skip"];
            let method = methods.iter().position(|method| *method == value).unwrap();
            opts.network_lock = Some(i32::try_from(method).unwrap() + 1);
        }
        // A message has a number for it.
        "work-dir" => opts.work_dir_fd = Some(-1),
        _ => panic!("CRIU has no option {key} with a value"),
    }
}

fn ps(opts: &mut CriuOpts) -> &mut CriuPageServerInfo {
    opts.ps.get_or_insert_default()
}

/// CRIU adds to its default, 5, what is not taken out by `none`.
fn cpu_cap(value: &str) -> u32 {
    value.split(',').fold(5, |of, word| match word {
        "none" => 0,
        "fpu" => of | 1,
        "cpu" => of | 2,
        "ins" => of | 4,
        _ => panic!("CRIU has no {word}"),
    })
}

/// What a message says beyond a file: its defaults, and the numbers of descriptors.
fn as_in_a_file(mut opts: CriuOpts, options: &Options, request: Request) -> CriuOpts {
    let plain = rendered(&Options::new(options.images_dir().clone()), request);
    opts.images_dir_fd = -1;
    if options.given().all(|(row, _)| row.number != 9) {
        assert_eq!(opts.log_level, plain.log_level);
        opts.log_level = None;
    }
    if options.given().all(|(row, _)| row.number != 10) {
        opts.log_file = None;
    }
    opts.work_dir_fd = opts.work_dir_fd.map(|_| -1);
    opts
}

fn assert_alike(options: &Options, request: Request) {
    let file = options.to_config(&[request], None).unwrap();
    let expected = as_in_a_file(rendered(options, request), options, request);
    assert_eq!(read(&file), expected, "{file}");
}

#[test]
fn a_file_says_what_the_message_says_or_names_what_it_cannot_say() {
    let images = tempfile::tempdir().unwrap();
    for sample in samples(images.path()) {
        let options = (sample.set)(Options::new(images.path()));
        let (row, _) = options
            .given()
            .find(|(row, _)| row.number == sample.field)
            .unwrap();
        let request = row.requests[0];
        match row.key {
            Key::None(_) => {
                let error = options.to_config(&[request], None).unwrap_err();
                assert!(
                    matches!(error, OptionError::NoKey { option, .. } if option == row.name),
                    "{error}"
                );
            }
            // It has lines.
            _ if row.name == "cgroup_props" => {
                let error = options.to_config(&[request], None).unwrap_err();
                assert!(matches!(error, OptionError::Unwritable { .. }), "{error}");
            }
            _ => assert_alike(&options, request),
        }
    }
}

#[test]
fn all_options_of_a_request_together_are_alike_too() {
    let images = tempfile::tempdir().unwrap();
    for request in Request::ALL {
        let mut options = Options::new(images.path());
        for sample in samples(images.path()) {
            let more = (sample.set)(options.clone());
            let fits = more.given().all(|(row, _)| row.requests.contains(&request));
            let kept = more.images_dir() == options.images_dir();
            if fits && kept && more.to_config(&[request], None).is_ok() {
                options = more;
            }
        }
        assert_alike(&options, request);
    }
}

#[test]
fn every_value_of_a_choice_is_alike() {
    let images = tempfile::tempdir().unwrap();
    let o = || Options::new(images.path());
    for mode in [
        CgroupMode::Ignore,
        CgroupMode::None,
        CgroupMode::Props,
        CgroupMode::Soft,
        CgroupMode::Full,
        CgroupMode::Strict,
    ] {
        assert_alike(&o().manage_cgroups(mode), Request::Dump);
    }
    for lock in [
        NetworkLock::Iptables,
        NetworkLock::Nftables,
        NetworkLock::Skip,
    ] {
        assert_alike(&o().network_lock(lock), Request::Dump);
    }
    let (fpu, cpu, ins) = (
        CpuCapabilities::FPU,
        CpuCapabilities::CPU,
        CpuCapabilities::INS,
    );
    for of in [fpu, cpu, ins, fpu | cpu, cpu | ins, CpuCapabilities::ALL] {
        assert_alike(&o().cpu_cap(of), Request::Dump);
    }
}

#[test]
fn a_value_without_blanks_stands_as_it_is() {
    let images = tempfile::tempdir().unwrap();
    for value in ["a#b", "\"a\"", "a\\\"b", "a=b", "#", "'", "ü", "a:b,c"] {
        let options = Options::new(images.path()).external(External::mount(value, value));
        assert_alike(&options, Request::Dump);
    }
}

#[test]
fn a_value_with_blanks_is_written_where_criu_reads_it_and_refused_where_not() {
    let images = tempfile::tempdir().unwrap();
    let with = |key: &str| Options::new(images.path()).external(External::mount(key, "x"));
    for key in ["a b", "a  b c", "\ta"] {
        assert_alike(&with(key), Request::Dump);
    }
    for key in ["a #b", "a \"b", "a \\b", "a\nb", "abcdefghijkl m"] {
        let error = with(key).to_config(&[Request::Dump], None).unwrap_err();
        let OptionError::Unwritable {
            option: "external",
            value,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert!(value.contains(key));
    }
}

#[test]
fn what_a_file_would_say_otherwise_is_refused() {
    let images = tempfile::tempdir().unwrap();
    let link = images.path().join("a,b");
    std::os::unix::fs::symlink("/proc/self/ns/uts", &link).unwrap();
    let o = || Options::new(images.path());
    for (options, name) in [
        (o().cgroup_root(CgroupRoot::all("/a:b")), "cg_root"),
        (o().cpu_cap(CpuCapabilities::NONE), "cpu_cap"),
        (
            o().join_ns(JoinNamespace::new(Joinable::Uts, &link)),
            "join_ns",
        ),
    ] {
        let error = options.to_config(&[Request::Restore], None).unwrap_err();
        assert!(
            matches!(error, OptionError::Unwritable { option, .. } if option == name),
            "{error}"
        );
    }
}

#[test]
fn a_descriptor_cannot_stand_in_a_file() {
    let images = tempfile::tempdir().unwrap();
    let o = || Options::new(images.path());
    for options in [
        o().work_dir(Dir::Descriptor(descriptor())),
        o().page_server(PageServer::connected(descriptor())),
    ] {
        let error = options.to_config(&[Request::Dump], None).unwrap_err();
        assert!(matches!(error, OptionError::NoKey { .. }), "{error}");
    }
}

#[test]
fn a_file_that_several_requests_read_harms_none_of_them() {
    let images = tempfile::tempdir().unwrap();
    let o = || Options::new(images.path());
    let both = [Request::Dump, Request::Restore];
    assert_eq!(
        o().tcp_close(true).to_config(&both, None).unwrap(),
        "tcp-close\n"
    );
    assert_eq!(
        o().link_remap(true).to_config(&both, None).unwrap(),
        "link-remap\n"
    );
    for options in [
        o().dedup_on_dump(true),
        o().spend_image_on_restore(true),
        o().mntns_compat_mode(true),
        o().rst_sibling(true),
    ] {
        let error = options.to_config(&both, None).unwrap_err();
        assert!(matches!(error, OptionError::Harmful { .. }), "{error}");
    }
    let asked = o().dedup_on_dump(true).spend_image_on_restore(true);
    assert_eq!(asked.to_config(&both, None).unwrap(), "auto-dedup\n");
    let error = o()
        .link_remap(true)
        .to_config(&[Request::Restore], None)
        .unwrap_err();
    assert!(matches!(error, OptionError::WrongRequest { .. }), "{error}");
}

#[test]
fn a_file_for_a_criu_that_dies_of_an_option_is_refused() {
    let images = tempfile::tempdir().unwrap();
    let options = Options::new(images.path()).network_lock(NetworkLock::Nftables);
    let config = |version| options.to_config(&[Request::Dump], Some(&version));
    assert!(matches!(
        config(Version::new(4, 1, 1)),
        Err(OptionError::TooNew { .. })
    ));
    assert_eq!(
        config(Version::new(4, 2, 1)).unwrap(),
        "network-lock=nftables\n"
    );
    options
        .pid(1)
        .check(Request::Dump, Some(&Version::new(4, 1, 1)))
        .unwrap();
}

#[test]
fn a_lazy_dump_listens_where_a_file_says() {
    let images = tempfile::tempdir().unwrap();
    let options = Options::new(images.path());
    let options = options
        .lazy_pages(true)
        .page_server(PageServer::at([127, 0, 0, 1].into(), 27));
    let file = options.to_config(&[Request::Dump], None).unwrap();
    assert_eq!(file, "lazy-pages\naddress=127.0.0.1\nport=27\n");
}

#[test]
fn every_key_is_one_that_criu_has() {
    let keys = table().flat_map(|row| match row.key {
        Key::Named(key) | Key::Exclusive { key, .. } => vec![key],
        Key::Several(keys) => keys.to_vec(),
        Key::None(_) => Vec::new(),
    });
    for key in keys {
        assert!(KEYS.contains(&key), "{key}");
    }
}
