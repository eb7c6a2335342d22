//! Tests of [`super`].

use containerd_shim_protos::protobuf::{MessageFull, UnknownValueRef};

use super::*;

fn any<M: MessageFull>(message: &M) -> Any {
    Any {
        type_url: M::descriptor().full_name().to_owned(),
        value: message.write_to_bytes().unwrap(),
        ..Any::default()
    }
}

#[test]
fn every_runtime_option_that_we_have_arrives() {
    let sent = oci::Options {
        binary_name: "crun".to_owned(),
        root: "/run/mine".to_owned(),
        shim_cgroup: "/shims".to_owned(),
        criu_image_path: "/image".to_owned(),
        criu_work_path: "/work".to_owned(),
        systemd_cgroup: true,
        no_pivot_root: true,
        no_new_keyring: true,
        io_uid: 1,
        io_gid: 2,
        ..oci::Options::default()
    };
    let options = RuncOptions {
        binary_name: Some("crun".to_owned()),
        root: Some("/run/mine".into()),
        shim_cgroup: Some("/shims".to_owned()),
        criu_image_path: Some("/image".into()),
        criu_work_path: Some("/work".into()),
        systemd_cgroup: true,
        no_pivot_root: true,
        no_new_keyring: true,
        io_uid: Some(1),
        io_gid: Some(2),
    };
    assert_eq!(
        runtime(Some(&any(&sent))).unwrap(),
        RequestedConfig::Runc(Box::new(options))
    );
}

#[test]
fn a_file_goes_before_an_inline_configuration() {
    let mut sent = RuntimeOptions {
        config_body: b"io_uid = 1".to_vec(),
        ..RuntimeOptions::default()
    };
    let inline = RequestedConfig::Inline("io_uid = 1".to_owned());
    assert_eq!(runtime(Some(&any(&sent))).unwrap(), inline);

    sent.config_path = "/config.toml".to_owned();
    let file = RequestedConfig::File("/config.toml".into());
    assert_eq!(runtime(Some(&any(&sent))).unwrap(), file);
}

#[test]
fn a_prefix_before_the_type_does_not_matter() {
    let mut options = any(&oci::Options {
        binary_name: "crun".to_owned(),
        ..oci::Options::default()
    });
    options.type_url.insert_str(0, "type.googleapis.com/");

    let RequestedConfig::Runc(found) = runtime_among(&[options]).unwrap() else {
        panic!("not understood")
    };
    assert_eq!(found.binary_name.as_deref(), Some("crun"));
}

#[test]
fn options_of_another_type_are_named() {
    let options = Any {
        type_url: "foreign.Options".to_owned(),
        ..Any::default()
    };

    let error = runtime(Some(&options)).unwrap_err();

    assert_eq!(runtime_among(&[options]).unwrap(), RequestedConfig::Default);
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
        Any::default(),
        any(&RuntimeOptions {
            type_url: "x".to_owned(),
            ..RuntimeOptions::default()
        }),
    ] {
        assert_eq!(runtime(Some(&options)).unwrap(), RequestedConfig::Default);
    }
    assert_eq!(
        runtime(Some(&any(&oci::Options::default()))).unwrap(),
        RequestedConfig::Runc(Box::default())
    );
}

#[test]
fn bytes_that_are_no_options_are_an_error() {
    let mut options = any(&oci::Options::default());
    options.value = vec![0xff; 3];
    assert!(matches!(runtime(Some(&options)), Err(Error::Decode { .. })));

    let body = RuntimeOptions {
        config_body: vec![0xff, 0xfe],
        ..RuntimeOptions::default()
    };
    assert!(matches!(
        runtime(Some(&any(&body))),
        Err(Error::BodyNotText(_))
    ));
}

#[test]
fn every_option_of_a_checkpoint_arrives() {
    let sent = oci::CheckpointOptions {
        exit: true,
        open_tcp: true,
        external_unix_sockets: true,
        terminal: true,
        file_locks: true,
        empty_namespaces: vec!["network".to_owned()],
        cgroups_mode: "soft".to_owned(),
        image_path: "/elsewhere".to_owned(),
        work_path: "/work".to_owned(),
        ..Default::default()
    };
    let asked = CheckpointRequest {
        path: None,
        exit: true,
        tcp_established: true,
        ext_unix_sk: true,
        shell_job: true,
        file_locks: true,
        empty_namespaces: vec!["network".to_owned()],
        cgroup_mode: Some("soft".to_owned()),
        image_path: Some("/elsewhere".into()),
        work_path: Some("/work".into()),
    };
    assert_eq!(checkpoint(Some(&any(&sent))).unwrap(), asked);
}

#[test]
fn what_a_checkpoint_leaves_empty_is_not_set() {
    let empty = any(&oci::CheckpointOptions::default());
    assert_eq!(
        checkpoint(Some(&empty)).unwrap(),
        CheckpointRequest::default()
    );
    assert_eq!(checkpoint(None).unwrap(), CheckpointRequest::default());
}

#[test]
fn checkpoint_options_of_another_type_are_refused_by_its_name() {
    let foreign = Any {
        type_url: "example.Options".to_owned(),
        ..Any::default()
    };
    let error = checkpoint(Some(&foreign)).unwrap_err();
    assert!(error.to_string().contains("example.Options"), "{error}");
}

#[test]
fn a_checkpoint_option_that_this_version_does_not_know_is_refused() {
    let mut sent = oci::CheckpointOptions::default();
    // parent_path of containerd 2.4.
    let unknown = sent.special_fields.mut_unknown_fields();
    unknown.add_length_delimited(10, b"/parent".to_vec());
    assert!(matches!(
        unknown.get(10),
        Some(UnknownValueRef::LengthDelimited(_))
    ));
    let error = checkpoint(Some(&any(&sent))).unwrap_err();
    assert!(error.to_string().contains("10"), "{error}");
}
