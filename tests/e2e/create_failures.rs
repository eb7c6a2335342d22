//! A Create that cannot be: the error says what, which value and what to do; nothing is left; no
//! exit is published; and the shim goes on serving.

use std::{fs, thread};

use containerd_shim_protos::{
    api::{CreateTaskRequest, Mount},
    protobuf::well_known_types::any::Any,
    ttrpc::Code,
};

use crate::support::{
    counted::Counted,
    engine::Engine,
    events::topics,
    host::Host,
    leftovers,
    options::{config_file, inline},
    script::write_script,
    shim::{Shim, refused},
};

#[test]
#[ignore = "needs the lab: make test"]
fn of_a_bundle_without_config_json_names_the_file() {
    let broken = Broken::new();
    let config = broken.shim.bundle.directory.join("config.json");
    fs::remove_file(&config).expect("the bundle has one");
    let message = broken.is_refused(&broken.request(), None);
    assert!(
        message.contains(config.to_str().expect("ASCII")),
        "{message}"
    );
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_a_config_json_that_is_no_json_names_the_file() {
    let broken = Broken::new();
    let config = broken.shim.bundle.directory.join("config.json");
    fs::write(&config, "{\"ociVersion\": ").expect("room");
    let message = broken.is_refused(&broken.request(), None);
    assert!(
        message.contains(config.to_str().expect("ASCII")),
        "{message}"
    );
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_a_runtime_binary_that_is_missing_names_it() {
    let broken = Broken::new();
    let request = broken.with_config("binary_name = \"no-such-runtime\"");
    let message = broken.is_refused(&request, None);
    assert!(message.contains("no-such-runtime"), "{message}");
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_a_runtime_binary_that_is_not_executable_names_it() {
    let broken = Broken::new();
    let binary = broken.host.disk().join("plain-file");
    fs::write(&binary, "#!/bin/sh\n").expect("room");
    let request = broken.with_config(&format!("binary_name = {binary:?}"));
    let message = broken.is_refused(&request, None);
    assert!(
        message.contains(binary.to_str().expect("ASCII")),
        "{message}"
    );
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_a_runtime_binary_that_is_no_engine_names_it() {
    let broken = Broken::new();
    let binary = broken.host.disk().join("not-an-engine");
    write_script(&binary, "echo 'sendmail 8.18'");
    let request = broken.with_config(&format!("binary_name = {binary:?}"));
    let message = broken.is_refused(&request, None);
    assert!(
        message.contains(binary.to_str().expect("ASCII")),
        "{message}"
    );
}

for_each_engine! {
    fn with_a_runtime_that_hangs_ends_at_the_deadline_and_names_it(engine: Engine) {
        let broken = Broken::new();
        let gate = broken.host.gated(engine, "create");
        let mut request = gate.create_request(&broken.shim);
        let config = gate.config("timeouts.create = \"2s\"");
        request.options = Some(inline(&config)).into();
        let message = broken.is_refused(&request, Some(Code::DEADLINE_EXCEEDED));
        assert!(message.contains("2s"), "{message}");
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn whose_second_rootfs_mount_fails_undoes_the_first_and_names_the_second() {
    let broken = Broken::new();
    let mut request = broken.request();
    request.rootfs.push(Mount {
        type_: "ext4".into(),
        source: "/dev/no-such-disk".into(),
        ..Mount::default()
    });
    let message = broken.is_refused(&request, None);
    assert!(message.contains("/dev/no-such-disk"), "{message}");
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_options_of_an_unknown_type_names_the_type() {
    let broken = Broken::new();
    let mut request = broken.request();
    request.options = Some(Any {
        type_url: "example.com/Options".into(),
        ..Any::default()
    })
    .into();
    let message = broken.is_refused(&request, Some(Code::INVALID_ARGUMENT));
    assert!(message.contains("example.com/Options"), "{message}");
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_an_unknown_key_of_the_configuration_names_the_key() {
    let broken = Broken::new();
    let request = broken.with_config("binary_nmae = \"runc\"");
    let message = broken.is_refused(&request, Some(Code::INVALID_ARGUMENT));
    assert!(message.contains("binary_nmae"), "{message}");
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_a_key_that_asks_for_what_we_have_not_names_the_key() {
    for key in ["grouping", "enable_hibernate_server"] {
        let broken = Broken::new();
        let request = broken.with_config(&format!("{key} = true"));
        let message = broken.is_refused(&request, None);
        assert!(message.contains(key), "{message}");
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_a_configuration_file_that_is_not_there_names_it() {
    let broken = Broken::new();
    let file = broken.host.disk().join("absent.toml");
    let mut request = broken.request();
    request.options = Some(config_file(&file)).into();
    let message = broken.is_refused(&request, None);
    assert!(message.contains(file.to_str().expect("ASCII")), "{message}");
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_a_terminal_is_unimplemented_by_name() {
    let broken = Broken::new();
    let request = CreateTaskRequest {
        terminal: true,
        ..broken.request()
    };
    let message = broken.is_refused(&request, Some(Code::UNIMPLEMENTED));
    assert!(message.contains("terminal"), "{message}");
}

#[test]
#[ignore = "needs the lab: make test"]
fn with_output_to_a_file_or_a_program_is_unimplemented_by_name() {
    for scheme in ["file", "binary", "binary-v2"] {
        let broken = Broken::new();
        let stdout = format!("{scheme}:///usr/bin/true");
        let request = CreateTaskRequest {
            stdout,
            ..broken.request()
        };
        let message = broken.is_refused(&request, Some(Code::UNIMPLEMENTED));
        assert!(message.contains(&format!("{scheme}://")), "{message}");
    }
}

for_each_engine! {
    fn with_a_command_that_is_not_there_fails_and_names_it(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.bundle("c", &["/no/such/command"]));
        let created = shim.create(&shim.create_request(engine));
        // runc and gVisor look at Create, or at Start: both are theirs to choose.
        let error = match created.and_then(|_| shim.start()) {
            Err(error) => error.to_string(),
            Ok(pid) => panic!("started as {pid}"),
        };
        assert!(error.contains("/no/such/command"), "{error}");
        if shim.state().is_ok() {
            shim.wait().expect("Wait does not hang");
            shim.delete().expect("Delete");
        }
        shim.shut_down();
    }
}

for_each_engine! {
    fn a_second_time_with_the_same_id_is_refused_and_the_first_runs_on(engine: Engine) {
        let counted = Counted::start(engine);
        let again = counted.shim.create(&counted.shim.create_request(engine));
        let message = refused(again, Code::ALREADY_EXISTS);
        assert!(message.contains("\"c\"") || message.contains(" c "), "{message}");
        counted.runs_on();
    }
}

/// A shim that has to refuse what it is asked.
struct Broken {
    host: Host,
    shim: Shim,
}

impl Broken {
    fn new() -> Self {
        let host = Host::new();
        let shim = host.shim(&host.bundle("c", &["true"]));
        Self { host, shim }
    }

    fn request(&self) -> CreateTaskRequest {
        self.shim.create_request(Engine::Runc)
    }

    fn with_config(&self, config: &str) -> CreateTaskRequest {
        CreateTaskRequest {
            options: Some(inline(config)).into(),
            ..self.request()
        }
    }

    /// The message of the refusal, after which nothing is left and a good request succeeds.
    #[track_caller]
    fn is_refused(&self, request: &CreateTaskRequest, code: Option<Code>) -> String {
        let result = self.shim.create(request);
        let message = match code {
            Some(code) => refused(result, code),
            None => result
                .expect_err("a Create that must be refused")
                .to_string(),
        };
        refused(self.shim.state(), Code::NOT_FOUND);
        let mut left = leftovers::of(self.host.namespace());
        left.retain(|line| !line.starts_with(&format!("process {}:", self.shim.pid())));
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        assert_eq!(topics(&self.host.events.all()), Vec::<&str>::new());
        message
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.shim.ask_to_shut_down();
        }
    }
}
