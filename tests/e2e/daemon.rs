//! containerd or the shim is killed with SIGKILL while containers run.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    containerd::Containerd,
    counter::{Counter, assert_counts_from_zero},
    wait::{SOON, until},
};

for_each_engine! {
    fn after_containerds_death_the_container_runs_on_and_obeys_the_next_containerd(engine: Engine) {
        let mut containerd = Containerd::start();
        let counter = Counter::start(&containerd, &containerd.runtime(engine), "c");
        let pid = containerd.pid("c");
        containerd.kill();
        counter.await_progress(3);
        containerd.start_again();
        assert_eq!(containerd.status("c").as_deref(), Some("RUNNING"));
        assert_eq!(containerd.pid("c"), pid);
        assert_eq!(containerd.ctr("task exec --exec-id e c echo still here").ok(), "still here\n");
        counter.await_progress(3);
        assert_counts_from_zero(&counter.seen());
        containerd.remove("c");
    }
}

for_each_engine! {
    fn an_exit_while_containerd_is_dead_is_reported_by_the_next(engine: Engine) {
        let mut containerd = Containerd::start();
        let go = containerd.directory().join("data");
        std::fs::create_dir(&go).expect("a new directory");
        let mount = format!("type=bind,src={},dst=/data,options=rbind:rw", go.display());
        let options = format!("--detach --null-io --mount {mount} {}", containerd.runtime(engine));
        let script = "until [ -e /data/go ]; do sleep 0.05; done; exit 42";
        containerd.run(&options, "c").args(&["sh", "-c", script]).ok();
        let pid = containerd.pid("c");
        containerd.kill();
        std::fs::write(go.join("go"), "").expect("room");
        until("the container has ended", SOON, || {
            (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        containerd.start_again();
        containerd.await_status("c", "STOPPED");
        containerd.delete_stopped("c", 42);
        containerd.ctr("container delete c").ok();
    }
}

for_each_engine! {
    fn an_exit_after_containerds_return_is_reported(engine: Engine) {
        let mut containerd = Containerd::start();
        let counter = Counter::start(&containerd, &containerd.runtime(engine), "c");
        containerd.kill();
        containerd.start_again();
        counter.await_progress(3);
        containerd.remove("c");
    }
}

for_each_engine! {
    fn a_checkpoint_after_containerds_return_and_a_restore_work(engine: Engine) {
        let mut containerd = Containerd::start();
        let counter = Counter::start(&containerd, &containerd.runtime(engine), "c");
        containerd.kill();
        containerd.start_again();
        counter.await_progress(3);
        containerd.ctr("container checkpoint --rw --image --task c checkpoint/c:1").ok();
        containerd.remove("c");
        containerd.ctr("container restore --rw --live c checkpoint/c:1").ok();
        counter.await_progress(3);
        assert_counts_from_zero(&counter.inside(&containerd));
        containerd.remove("c");
    }
}

for_each_engine! {
    /// containerd runs the shim's `delete`; what is left of it all, the fixture looks for.
    fn after_the_shims_death_nothing_is_left_and_the_id_is_free(engine: Engine) {
        let containerd = Containerd::start();
        let counter = Counter::start(&containerd, &containerd.runtime(engine), "c");
        counter.await_progress(3);
        kill_shim(&containerd);
        until("the task has gone or is stopped", SOON, || {
            containerd.status("c").is_none_or(|status| status == "STOPPED").then_some(())
        });
        // A task that is already gone is an error of ctr's.
        containerd.ctr("task delete c").run();
        // containerd takes a bundle away after the shim's `delete`, and refuses the id till then.
        until("all of the task has gone", SOON, || {
            containerd.leftovers().is_empty().then_some(())
        });
        containerd.ctr("container delete c").ok();
        let options = format!("--rm {}", containerd.runtime(engine));
        assert_eq!(containerd.run(&options, "c").args(&["echo", "again"]).ok(), "again\n");
    }
}

fn kill_shim(containerd: &Containerd) {
    let shims = containerd.shims();
    assert_eq!(shims.len(), 1, "one shim for one container");
    let pid = i32::try_from(shims[0])
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    kill_process(pid, Signal::KILL).expect("the shim is running");
}
