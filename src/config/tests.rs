//! Tests of [`super`].

use std::{ffi::OsStr, fs, time::Duration};

use log::LevelFilter;
use stasis_proc::ErrorKind;

use super::*;

const EXAMPLE: &str = include_str!("../../examples/config.toml");

fn stasis() -> InvokedAs {
    InvokedAs::new(OsStr::new("containerd-shim-stasis-v1"))
}

fn inline(body: &str) -> RequestedConfig {
    RequestedConfig::Inline(body.to_owned())
}

fn resolve(requested: RequestedConfig) -> Result<Config, Error> {
    Config::resolve_with(&stasis(), requested, &[])
}

/// What holds where neither file nor request says anything.
fn defaults() -> Config {
    resolve(RequestedConfig::Default).unwrap()
}

/// A file with `text`, and options that name it.
fn file(text: &str) -> (tempfile::NamedTempFile, RequestedConfig) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let requested = RequestedConfig::File(file.path().to_owned());
    (file, requested)
}

#[test]
fn the_example_shows_the_defaults() {
    assert_eq!(resolve(file(EXAMPLE).1).unwrap(), defaults());
}

#[test]
fn the_example_shows_every_key() {
    // The parser's complaint about a key that does not exist lists those that do.
    let known = |table: &str| -> Vec<String> {
        let error = resolve(inline(&format!("{table}\nno_such_key = 1"))).unwrap_err();
        let message = error.to_string();
        let (_, list) = message.split_once("expected one of ").unwrap();
        list.split(", ")
            .map(|key| key.trim_matches('`').to_owned())
            .collect()
    };
    let example: toml::Table = toml::from_str(EXAMPLE).unwrap();

    for (table, keys) in [
        ("", &example),
        ("[timeouts]", example["timeouts"].as_table().unwrap()),
        ("[checkpoint]", example["checkpoint"].as_table().unwrap()),
    ] {
        let known = known(table);
        assert!(known.len() > 5, "{known:?}");
        for key in known {
            assert!(
                keys.contains_key(&key),
                "{table} {key} is not in the example"
            );
        }
    }
}

#[test]
fn a_file_that_says_nothing_is_as_good_as_none() {
    assert_eq!(resolve(inline("")).unwrap(), defaults());
    assert_eq!(resolve(file("").1).unwrap(), defaults());
}

#[test]
fn the_defaults_are_those_of_gvisors_shim() {
    let config = defaults();

    assert_eq!(config.binary_name, "runsc");
    assert_eq!(
        config.runtime_root("k8s.io", Kind::Runsc),
        Path::new("/run/containerd/runsc/k8s.io")
    );
    assert_eq!(
        config.runtime_root("k8s.io", Kind::Crun),
        Path::new("/run/containerd/runc/k8s.io")
    );
    assert_eq!(config.timeouts.create, Some(Duration::from_secs(30)));
    assert_eq!(config.timeouts.checkpoint, None);
}

#[test]
fn a_file_sets_what_it_names() {
    let (_file, options) = file(
        r#"
        binary_name = "/usr/bin/crun"
        root = "/run/mine"
        log_level = "warning"
        [runsc_config]
        platform = "kvm"
        [timeouts]
        create = "1m"
        kill = "none"
        [checkpoint]
        tcp_established = true
        cgroup_mode = "soft"
        "#,
    );

    let config = resolve(options).unwrap();

    assert_eq!(config.binary_name, "/usr/bin/crun");
    assert_eq!(
        config.runtime_root("default", Kind::Crun),
        Path::new("/run/mine/default")
    );
    assert_eq!(config.log_level, Some(LevelFilter::Warn));
    assert_eq!(config.runsc_config["platform"], "kvm");
    assert_eq!(config.timeouts.create, Some(Duration::from_secs(60)));
    assert_eq!(config.timeouts.kill, None);
    assert_eq!(config.timeouts.start, Some(Duration::from_secs(30)));
    assert!(config.checkpoint.tcp_established);
}

#[test]
fn runc_options_win_over_the_default_file() {
    let (default, _) =
        file("binary_name = \"runsc\"\nroot = \"/run/file\"\nio_uid = 5\nio_gid = 6");
    let options = RequestedConfig::Runc(Box::new(RuncOptions {
        binary_name: Some("crun".to_owned()),
        io_uid: Some(1000),
        systemd_cgroup: true,
        criu_work_path: Some("/var/criu".into()),
        ..RuncOptions::default()
    }));

    let config = Config::resolve_with(&stasis(), options, &[default.path()]).unwrap();

    assert_eq!(config.binary_name, "crun");
    assert_eq!(config.root.as_deref(), Some(Path::new("/run/file")));
    assert_eq!((config.io_uid, config.io_gid), (1000, 6));
    assert!(config.systemd_cgroup);
    assert_eq!(
        config.criu_work_path.as_deref(),
        Some(Path::new("/var/criu"))
    );
}

#[test]
fn the_table_of_a_cri_handler_is_understood_as_containerd_writes_it() {
    let config = resolve(inline(
        r#"
        BinaryName = "/usr/bin/crun"
        CriuImagePath = ""
        CriuWorkPath = ""
        IoGid = 0
        IoUid = 7
        NoNewKeyring = false
        NoPivotRoot = true
        Root = ""
        ShimCgroup = "/shims"
        SystemdCgroup = true
        TypeUrl = "io.containerd.runsc.v1.options"
        "#,
    ))
    .unwrap();

    assert_eq!(config.binary_name, "/usr/bin/crun");
    assert_eq!(config.root, None);
    assert_eq!(config.io_uid, 7);
    assert!(config.systemd_cgroup && config.no_pivot_root && !config.no_new_keyring);
    assert_eq!(config.shim_cgroup.as_deref(), Some("/shims"));
}

#[test]
fn an_image_for_every_container_of_a_handler_is_refused() {
    let error = resolve(inline("CriuImagePath = \"/image\"")).unwrap_err();

    assert!(error.to_string().contains("CriuImagePath"), "{error}");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_known_ones() {
    let (named, options) = file("io_uid = 1\n\nbinary = \"runc\"\n");

    let error = resolve(options).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let message = error.to_string();
    assert!(
        message.starts_with(&format!("{}, line 3: ", named.path().display())),
        "{message}"
    );
    assert!(
        message.contains("`binary`") && message.contains("`binary_name`"),
        "{message}"
    );
}

#[test]
fn an_unknown_key_in_a_table_is_named_too() {
    for (body, key) in [
        ("[timeouts]\nstat = \"1s\"", "`stat`"),
        ("[checkpoint]\nopen_tcp = true", "`open_tcp`"),
    ] {
        let error = resolve(inline(body)).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
        assert!(error.to_string().contains("config_body"), "{error}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_told_apart() {
    for body in [
        "io_uid = \"root\"",
        "log_level = \"loud\"",
        "[timeouts]\ncreate = \"soon\"",
        "[runsc_config]\ndebug = true",
        "= 1",
        "[checkpoint]\ncgroup_mode = \"sometimes\"",
    ] {
        let error = resolve(inline(body)).unwrap_err();
        assert!(matches!(error, Error::Parse { .. }), "{body}: {error}");
    }
}

#[test]
fn gvisors_keys_for_what_we_do_not_do_are_refused_when_true() {
    for key in ["grouping", "enable_hibernate_server"] {
        let error = resolve(inline(&format!("{key} = true"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(
            resolve(inline(&format!("{key} = false"))).unwrap(),
            defaults()
        );
    }
}

#[test]
fn options_that_set_nothing_are_as_good_as_none() {
    let options = RequestedConfig::Runc(Box::default());
    assert_eq!(resolve(options).unwrap(), defaults());
}

#[test]
fn a_file_that_was_named_must_exist() {
    let options = RequestedConfig::File("/nowhere/config.toml".into());

    let error = resolve(options).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("/nowhere/config.toml"),
        "{error}"
    );
}

#[test]
fn a_file_without_an_end_is_refused() {
    let (_file, options) = file(&"#".repeat((1 << 20) + 1));

    assert!(matches!(resolve(options), Err(Error::TooLong { .. })));
}

#[test]
fn the_first_default_file_that_exists_is_read() {
    let (first, _) = file("io_uid = 1");
    let (second, _) = file("io_uid = 2");
    let places = [Path::new("/nowhere"), first.path(), second.path()];

    assert_eq!(
        Config::resolve_with(&stasis(), RequestedConfig::Default, &places)
            .unwrap()
            .io_uid,
        1
    );
}
