//! The events of the tasks, on their way to containerd.
//!
//! Contract: [`Publisher::publish`] never waits and never fails; events leave in the order in
//! which they were published, over a containerd that goes away and comes back. What containerd
//! does not take within a minute is dropped, with a line in the log. With nothing to send there
//! is no timer and, before the first event, no connection.
//!
//! containerd-shim 0.12 has a publisher, which is not used: it cannot start without containerd,
//! retries in tasks of their own, so that order is lost, and its `publish` waits when the queue
//! is full. Which event has which topic is taken from there.

mod encode;
mod event;
mod queue;
mod sender;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use containerd_shim::protos::{protobuf::well_known_types::any::Any, shim::event::Envelope};
use tracing::warn;

pub use self::event::{Created, Event};
use self::{queue::Outbox, sender::Sender};

/// Sends events to containerd, in order. Clones share one queue.
#[derive(Clone)]
pub struct Publisher {
    namespace: Arc<str>,
    /// `None` without an address: then there are no events.
    outbox: Option<Arc<Outbox>>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Starts the task that sends the events of `namespace` to the TTRPC `address` of containerd.
    /// Without an address events are dropped. Must be called inside a runtime.
    #[must_use]
    pub fn spawn(address: Option<&str>, namespace: &str) -> Self {
        let outbox = address.map(|address| {
            let outbox = Arc::new(Outbox::default());
            let sender = Sender::new(address);
            tokio::spawn(sender.run(Arc::clone(&outbox)));
            outbox
        });
        Self {
            namespace: namespace.into(),
            outbox,
        }
    }

    /// Puts what has happened to a container into the queue.
    pub fn publish(&self, container: &str, event: Event) {
        let Some(outbox) = &self.outbox else { return };
        match encode::message(container, event) {
            Ok((topic, message)) => outbox.push(self.envelope(topic, message)),
            Err(error) => warn!(%error, "cannot encode an event"),
        }
    }

    /// Waits until every event has been sent or given up, at most for `within`.
    pub async fn drain(&self, within: Duration) {
        let Some(outbox) = &self.outbox else { return };
        if tokio::time::timeout(within, outbox.empty()).await.is_err() {
            warn!(?within, "events were not all sent in time");
        }
    }

    fn envelope(&self, topic: String, message: Any) -> Envelope {
        let mut envelope = Envelope::new();
        envelope.set_timestamp(SystemTime::now().into());
        envelope.set_namespace(self.namespace.to_string());
        envelope.set_topic(topic);
        envelope.set_event(message);
        envelope
    }
}

#[cfg(test)]
mod tests;
