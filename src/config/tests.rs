//! Tests of [`super`].

use std::{ffi::OsStr, fs, time::Duration};

use containerd_shim::protos::protobuf::MessageFull;
use stasis_proc::ErrorKind;

use super::{
    options::{RuncOptions, RuntimeOptions},
    *,
};

const EXAMPLE: &str = include_str!("../../examples/config.toml");

fn stasis() -> InvokedAs {
    InvokedAs::new(OsStr::new("containerd-shim-stasis-v1"))
}

fn any<M: MessageFull>(message: &M) -> Any {
    Any {
        type_url: M::descriptor().full_name().to_owned(),
        value: message.write_to_bytes().unwrap(),
        ..Any::default()
    }
}

fn inline(body: &str) -> Any {
    any(&RuntimeOptions {
        config_body: body.as_bytes().to_vec(),
        ..RuntimeOptions::default()
    })
}

fn resolve(options: Option<&Any>) -> Result<Config, Error> {
    Config::resolve_with(&stasis(), options, &[])
}

/// A file with `text`, and options that name it.
fn file(text: &str) -> (tempfile::NamedTempFile, Any) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let config_path = file.path().to_str().unwrap().to_owned();
    let options = any(&RuntimeOptions {
        config_path,
        ..RuntimeOptions::default()
    });
    (file, options)
}

#[test]
fn the_example_shows_the_defaults() {
    assert_eq!(resolve(Some(&file(EXAMPLE).1)).unwrap(), Config::default());
}

#[test]
fn the_example_shows_every_key() {
    // The parser's complaint about a key that does not exist lists those that do.
    let known = |table: &str| -> Vec<String> {
        let error = resolve(Some(&inline(&format!("{table}\nno_such_key = 1")))).unwrap_err();
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
fn nothing_said_is_the_default() {
    assert_eq!(resolve(None).unwrap(), Config::default());
}

#[test]
fn the_defaults_are_those_of_gvisors_shim() {
    let config = Config::default();

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

    let config = resolve(Some(&options)).unwrap();

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
    let options = any(&RuncOptions {
        binary_name: "crun".to_owned(),
        io_uid: 1000,
        systemd_cgroup: true,
        criu_work_path: "/var/criu".to_owned(),
        ..RuncOptions::default()
    });

    let config = Config::resolve_with(&stasis(), Some(&options), &[default.path()]).unwrap();

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
fn a_prefix_before_the_type_does_not_matter() {
    let mut options = any(&RuncOptions {
        binary_name: "crun".to_owned(),
        ..RuncOptions::default()
    });
    options.type_url.insert_str(0, "type.googleapis.com/");

    assert!(Config::understands(&options));
    assert_eq!(resolve(Some(&options)).unwrap().binary_name, "crun");
}

#[test]
fn the_table_of_a_cri_handler_is_understood_as_containerd_writes_it() {
    let config = resolve(Some(&inline(
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
    )))
    .unwrap();

    assert_eq!(config.binary_name, "/usr/bin/crun");
    assert_eq!(config.root, None);
    assert_eq!(config.io_uid, 7);
    assert!(config.systemd_cgroup && config.no_pivot_root && !config.no_new_keyring);
    assert_eq!(config.shim_cgroup.as_deref(), Some("/shims"));
}

#[test]
fn an_image_for_every_container_of_a_handler_is_refused() {
    let error = resolve(Some(&inline("CriuImagePath = \"/image\""))).unwrap_err();

    assert!(error.to_string().contains("CriuImagePath"), "{error}");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_known_ones() {
    let (named, options) = file("io_uid = 1\n\nbinary = \"runc\"\n");

    let error = resolve(Some(&options)).unwrap_err();

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
        let error = resolve(Some(&inline(body))).unwrap_err();
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
        "[checkpoint]\ncgroup_mode = \"none\"",
    ] {
        let error = resolve(Some(&inline(body))).unwrap_err();
        assert!(matches!(error, Error::Parse { .. }), "{body}: {error}");
    }
}

#[test]
fn gvisors_keys_for_what_we_do_not_do_are_refused_when_true() {
    for key in ["grouping", "enable_hibernate_server"] {
        let error = resolve(Some(&inline(&format!("{key} = true")))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(
            resolve(Some(&inline(&format!("{key} = false")))).unwrap(),
            Config::default()
        );
    }
}

#[test]
fn options_of_another_type_are_named() {
    let options = Any {
        type_url: "foreign.Options".to_owned(),
        ..Any::default()
    };

    let error = resolve(Some(&options)).unwrap_err();

    assert!(!Config::understands(&options));
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("foreign.Options"), "{error}");
    assert!(
        error.to_string().contains("containerd.runc.v1.Options"),
        "{error}"
    );
}

#[test]
fn options_that_are_none_are_as_good_as_none() {
    for options in [
        any(&RuntimeOptions::default()),
        any(&RuncOptions::default()),
        Any::default(),
        any(&RuntimeOptions {
            type_url: "x".to_owned(),
            ..RuntimeOptions::default()
        }),
    ] {
        assert_eq!(resolve(Some(&options)).unwrap(), Config::default());
    }
}

#[test]
fn bytes_that_are_no_options_are_an_error() {
    let mut options = any(&RuncOptions::default());
    options.value = vec![0xff; 3];
    assert!(matches!(resolve(Some(&options)), Err(Error::Decode { .. })));

    let body = RuntimeOptions {
        config_body: vec![0xff, 0xfe],
        ..RuntimeOptions::default()
    };
    assert!(matches!(
        resolve(Some(&any(&body))),
        Err(Error::BodyNotText(_))
    ));
}

#[test]
fn a_file_that_was_named_must_exist() {
    let config_path = "/nowhere/config.toml".to_owned();
    let options = any(&RuntimeOptions {
        config_path,
        ..RuntimeOptions::default()
    });

    let error = resolve(Some(&options)).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.to_string().contains("/nowhere/config.toml"),
        "{error}"
    );
}

#[test]
fn a_file_without_an_end_is_refused() {
    let (_file, options) = file(&"#".repeat((1 << 20) + 1));

    assert!(matches!(
        resolve(Some(&options)),
        Err(Error::TooLong { .. })
    ));
}

#[test]
fn the_first_default_file_that_exists_is_read() {
    let (first, _) = file("io_uid = 1");
    let (second, _) = file("io_uid = 2");
    let places = [Path::new("/nowhere"), first.path(), second.path()];

    assert_eq!(
        Config::resolve_with(&stasis(), None, &places)
            .unwrap()
            .io_uid,
        1
    );
}
