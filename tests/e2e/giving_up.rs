//! A client that gives up, in the middle of what it asked for: the work ends all the same.

use containerd_shim_protos::api::Status;

use crate::support::{
    counter::{Counter, assert_counts_from_zero},
    host::Host,
    wait::{SOON, until},
};

for_each_engine! {
    fn of_a_create_ends_it_properly_and_the_shim_knows_the_container(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let gate = host.gated(engine, "create");
        let shim = host.shim(&bundle);
        let request = gate.create_request(&shim);
        shim.cut_off(|task| task.create(shim.context(), &request), || gate.await_arrival());
        gate.open();
        until("the container is created", SOON, || {
            let status = shim.state().ok()?.status.enum_value().ok()?;
            (status == Status::CREATED).then_some(())
        });
        shim.start().expect("Start");
        Counter::of(&bundle).await_progress(3);
        shim.end();
    }
}

for_each_engine! {
    fn of_a_create_by_its_deadline_ends_it_properly_and_the_shim_knows_the_container(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let gate = host.gated(engine, "create");
        let shim = host.shim(&bundle);
        let mut short = shim.context();
        short.timeout_nano = 300_000_000;
        shim.task().create(short, &gate.create_request(&shim)).expect_err("the deadline has passed");
        gate.await_arrival();
        gate.open();
        until("the container is created", SOON, || {
            let status = shim.state().ok()?.status.enum_value().ok()?;
            (status == Status::CREATED).then_some(())
        });
        shim.start().expect("Start");
        Counter::of(&bundle).await_progress(3);
        shim.end();
    }
}

for_each_engine! {
    fn of_a_checkpoint_ends_it_properly_and_the_container_runs_on(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let gate = host.gated(engine, "checkpoint");
        let shim = host.shim(&bundle);
        shim.create(&gate.create_request(&shim)).expect("Create");
        shim.start().expect("Start");
        let counter = Counter::of(&bundle);
        counter.await_progress(3);
        let image = host.disk().join("image");
        let request = shim.checkpoint_request(&image, None);
        shim.cut_off(|task| task.checkpoint(shim.context(), &request), || gate.await_arrival());
        assert_eq!(shim.status(), Status::RUNNING, "State answers during a checkpoint");
        gate.open();
        until("the image is sealed", SOON, || image.join("stasis.json").is_file().then_some(()));
        counter.await_progress(3);
        assert_counts_from_zero(&counter.seen());
        // The gate stands open now: the next one passes.
        shim.checkpoint(&host.disk().join("another"), None).expect("another Checkpoint");
        shim.end();
    }
}
