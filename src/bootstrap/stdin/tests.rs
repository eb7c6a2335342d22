//! Tests of [`super`].

use containerd_shim::{bootstrap::Extension, protos::shim::oci::Options};
use protobuf::EnumOrUnknown;

use super::*;

const TTRPC: &str = "/run/containerd/containerd.sock.ttrpc";
const GRPC: &str = "/run/containerd/containerd.sock";

fn flags() -> Flags {
    Flags {
        id: "abc".to_owned(),
        namespace: "k8s.io".to_owned(),
        address: GRPC.to_owned(),
        ..Flags::default()
    }
}

fn environment() -> Environment {
    Environment {
        ttrpc_address: TTRPC.to_owned(),
        ..Environment::default()
    }
}

fn options(shim_cgroup: &str) -> Any {
    let options = Options {
        shim_cgroup: shim_cgroup.to_owned(),
        ..Options::default()
    };
    Any {
        type_url: "containerd.runc.v1.Options".to_owned(),
        value: options.write_to_bytes().unwrap(),
        ..Any::default()
    }
}

fn params() -> BootstrapParams {
    BootstrapParams {
        instance_id: "abc".to_owned(),
        namespace: "k8s.io".to_owned(),
        containerd_ttrpc_address: "/other.ttrpc".to_owned(),
        containerd_grpc_address: "/other".to_owned(),
        socket_dir: Some("/run/s".to_owned()),
        extensions: vec![Extension {
            value: Some(options("/shims")).into(),
            ..Extension::default()
        }],
        ..BootstrapParams::default()
    }
}

fn parse(input: &[u8]) -> StartRequest {
    StartRequest::parse(input, &flags(), &environment()).unwrap()
}

fn parse_params(params: &BootstrapParams) -> StartRequest {
    parse(&params.write_to_bytes().unwrap())
}

#[test]
fn bootstrap_params_get_a_bootstrap_result() {
    let request = parse_params(&params());

    assert_eq!(request.reply, Reply::Bootstrap);
    assert_eq!(request.ttrpc_address.as_deref(), Some("/other.ttrpc"));
    assert_eq!(request.grpc_address, "/other");
    assert_eq!(request.socket_dir.as_deref(), Some("/run/s"));
    assert_eq!(request.extensions, [options("/shims")]);
    let reply = BootstrapResult::parse_from_bytes(&request.reply.encode("unix:///a").unwrap());
    let reply = reply.unwrap();
    assert_eq!(
        (reply.version, &*reply.address, &*reply.protocol),
        (3, "unix:///a", "ttrpc")
    );
}

#[test]
fn nothing_sent_gets_the_bare_address() {
    let request = parse(&[]);

    assert_eq!(request.reply, Reply::Address);
    assert_eq!(request.ttrpc_address.as_deref(), Some(TTRPC));
    assert_eq!(request.grpc_address, GRPC);
    assert_eq!(request.reply.encode("unix:///a").unwrap(), b"unix:///a");
}

#[test]
fn options_alone_get_the_bare_address() {
    // The first decodes as BootstrapParams with both identity fields, the second with one.
    for any in [options("/shims"), options("")] {
        let request = parse(&any.write_to_bytes().unwrap());

        assert_eq!(request.reply, Reply::Address);
        assert_eq!(request.extensions, [any]);
    }
}

#[test]
fn an_address_left_out_of_the_params_is_taken_from_the_environment() {
    let mut params = params();
    params.containerd_ttrpc_address.clear();

    assert_eq!(parse_params(&params).ttrpc_address.as_deref(), Some(TTRPC));
}

#[test]
fn no_event_address_at_all_is_no_error() {
    let request = StartRequest::parse(&[], &flags(), &Environment::default()).unwrap();

    assert_eq!(request.ttrpc_address, None);
}

#[test]
fn params_for_another_shim_are_refused() {
    let mut params = params();
    params.instance_id = "other".to_owned();
    let input = params.write_to_bytes().unwrap();

    let error = StartRequest::parse(&input, &flags(), &environment()).unwrap_err();

    assert!(error.to_string().contains("k8s.io/other"), "{error}");
}

#[test]
fn garbage_is_refused_and_not_passed_over() {
    let refused = StartRequest::parse(b"certainly no protobuf", &flags(), &environment());

    assert!(matches!(refused, Err(Error::NotAny(_))), "{refused:?}");
}

#[test]
fn the_socket_directory_comes_from_the_environment_where_the_params_have_none() {
    let environment = Environment {
        socket_dir: "/tmp/s".to_owned(),
        ..Environment::default()
    };

    for socket_dir in [None, Some(String::new())] {
        let params = BootstrapParams {
            socket_dir,
            ..params()
        };
        let input = params.write_to_bytes().unwrap();
        let request = StartRequest::parse(&input, &flags(), &environment).unwrap();
        assert_eq!(request.socket_dir.as_deref(), Some("/tmp/s"));
    }
}

#[test]
fn the_debug_flag_only_makes_the_log_longer() {
    let debug = Flags {
        debug: true,
        ..flags()
    };
    for (wire, expected) in [
        (LogLevel::LOG_LEVEL_ERROR, LogLevel::LOG_LEVEL_DEBUG),
        (LogLevel::LOG_LEVEL_INFO, LogLevel::LOG_LEVEL_DEBUG),
        (LogLevel::LOG_LEVEL_TRACE, LogLevel::LOG_LEVEL_TRACE),
    ] {
        let params = BootstrapParams {
            log_level: EnumOrUnknown::new(wire),
            ..params()
        };
        let input = params.write_to_bytes().unwrap();
        let request = StartRequest::parse(&input, &debug, &environment()).unwrap();
        assert_eq!(request.log_level, expected);
    }
}

#[test]
fn input_beyond_the_cap_is_refused() {
    assert!(matches!(read_capped(io::repeat(0)), Err(Error::TooLong)));
    assert_eq!(read_capped(io::repeat(7).take(3)).unwrap(), [7; 3]);
}

#[test]
fn info_takes_options_or_nothing() {
    let any = options("/shims");

    assert_eq!(super::options(&[]).unwrap(), None);
    assert_eq!(
        super::options(&any.write_to_bytes().unwrap()).unwrap(),
        Some(any)
    );
    assert!(matches!(super::options(&[0xff]), Err(Error::NotAny(_))));
}
