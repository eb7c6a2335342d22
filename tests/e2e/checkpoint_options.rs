//! The options of a checkpoint: from the request, from the configuration, kept in the image.

use std::path::Path;

use containerd_shim_protos::{api::CreateTaskRequest, shim::oci::CheckpointOptions, ttrpc::Code};
use serde_json::{Value, json};

use crate::support::{
    bundle::Bundle,
    counter::{Counter, assert_counts_from_zero},
    host::Host,
    lab::Release,
    mounted::NetworkNamespace,
    options::{inline, pack},
    shim::refused,
};

/// A server and a client in the container, with an established connection between them: the
/// counter counts what has gone through it. Both ends are blocking reads and writes: a dump
/// interrupts poll(2), and busybox's nc ends at that.
const CONVERSATION: &str = "nc -l -p 7777 -e sh -c 'cat >> /data/numbers' & \
     until grep -q :1E61 /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done; \
     exec nc 127.0.0.1 7777 -e sh -c \
     'i=0; while :; do echo $i; sleep 0.05; i=$((i+1)); done'";

for_each_criu_engine! {
    fn established_tcp_connections_survive_where_the_request_opens_them(engine: Engine) {
        let host = Host::new();
        let network = NetworkNamespace::add(host.namespace());
        let bundle = conversation(&host, &network);
        let counter = Counter::of(&bundle);
        let shim = host.shim(&bundle);
        shim.run(engine);
        counter.await_progress(3);

        let closed = shim.checkpoint(&host.disk().join("closed"), None);
        let message = closed.expect_err("connections that nobody opened").to_string();
        assert!(message.contains("TCP"), "{message}");
        counter.await_progress(3);

        let image = host.disk().join("image");
        let options = CheckpointOptions { exit: true, open_tcp: true, ..Default::default() };
        let dumped = shim.checkpoint(&image, Some(pack(&options)));
        if host.release() == Release::V1_7 && dumped.is_err() {
            // CRIU 4.1.1, which comes with it, asks TCP sockets for SO_PASSCRED (1:16): kernels
            // from 6.16 on refuse that. Then this is left of the claim.
            let message = dumped.expect_err("as seen").to_string();
            assert!(message.contains("1:16 opt: Operation not supported"), "{message}");
            counter.await_progress(3);
            return shim.end();
        }
        dumped.expect("Checkpoint");
        assert_eq!(shim.wait().expect("Wait"), 137);
        shim.delete().expect("Delete");
        shim.shut_down();
        assert_eq!(sealed(&image)["options"]["tcp_established"], true);

        // Nobody tells the restore: it is in the image.
        let shim = host.shim(&bundle.make_again(host.disk()));
        let checkpoint = image.display().to_string();
        shim.create(&CreateTaskRequest { checkpoint, ..shim.create_request(engine) })
            .expect("Create");
        shim.start().expect("Start");
        counter.await_progress(3);
        assert_counts_from_zero(&counter.seen());
        shim.end();
    }
}

for_each_criu_engine! {
    fn what_the_request_does_not_say_comes_from_the_configuration(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        let config = format!("{}\n[checkpoint]\nfile_locks = true\n", engine.config(""));
        let options = Some(inline(&config)).into();
        shim.create(&CreateTaskRequest { options, ..shim.create_request(engine) }).expect("Create");
        shim.start().expect("Start");
        Counter::of(&shim.bundle).await_progress(3);
        let image = host.disk().join("image");
        let options = CheckpointOptions { terminal: true, ..Default::default() };
        shim.checkpoint(&image, Some(pack(&options))).expect("Checkpoint");
        let seal = sealed(&image);
        assert_eq!(seal["options"]["file_locks"], true, "{seal}");
        assert_eq!(seal["options"]["shell_job"], true, "{seal}");
        assert_eq!(seal["options"]["cgroup_mode"], "ignore", "{seal}");
        shim.end();
    }
}

for_each_criu_engine! {
    fn namespaces_to_be_emptied_are_known_or_refused_by_name(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        Counter::of(&shim.bundle).await_progress(3);
        let empty = |name: &str| {
            let empty_namespaces = vec![name.to_owned()];
            Some(pack(&CheckpointOptions { empty_namespaces, ..Default::default() }))
        };
        let network = shim.checkpoint(&host.disk().join("network"), empty("network"));
        if engine == Engine::Runc {
            network.expect("runc can empty a network namespace");
        } else {
            let message = network.expect_err("crun cannot").to_string();
            assert!(message.contains("empty_namespaces"), "{message}");
        }
        let pid = shim.checkpoint(&host.disk().join("pid"), empty("pid"));
        let message = pid.expect_err("no runtime can").to_string();
        assert!(message.contains("empty_namespaces"), "{message}");
        shim.end();
    }
}

for_each_engine! {
    fn a_cgroup_mode_that_does_not_exist_is_refused_by_its_value(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        let options = CheckpointOptions { cgroups_mode: "gentle".into(), ..Default::default() };
        let result = shim.checkpoint(&host.disk().join("image"), Some(pack(&options)));
        let message = refused(result, Code::INVALID_ARGUMENT);
        assert!(message.contains("gentle"), "{message}");
        shim.end();
    }
}

for_each_engine! {
    fn the_seal_tells_the_engine_every_files_size_and_phases_that_add_up(engine: Engine) {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        Counter::of(&shim.bundle).await_progress(3);
        let image = host.disk().join("image");
        shim.checkpoint(&image, None).expect("Checkpoint");
        let seal = sealed(&image);
        let kind = if engine.is_gvisor() { "runsc" } else { engine.binary() };
        assert_eq!(seal["engine"], kind);
        for (name, file) in seal["files"].as_object().expect("files by name") {
            let size = std::fs::metadata(image.join(name)).expect("a file of the image").len();
            assert_eq!(file["size"], size, "{name}");
        }
        let phases = seal["phases"].as_object().expect("phases by name").values();
        let sum: f64 = phases.map(|phase| phase.as_f64().expect("milliseconds")).sum();
        let total = seal["total"].as_f64().expect("milliseconds");
        assert!((sum - total).abs() < 0.1, "{sum} and {total}: {seal}");
        shim.end();
    }
}

fn sealed(image: &Path) -> Value {
    let text = std::fs::read(image.join("stasis.json")).expect("the image is sealed");
    serde_json::from_slice(&text).expect("JSON")
}

/// A container in this network namespace that talks to itself.
fn conversation(host: &Host, network: &NetworkNamespace) -> Bundle {
    let bundle = host.bundle("c", &["sh", "-c", CONVERSATION]);
    bundle.edit_spec(|spec| {
        let namespaces = spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("ctr gives some");
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "network", "path": network.path() }));
    });
    bundle
}
