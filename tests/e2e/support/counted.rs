//! A shim whose container counts, and has to run on whatever is done to it.

use containerd_shim_protos::api::Status;

use super::{
    counter::{Counter, assert_counts_from_zero},
    engine::Engine,
    host::Host,
    shim::Shim,
};

/// A running counter, and all that belongs to it.
#[derive(Debug)]
pub struct Counted {
    /// Where it lives.
    pub host: Host,
    /// Its shim.
    pub shim: Shim,
    /// What it counts.
    pub counter: Counter,
}

impl Counted {
    /// Starts a counter.
    pub fn start(engine: Engine) -> Self {
        let host = Host::new();
        let shim = host.shim(&host.counter("c"));
        shim.run(engine);
        Self::of(host, shim)
    }

    /// The counter that this shim runs, once it counts.
    pub fn of(host: Host, shim: Shim) -> Self {
        let counter = Counter::of(&shim.bundle);
        counter.await_progress(3);
        Self {
            host,
            shim,
            counter,
        }
    }

    /// Sees it count on, and ends it.
    pub fn runs_on(self) {
        assert_eq!(self.shim.status(), Status::RUNNING);
        self.counter.await_progress(3);
        assert_counts_from_zero(&self.counter.seen());
        self.shim.end();
    }
}
