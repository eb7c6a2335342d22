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
        shim::{event::Envelope, events::ForwardRequest},
        shim_async::{Client, EventsClient},
        ttrpc::{self, asynchronous::transport::Socket, context::with_duration, proto::Code},
    },
};
use tokio::{net::UnixStream, sync::Notify, time::Instant};
use tracing::{debug, warn};

/// How many events wait at most. Fifty containers that start and end at once make some hundred.
const QUEUE: usize = 1024;

/// After this an event is old news: containerd, back for longer than this, has asked for the
/// state of its tasks itself.
const KEEP: Duration = Duration::from_secs(60);

/// How long containerd may take for one event; its own publisher waits as long.
const FORWARD: Duration = Duration::from_secs(5);

/// The first and the longest pause before the head of the queue is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
            let sender = Sender {
                path: socket_path(address),
                client: None,
            };
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

/// containerd gives a path, with or without the scheme.
fn socket_path(address: &str) -> String {
    address
        .strip_prefix("unix://")
        .unwrap_or(address)
        .to_owned()
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

/// Why an event was not taken.
enum Failure {
    /// Later it may be: containerd is not there, or busy.
    Retry(ttrpc::Error),
    /// Never: containerd has looked at it and refused.
    Refused(ttrpc::Error),
}

struct Sender {
    path: String,
    client: Option<EventsClient>,
}

impl Sender {
    async fn run(mut self, queue: Arc<Queue>) {
        loop {
            let pending = queue.pop().await;
            self.deliver(pending).await;
            queue.done();
        }
    }

    /// Sends one event, again and again until it is old. The events behind it wait.
    async fn deliver(&mut self, pending: Pending) {
        let request = ForwardRequest {
            envelope: Some(pending.envelope).into(),
            ..ForwardRequest::default()
        };
        let topic = &request.envelope.topic;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.forward(&request).await {
                Ok(()) => return,
                Err(Failure::Refused(error)) => {
                    warn!(topic, %error, "containerd refused an event");
                    return;
                }
                Err(Failure::Retry(error)) => error,
            };
            if Instant::now() + pause >= pending.give_up {
                warn!(topic, %error, "an event was given up: containerd did not take it");
                return;
            }
            debug!(topic, %error, "an event was not taken and is sent again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn forward(&mut self, request: &ForwardRequest) -> Result<(), Failure> {
        let kept = self.client.take();
        let was_kept = kept.is_some();
        match self.forward_by(kept, request).await {
            // containerd has gone and may be back: its old connection tells nothing about that.
            Err(Failure::Retry(_)) if was_kept => self.forward_by(None, request).await,
            result => result,
        }
    }

    /// Sends through `client` or a new connection, which is kept if it works.
    async fn forward_by(
        &mut self,
        client: Option<EventsClient>,
        request: &ForwardRequest,
    ) -> Result<(), Failure> {
        let client = match client {
            Some(client) => client,
            None => self.connect().await.map_err(Failure::Retry)?,
        };
        match client.forward(with_duration(FORWARD), request).await {
            Ok(_) => {
                self.client = Some(client);
                Ok(())
            }
            Err(ttrpc::Error::RpcStatus(status)) if is_final(status.code()) => {
                self.client = Some(client);
                Err(Failure::Refused(ttrpc::Error::RpcStatus(status)))
            }
            Err(error) => Err(Failure::Retry(error)),
        }
    }

    /// Not through ttrpc's own connect, which blocks the thread while the listener's backlog is
    /// full, as that of a containerd that hangs is.
    async fn connect(&self) -> ttrpc::Result<EventsClient> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| ttrpc::Error::Socket(format!("{}: {error}", self.path)))?;
        Ok(EventsClient::new(Client::new(Socket::new(stream))))
    }
}

fn is_final(code: Code) -> bool {
    !matches!(
        code,
        Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED | Code::RESOURCE_EXHAUSTED
    )
}

#[cfg(test)]
mod tests;
