//! Checkpoint and restore of a container that counts: no number is lost, doubled or run backwards.
//!
//! Through ctr, as people do it, and into a directory and back through the task service, which
//! no client of containerd's can ask for. What goes wrong is in `checkpoint_failures` and
//! `restore_failures`.

use containerd_shim_protos::{api::Status, shim::oci::CheckpointOptions};

use crate::support::{
    containerd::{Containerd, RUNC_V2},
    counter::{Counter, assert_counts_from_zero},
    engine::Engine,
    host::Host,
    lab::Release,
    options::pack,
};

for_each_engine! {
    /// The rw layer and the memory are of the same moment: `/numbers` shows it.
    fn a_counter_survives_round_after_round_of_c_checkpoint_and_c_restore(engine: Engine) {
        let containerd = Containerd::start();
        let counter = Counter::start(&containerd, &containerd.runtime(engine), "c");
        let rounds = if containerd.release() == Release::V1_7 { 3 } else { 20 };
        for round in 1..=rounds {
            let image = format!("checkpoint/c:{round}");
            counter.await_progress(3);
            containerd.ctr(&format!("container checkpoint --rw --image --task c {image}")).ok();
            // The checkpoint left it running.
            counter.await_progress(1);
            containerd.remove("c");
            containerd.ctr(&format!("container restore --rw --live c {image}")).ok();
            counter.await_progress(3);
            assert_counts_from_zero(&counter.inside(&containerd));
            // 1.7 refuses to store the same blob for a second checkpoint.
            containerd.ctr(&format!("image rm --sync {image}")).ok();
        }
        containerd.remove("c");
    }
}

for_each_engine! {
    fn a_counter_survives_twenty_ends_by_checkpoint_and_restores_from_the_directory(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let counter = Counter::of(&bundle);
        let mut shim = host.shim(&bundle);
        shim.run(engine);
        for round in 1..=20 {
            counter.await_progress(3);
            let image = host.disk().join(format!("image-{round}"));
            shim.checkpoint(&image, Some(pack(&exit()))).expect("Checkpoint");
            assert_eq!(shim.wait().expect("Wait"), 137);
            let ended_at = counter.seen().len();
            assert_eq!(shim.delete().expect("Delete"), 137);
            shim.shut_down();

            shim = host.shim(&bundle.make_again(host.disk()));
            let mut request = shim.create_request(engine);
            request.checkpoint = image.display().to_string();
            assert_eq!(shim.create(&request).expect("Create"), 0, "nothing runs before Start");
            assert_eq!(shim.status(), Status::CREATED);
            assert_eq!(counter.seen().len(), ended_at, "nothing counts before Start");
            assert_ne!(shim.start().expect("Start"), 0);
        }
        counter.await_progress(3);
        assert_counts_from_zero(&counter.seen());
        shim.end();
    }
}

for_each_engine! {
    fn a_task_checkpoint_leaves_the_container_running(engine: Engine) {
        let containerd = Containerd::start();
        let counter = Counter::start(&containerd, &containerd.runtime(engine), "c");
        counter.await_progress(3);
        let printed = containerd.ctr("task checkpoint c").ok();
        assert!(printed.starts_with("containerd.io/checkpoint/c:"), "ctr printed {printed}");
        counter.await_progress(3);
        assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
        containerd.remove("c");
        assert_counts_from_zero(&counter.seen());
    }
}

for_each_engine! {
    fn a_task_checkpoint_with_an_image_path_leaves_a_sealed_image_there(engine: Engine) {
        let (containerd, runtime) = told_options(engine);
        let counter = Counter::start(&containerd, &runtime, "c");
        counter.await_progress(3);
        let image = containerd.directory().join("image");
        containerd.ctr(&format!("task checkpoint --image-path {} c", image.display())).ok();
        assert!(image.join("stasis.json").is_file(), "the image is not sealed");
        counter.await_progress(3);
        containerd.remove("c");
        assert_counts_from_zero(&counter.seen());
    }
}

for_each_engine! {
    fn a_task_checkpoint_with_exit_stops_the_container_and_it_can_be_deleted(engine: Engine) {
        let (containerd, runtime) = told_options(engine);
        let counter = Counter::start(&containerd, &runtime, "c");
        counter.await_progress(3);
        let image = containerd.directory().join("image");
        containerd.ctr(&format!("task checkpoint --exit --image-path {} c", image.display())).ok();
        assert!(image.join("stasis.json").is_file(), "the image is not sealed");
        containerd.await_status("c", "STOPPED");
        containerd.delete_stopped("c", 137);
        containerd.ctr("container delete c").ok();
        assert_counts_from_zero(&counter.seen());
    }
}

for_each_engine! {
    /// The client pauses the task before it asks for the checkpoint, and resumes it afterwards.
    fn an_end_by_checkpoint_of_a_paused_container_is_whole_and_resume_is_harmless(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        Counter::of(&bundle).await_progress(3);
        shim.pause().expect("Pause");
        shim.checkpoint(&host.disk().join("image"), Some(pack(&exit()))).expect("Checkpoint");
        assert_eq!(shim.wait().expect("Wait"), 137);
        shim.resume().expect("Resume of a container that its checkpoint has ended");
        assert_eq!(shim.status(), Status::STOPPED);
        assert_eq!(shim.delete().expect("Delete"), 137);
        shim.shut_down();
    }
}

for_each_engine! {
    fn a_paused_container_stays_paused_through_its_checkpoint(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let counter = Counter::of(&bundle);
        let shim = host.shim(&bundle);
        shim.run(engine);
        counter.await_progress(3);
        shim.pause().expect("Pause");
        let paused_at = counter.seen().len();
        shim.checkpoint(&host.disk().join("image"), None).expect("Checkpoint");
        assert_eq!(shim.status(), Status::PAUSED);
        assert_eq!(counter.seen().len(), paused_at);
        shim.resume().expect("Resume");
        counter.await_progress(3);
        assert_counts_from_zero(&counter.seen());
        shim.end();
    }
}

for_each_engine! {
    /// As every Go client does after a restore: look, look inside, pause, dump again.
    fn a_restored_container_can_do_what_a_started_one_can(engine: Engine) {
        let containerd = Containerd::start();
        let counter = Counter::start(&containerd, &containerd.runtime(engine), "c");
        counter.await_progress(3);
        containerd.ctr("container checkpoint --rw --image --task c checkpoint/c:1").ok();
        containerd.remove("c");
        containerd.ctr("container restore --rw --live c checkpoint/c:1").ok();
        assert_eq!(containerd.ctr("task exec --exec-id e c echo in").ok(), "in\n");
        containerd.ctr("task exec --exec-id e c").args(&["sh", "-c", "exit 3"]).exits(3);
        assert!(containerd.ctr("task ps c").ok().lines().count() >= 2);
        containerd.ctr("task pause c").ok();
        assert_eq!(containerd.status("c").as_deref(), Some("PAUSED"));
        containerd.ctr("task resume c").ok();
        counter.await_progress(3);
        containerd.remove("c");
    }
}

fn exit() -> CheckpointOptions {
    CheckpointOptions {
        exit: true,
        ..CheckpointOptions::default()
    }
}

/// A containerd, and options of `ctr run`, with which `ctr task checkpoint` sends its options:
/// that of 1.7 does so only to the stock shim's name.
fn told_options(engine: Engine) -> (Containerd, String) {
    let containerd = Containerd::start_with_drop_in();
    let runtime = if containerd.release() == Release::V1_7 {
        let binary = containerd.binary(engine);
        format!("--runtime {RUNC_V2} --runc-binary {}", binary.display())
    } else {
        containerd.runtime(engine)
    };
    (containerd, runtime)
}
