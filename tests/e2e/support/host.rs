//! A test that drives shims itself, as containerd would: its directories, its shims, its events.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};

use containerd_shim_protos::{
    bootstrap_api::{BootstrapParams, BootstrapResult, Extension},
    protobuf::{Message, MessageField, well_known_types::any::Any},
};

use super::{
    bundle::Bundle,
    command::{Output, Run},
    counter,
    engine::Engine,
    events::EventServer,
    gate::Gate,
    lab::{Lab, Release, lab},
    leftovers,
    script::write_script,
    shim::Shim,
    wait::SOON,
};

/// What a test has for itself. Dropping it fails the test if one of its shims left something.
#[derive(Debug)]
pub struct Host {
    lab: Lab,
    name: String,
    disk: PathBuf,
    /// What the shims publish.
    pub events: EventServer,
}

impl Host {
    /// Directories of its own, and an Events server.
    pub fn new() -> Self {
        let lab = lab();
        let name = lab.unique_name();
        let disk = lab.scratch(&name);
        fs::create_dir(Path::new("/run").join(&name)).expect("a new directory");
        let events = EventServer::listen(&disk.join("events.sock"));
        Self {
            lab,
            name,
            disk,
            events,
        }
    }

    /// The namespace of the test's containers.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// The containerd release beside which the engines and CRIU come.
    pub fn release(&self) -> Release {
        self.lab.release()
    }

    /// A directory on a disk that goes with the test.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// A bundle for a container of `command`.
    pub fn bundle(&self, id: &str, command: &[&str]) -> Bundle {
        Bundle::make(&self.name, &self.disk, id, command)
    }

    /// A bundle for a container that counts.
    pub fn counter(&self, id: &str) -> Bundle {
        self.bundle(id, &["sh", "-c", counter::SCRIPT])
    }

    /// Starts a shim for the bundle and connects to it.
    pub fn shim(&self, bundle: &Bundle) -> Shim {
        self.connect(
            bundle,
            self.start_command(bundle),
            self.bootstrap_params(bundle, None),
        )
    }

    /// The same where the PATH has nothing but these programs.
    pub fn shim_with_path(&self, bundle: &Bundle, programs: &[&str]) -> Shim {
        let directory = self.disk.join("path");
        fs::create_dir(&directory).expect("a new directory");
        for program in programs {
            let place = Run::new(&format!("which {program}")).ok();
            symlink(place.trim(), directory.join(program)).expect("a new link");
        }
        let start = self.start_command(bundle).env("PATH", &directory);
        self.connect(bundle, start, self.bootstrap_params(bundle, None))
    }

    /// The same where nobody listens for events.
    pub fn shim_without_events(&self, bundle: &Bundle) -> Shim {
        let absent = self.disk.join("nobody.sock");
        let start = self.start_command(bundle).env("TTRPC_ADDRESS", &absent);
        self.connect(
            bundle,
            start,
            self.params_with_events_to(bundle, &absent, None),
        )
    }

    fn connect(&self, bundle: &Bundle, start: Run, params: Vec<u8>) -> Shim {
        let started = start.stdin(params).run();
        started.ok();
        Shim::connect(&self.name, bundle, &bootstrap_result(&started).address)
    }

    /// The engine with a gate before one of its verbs.
    pub fn gated(&self, engine: Engine, verb: &str) -> Gate {
        Gate::before(&self.disk, engine, verb)
    }

    /// The engine as a program that needs no configuration.
    pub fn wrapped(&self, engine: Engine) -> PathBuf {
        let wrapper = self.disk.join(engine.binary());
        write_script(&wrapper, &engine.script());
        wrapper
    }

    /// The shim's `start` as containerd calls it, without its standard input.
    pub fn start_command(&self, bundle: &Bundle) -> Run {
        self.action(bundle, "start")
    }

    /// The shim's `delete` as containerd calls it.
    pub fn delete_command(&self, bundle: &Bundle) -> Run {
        self.action(
            bundle,
            &format!("-bundle {} delete", bundle.directory.display()),
        )
    }

    fn action(&self, bundle: &Bundle, action: &str) -> Run {
        let (shim, name, id, disk) = (self.lab.shim(), &self.name, &bundle.id, self.disk.display());
        let shim = shim.display();
        Run::new(&format!(
            "{shim} -namespace {name} -id {id} -address {disk}/containerd.sock -debug {action}"
        ))
        .directory(&bundle.directory)
        .env("TTRPC_ADDRESS", self.events_socket())
    }

    /// What containerd 2.3 and later write to `start`, with the options of the runtime.
    pub fn bootstrap_params(&self, bundle: &Bundle, options: Option<Any>) -> Vec<u8> {
        self.params_with_events_to(bundle, &self.events_socket(), options)
    }

    fn params_with_events_to(&self, bundle: &Bundle, to: &Path, options: Option<Any>) -> Vec<u8> {
        let extension = |any| Extension {
            value: MessageField::some(any),
            ..Extension::default()
        };
        let params = BootstrapParams {
            instance_id: bundle.id.clone(),
            namespace: self.name.clone(),
            containerd_ttrpc_address: to.display().to_string(),
            extensions: options.into_iter().map(extension).collect(),
            ..BootstrapParams::default()
        };
        params.write_to_bytes().expect("a message that is complete")
    }

    fn events_socket(&self) -> PathBuf {
        self.disk.join("events.sock")
    }

    fn print_logs(&self) {
        for file in leftovers::entries_of(&self.disk) {
            if file.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&file).unwrap_or_default();
                eprintln!("--- {}:\n{text}---", file.display());
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let leftovers = if thread::panicking() {
            Vec::new()
        } else {
            leftovers::after(SOON, || leftovers::of(&self.name))
        };
        if thread::panicking() || !leftovers.is_empty() {
            self.print_logs();
            leftovers::sweep(&self.name);
            assert!(
                leftovers.is_empty(),
                "left behind:\n{}",
                leftovers.join("\n")
            );
            return;
        }
        leftovers::remove_cgroup_parents(&self.name);
        fs::remove_dir_all(&self.disk).expect("nothing is mounted there");
        fs::remove_dir_all(Path::new("/run").join(&self.name)).expect("nothing is mounted there");
    }
}

/// The reply of `start` to BootstrapParams.
pub fn bootstrap_result(started: &Output) -> BootstrapResult {
    BootstrapResult::parse_from_bytes(&started.stdout)
        .unwrap_or_else(|error| panic!("not a BootstrapResult ({error}): {started}"))
}
