//! The task behind the queue: takes one event after the other to containerd.

use std::{sync::Arc, time::Duration};

use containerd_shim::protos::{
    shim::events::ForwardRequest,
    shim_async::{Client, EventsClient},
    ttrpc::{self, asynchronous::transport::Socket, context::with_duration, proto::Code},
};
use tokio::{net::UnixStream, time::Instant};
use tracing::{debug, warn};

use super::queue::{Outbox, Pending};

/// How long containerd may take for one event; its own publisher waits as long.
const FORWARD: Duration = Duration::from_secs(5);

/// The first and the longest pause before the head of the queue is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why an event was not taken.
enum Failure {
    /// Later it may be: containerd is not there, or busy.
    Retry(ttrpc::Error),
    /// Never: containerd has looked at it and refused.
    Refused(ttrpc::Error),
}

/// Forwards events through a connection that is made when there is something to send.
pub(super) struct Sender {
    path: String,
    client: Option<EventsClient>,
}

impl Sender {
    /// containerd gives a path, with or without the scheme.
    pub(super) fn new(address: &str) -> Self {
        let path = address
            .strip_prefix("unix://")
            .unwrap_or(address)
            .to_owned();
        Self { path, client: None }
    }

    /// Sends what comes into the queue, for ever.
    pub(super) async fn run(mut self, outbox: Arc<Outbox>) {
        loop {
            let pending = outbox.pop().await;
            self.deliver(pending).await;
            outbox.done();
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
