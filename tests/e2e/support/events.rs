//! An Events server in containerd's place: keeps what the shim publishes, in order.

use std::{
    fmt,
    os::{fd::AsRawFd, unix::net::UnixListener},
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use containerd_shim_protos::{
    Events, create_events,
    protobuf::{MessageFull, well_known_types::empty::Empty},
    shim::events::ForwardRequest,
    ttrpc::{self, Server, TtrpcContext},
};

use super::wait::SOON;

/// A server that listens at a path, and what it was told.
pub struct EventServer {
    published: Arc<Published>,
    server: Option<Server>,
    /// Ours, since ttrpc would never close it.
    _listener: UnixListener,
}

/// An event, with its message still encoded.
#[derive(Debug, Clone)]
pub struct Event {
    /// `/tasks/create` and so on.
    pub topic: String,
    /// The namespace in the envelope.
    pub namespace: String,
    /// The message's type.
    pub type_url: String,
    /// The message.
    value: Vec<u8>,
}

impl Event {
    /// The message, which must be an `M`.
    pub fn message<M: MessageFull>(&self) -> M {
        assert_eq!(
            self.type_url,
            M::descriptor().full_name(),
            "of {}",
            self.topic
        );
        M::parse_from_bytes(&self.value).expect("a message of the type that it names")
    }
}

#[derive(Debug, Default)]
struct Published {
    events: Mutex<Vec<Event>>,
    grown: Condvar,
}

impl Events for Published {
    fn forward(&self, _: &TtrpcContext, mut request: ForwardRequest) -> ttrpc::Result<Empty> {
        let mut envelope = request.envelope.take().unwrap_or_default();
        let any = envelope.event.take().unwrap_or_default();
        self.events
            .lock()
            .expect("no test panics with the lock")
            .push(Event {
                topic: envelope.topic,
                namespace: envelope.namespace,
                type_url: any.type_url,
                value: any.value,
            });
        self.grown.notify_all();
        Ok(Empty::new())
    }
}

impl EventServer {
    /// A server at a new socket.
    pub fn listen(path: &Path) -> Self {
        let published = Arc::<Published>::default();
        let listener = UnixListener::bind(path).expect("a new socket");
        let mut server = Server::new()
            .add_listener(listener.as_raw_fd())
            .expect("a listener")
            .register_service(create_events(published.clone()));
        server.start().expect("a server starts");
        Self {
            published,
            server: Some(server),
            _listener: listener,
        }
    }

    /// All events of the container or exec until one of `topic` comes, that one included.
    pub fn until(&self, topic: &str) -> Vec<Event> {
        let events = self
            .published
            .events
            .lock()
            .expect("no test panics with the lock");
        let missing = |events: &mut Vec<Event>| events.iter().all(|event| event.topic != topic);
        let waited = self
            .published
            .grown
            .wait_timeout_while(events, SOON, missing);
        let (events, waited) = waited.expect("no test panics with the lock");
        assert!(
            !waited.timed_out(),
            "no {topic} was published, but {:?}",
            topics(&events)
        );
        let last = events
            .iter()
            .position(|event| event.topic == topic)
            .expect("it has come");
        events[..=last].to_vec()
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Event> {
        self.published
            .events
            .lock()
            .expect("no test panics with the lock")
            .clone()
    }
}

/// The topics alone.
pub fn topics(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.topic.as_str()).collect()
}

impl fmt::Debug for EventServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.published.fmt(f)
    }
}

impl Drop for EventServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }
}
