//! What gVisor's engine must not cost: resident processes, and files in the container's layers.

use std::fs;

use crate::support::{
    bundle::Bundle, containerd::Containerd, counter::Counter, host::Host, leftovers, wait::until_is,
};

for_each_gvisor! {
    fn a_running_container_holds_its_sandbox_its_gofer_and_the_shim_alone(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--detach --null-io {}", containerd.runtime(engine));
        containerd.run(&options, "c").args(&["sleep", "1000"]).ok();
        // A command that started the container may take a moment to be gone.
        let resident = ["containerd-shim-stasis-v1", "runsc-gofer", "runsc-sandbox"];
        until_is("the resident processes", &resident.map(str::to_owned).into(), || {
            let mut names: Vec<_> = without_descendants_of_the_sandbox(containerd.processes())
                .into_iter()
                .map(|(_, line)| program(&line))
                .collect();
            names.sort();
            names
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

/// The sandbox runs the container's code in processes of its own below it.
fn without_descendants_of_the_sandbox(mut all: Vec<(u32, String)>) -> Vec<(u32, String)> {
    let sandbox = all
        .iter()
        .find(|(_, line)| line.starts_with("runsc-sandbox"))
        .map(|(pid, _)| *pid);
    all.retain(|(pid, _)| {
        let mut ancestors =
            std::iter::successors(leftovers::parent(*pid), |p| leftovers::parent(*p));
        sandbox.is_none() || !ancestors.any(|ancestor| Some(ancestor) == sandbox)
    });
    all
}

/// The name by which a command line starts its program.
fn program(line: &str) -> String {
    let program = line.split(' ').next().unwrap_or_default();
    program.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Files of runsc's own in the container's writable layer.
fn filestores(bundle: &Bundle) -> Vec<String> {
    let entries = fs::read_dir(bundle.layers.join("upper")).expect("the layer is there");
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".gvisor")).collect()
}
