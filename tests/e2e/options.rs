//! The options of the runtime as containerd's clients send them, under any of our names.

use std::fs;

use containerd_shim_protos::{api::CreateTaskRequest, shim::oci::Options};

use crate::support::{
    cgroup::Cgroup,
    containerd::{Containerd, RUNC_V2, STASIS},
    engine::Engine,
    host::Host,
    options::{config_file, pack},
    wait::until_is,
};

for_each_engine! {
    /// `nerdctl run --runtime runsc` means io.containerd.runc.v2 with the binary runsc.
    fn runc_options_choose_any_engine_where_we_stand_in_for_the_stock_shim(engine: Engine) {
        let containerd = Containerd::start_with_drop_in();
        let binary = containerd.binary(engine);
        let options = format!("--rm --runtime {RUNC_V2} --runc-binary {}", binary.display());
        assert_eq!(containerd.run(&options, "c").args(&["echo", "hello"]).ok(), "hello\n");
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn without_options_each_name_has_its_own_engine() {
    let containerd = Containerd::start_with_drop_in();
    for (runtime, is_gvisor) in [(STASIS, true), (RUNC_V2, false)] {
        let options = format!("--rm --runtime {runtime}");
        // Under runc dmesg fails, in a container that runs.
        let script = ["sh", "-c", "dmesg; echo ran"];
        let messages = containerd.run(&options, "c").args(&script).ok();
        assert!(messages.ends_with("ran\n"), "{runtime}: {messages}");
        assert_eq!(
            messages.contains("gVisor"),
            is_gvisor,
            "{runtime}: {messages}"
        );
    }
}

for_each_engine! {
    fn runc_options_give_the_root_and_the_owner_of_the_streams(engine: Engine) {
        let host = Host::new();
        let bundle = host.bundle("c", &["sleep", "1000"]);
        let shim = host.shim(&bundle);
        let root = host.disk().join("engine-root");
        let binary = host.wrapped(engine);
        let options = Options {
            binary_name: binary.display().to_string(),
            root: root.display().to_string(),
            io_uid: 1000,
            io_gid: 1000,
            ..Options::default()
        };
        let request = CreateTaskRequest {
            options: Some(pack(&options)).into(),
            ..shim.create_request(engine)
        };
        shim.create(&request).expect("Create");
        shim.start().expect("Start");
        let state = root.join(host.namespace());
        let kept = fs::read_dir(&state).map_or(0, Iterator::count);
        assert!(kept > 0, "nothing in {}", state.display());
        shim.end();
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn the_example_configuration_works_as_it_is() {
    let host = Host::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/config.toml");
    let shim = host.shim(&host.bundle("c", &["true"]));
    let request = CreateTaskRequest {
        options: Some(config_file(example.as_ref())).into(),
        ..shim.create_request(Engine::Runsc)
    };
    shim.create(&request).expect("Create");
    shim.start().expect("Start");
    assert_eq!(shim.wait().expect("Wait"), 0);
    assert_eq!(shim.delete().expect("Delete"), 0);
    shim.shut_down();
}

#[test]
#[ignore = "needs the lab: make test"]
fn the_shim_joins_the_cgroup_that_the_options_name() {
    let containerd = Containerd::start();
    let name = format!("shims-{}", containerd.namespace());
    let cgroup = Cgroup::make(&name);
    // Known to `start` only where containerd passes the options to it, and to Create always.
    let config = format!("shim_cgroup = \"/{name}\"");
    let runtime = containerd.runtime_with(Engine::Runc, &config);
    let options = format!("--detach --null-io {runtime}");
    containerd.run(&options, "c").args(&["sleep", "1000"]).ok();
    // A command that started the container may take a moment to be gone.
    until_is("the processes in the cgroup", &containerd.shims(), || {
        cgroup.processes()
    });
    containerd.remove("c");
}
