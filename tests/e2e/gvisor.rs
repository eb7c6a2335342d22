//! What gVisor's engine must not cost: resident processes, and files in the container's layers.

use std::fs;

use crate::support::{
    bundle::Bundle,
    containerd::Containerd,
    counter::Counter,
    host::Host,
    wait::{SOON, until},
};

for_each_gvisor! {
    fn a_running_container_holds_its_sandbox_its_gofer_and_the_shim_alone(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--detach --null-io {}", containerd.runtime(engine));
        containerd.run(&options, "c").args(&["sleep", "1000"]).ok();
        let resident = ["containerd-shim", "runsc-gofer", "runsc-sandbox"];
        let mut seen = Vec::new();
        // A command that started the container may take a moment to be gone.
        until("only the resident processes are left", SOON, || {
            seen = containerd.processes();
            let all_known = seen.len() == resident.len()
                && resident.iter().all(|name| seen.iter().any(|(_, line)| line.contains(name)));
            all_known.then_some(())
        });
        containerd.remove("c");
    }
}

for_each_gvisor! {
    /// With runsc's default, a sparse gigabyte in the rw layer goes into every image of it.
    fn no_filestore_is_in_the_rw_layer_during_or_after_a_checkpoint(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        Counter::of(&bundle).await_progress(3);
        assert_eq!(filestores(&bundle), Vec::<String>::new());
        shim.checkpoint(&host.disk().join("image"), None).expect("Checkpoint");
        assert_eq!(filestores(&bundle), Vec::<String>::new());
        shim.end();
        assert_eq!(filestores(&bundle), Vec::<String>::new());
    }
}

for_each_gvisor! {
    fn a_filestore_that_another_shim_left_does_not_stop_a_create(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        fs::write(bundle.layers.join("upper/.gvisor.filestore.c"), "theirs").expect("room");
        let shim = host.shim(&bundle);
        shim.run(engine);
        Counter::of(&bundle).await_progress(3);
        shim.end();
    }
}

/// Files of runsc's own in the container's writable layer.
fn filestores(bundle: &Bundle) -> Vec<String> {
    let entries = fs::read_dir(bundle.layers.join("upper")).expect("the layer is there");
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".gvisor")).collect()
}
