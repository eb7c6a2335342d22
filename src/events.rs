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

mod sender;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use containerd_shim::{
    event::Event,
    protos::{
        protobuf::{self, MessageDyn, well_known_types::any::Any},
        shim::event::Envelope,
    },
};
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

use self::sender::Sender;

/// How many events wait at most. Fifty containers that start and end at once make some hundred.
const QUEUE: usize = 1024;

/// After this an event is old news: containerd, back for longer than this, has asked for the
/// state of its tasks itself.
const KEEP: Duration = Duration::from_secs(60);

/// Sends events to containerd, in order. Clones share one queue.
#[derive(Clone)]
pub struct Publisher {
    namespace: Arc<str>,
    /// `None` without an address: then there are no events.
    queue: Option<Arc<Queue>>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to send.
    filled: Notify,
    /// There is nothing left to send.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// One event has been taken out and is being sent.
    sending: bool,
    /// Events were dropped since the queue was last empty, and that has been logged.
    overflowed: bool,
}

struct Pending {
    envelope: Envelope,
    give_up: Instant,
}

impl Publisher {
    /// Starts the task that sends the events of `namespace` to the TTRPC `address` of containerd.
    /// Without an address events are dropped. Must be called inside a runtime.
    #[must_use]
    pub fn spawn(address: Option<&str>, namespace: &str) -> Self {
        let queue = address.map(|address| {
            let queue = Arc::new(Queue::default());
            let sender = Sender::new(address);
            tokio::spawn(sender.run(Arc::clone(&queue)));
            queue
        });
        Self {
            namespace: namespace.into(),
            queue,
        }
    }

    /// Puts an event into the queue.
    pub fn publish(&self, event: &impl Event) {
        let Some(queue) = &self.queue else { return };
        match self.envelope(event) {
            Ok(envelope) => queue.push(envelope),
            Err(error) => warn!(topic = event.topic(), %error, "cannot encode an event"),
        }
    }

    /// Waits until every event has been sent or given up, at most for `within`.
    pub async fn drain(&self, within: Duration) {
        let Some(queue) = &self.queue else { return };
        if tokio::time::timeout(within, queue.empty()).await.is_err() {
            warn!(?within, "events were not all sent in time");
        }
    }

    fn envelope(&self, event: &impl Event) -> protobuf::Result<Envelope> {
        let mut envelope = Envelope::new();
        envelope.set_timestamp(SystemTime::now().into());
        envelope.set_namespace(self.namespace.to_string());
        envelope.set_topic(event.topic());
        envelope.set_event(any(event)?);
        Ok(envelope)
    }
}

/// Packs a message as containerd does: the type URL is the bare name.
fn any(message: &dyn MessageDyn) -> protobuf::Result<Any> {
    Ok(Any {
        type_url: message.descriptor_dyn().full_name().to_owned(),
        value: message.write_to_bytes_dyn()?,
        ..Any::default()
    })
}

impl Queue {
    fn push(&self, envelope: Envelope) {
        let first_drop = self.with(|state| {
            let full = state.waiting.len() >= QUEUE;
            if full {
                state.waiting.pop_front();
            }
            state.waiting.push_back(Pending {
                envelope,
                give_up: Instant::now() + KEEP,
            });
            full && !std::mem::replace(&mut state.overflowed, true)
        });
        if first_drop {
            warn!("containerd takes no events: {QUEUE} are waiting, the oldest are dropped");
        }
        self.filled.notify_one();
    }

    async fn pop(&self) -> Pending {
        loop {
            let next = self.with(|state| {
                let next = state.waiting.pop_front();
                state.sending = next.is_some();
                next
            });
            match next {
                Some(next) => return next,
                None => self.filled.notified().await,
            }
        }
    }

    /// The event that was taken out has been sent or given up.
    fn done(&self) {
        let empty = self.with(|state| {
            state.sending = false;
            state.overflowed &= !state.waiting.is_empty();
            state.waiting.is_empty()
        });
        if empty {
            self.emptied.notify_waiters();
        }
    }

    async fn empty(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            // Waits from here on, so that a queue that empties between the look and the wait
            // is not missed.
            emptied.as_mut().enable();
            if self.with(|state| state.waiting.is_empty() && !state.sending) {
                return;
            }
            emptied.await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
