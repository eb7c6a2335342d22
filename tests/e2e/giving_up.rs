//! A client that gives up, in the middle of what it asked for: the work ends all the same.

use containerd_shim_protos::api::Status;

use crate::support::{
    counted::Counted,
    engine::Engine,
    gate::Gate,
    host::Host,
    shim::Shim,
    wait::{SOON, until},
};

for_each_engine! {
    fn of_a_create_ends_it_properly_and_the_shim_knows_the_container(engine: Engine) {
        let gated = Gated::before(engine, "create");
        let Gated { gate, shim, .. } = &gated;
        let request = gate.create_request(shim);
        shim.cut_off(|task| task.create(shim.context(), &request), || gate.await_arrival());
        gated.serves_what_was_created();
    }
}

for_each_engine! {
    fn of_a_create_by_its_deadline_ends_it_properly_and_the_shim_knows_the_container(engine: Engine) {
        let gated = Gated::before(engine, "create");
        let Gated { gate, shim, .. } = &gated;
        let mut short = shim.context();
        short.timeout_nano = 300_000_000;
        shim.task().create(short, &gate.create_request(shim)).expect_err("the deadline has passed");
        gate.await_arrival();
        gated.serves_what_was_created();
    }
}

for_each_engine! {
    fn of_a_checkpoint_ends_it_properly_and_the_container_runs_on(engine: Engine) {
        let Gated { host, gate, shim } = Gated::before(engine, "checkpoint");
        shim.create(&gate.create_request(&shim)).expect("Create");
        shim.start().expect("Start");
        let counted = Counted::of(host, shim);
        let Counted { host, shim, .. } = &counted;
        let image = host.disk().join("image");
        let request = shim.checkpoint_request(&image, None);
        shim.cut_off(|task| task.checkpoint(shim.context(), &request), || gate.await_arrival());
        assert_eq!(shim.status(), Status::RUNNING, "State answers during a checkpoint");
        gate.open();
        until("the image is sealed", SOON, || image.join("stasis.json").is_file().then_some(()));
        counted.counter.await_progress(3);
        // The gate stands open now: the next one passes.
        shim.checkpoint(&host.disk().join("another"), None).expect("another Checkpoint");
        counted.runs_on();
    }
}

/// A shim for a counter, whose engine stops at a gate.
struct Gated {
    host: Host,
    gate: Gate,
    shim: Shim,
}

impl Gated {
    fn before(engine: Engine, verb: &str) -> Self {
        let host = Host::new();
        let gate = host.gated(engine, verb);
        let shim = host.shim(&host.counter("c"));
        Self { host, gate, shim }
    }

    /// Opens the gate, and starts the container that the shim then has.
    fn serves_what_was_created(self) {
        self.gate.open();
        until("the container is created", SOON, || {
            let status = self.shim.state().ok()?.status.enum_value().ok()?;
            (status == Status::CREATED).then_some(())
        });
        self.shim.start().expect("Start");
        Counted::of(self.host, self.shim).runs_on();
    }
}
