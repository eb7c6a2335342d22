//! What a running container costs in processes.

use crate::support::{
    containerd::Containerd,
    wait::{SOON, until},
};

for_each_gvisor! {
    fn a_running_container_holds_its_sandbox_its_gofer_and_the_shim(engine: Engine) {
        let containerd = Containerd::start();
        let options = format!("--detach --null-io {}", containerd.runtime(engine));
        containerd.run(&options, "c").args(&["sleep", "1000"]).ok();
        let wanted = ["containerd-shim", "runsc-gofer", "runsc-sandbox"];
        // A command that started the container may take a moment to be gone.
        until("only the resident processes are left", SOON, || {
            let mut lines: Vec<_> = containerd.processes().into_iter().map(|(_, line)| line).collect();
            // A sandbox's own processes: stubs of systrap have its command line.
            lines.sort();
            eprintln!("{lines:#?}");
            let all = lines.len() == wanted.len();
            (all && lines.iter().zip(wanted).all(|(line, name)| line.contains(name))).then_some(())
        });
        containerd.remove("c");
    }
}
