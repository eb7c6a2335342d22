//! The clients that the server listens to.

use std::{
    future::Future,
    io,
    os::unix::net::UnixListener as StdListener,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::{
    net::{UnixListener, UnixStream},
    time::{Sleep, sleep},
};
use tracing::warn;

use super::super::frame_stream::{FrameStream, FrameWatch};
use crate::pod::Shutdown;

/// How long no connection is accepted after that failed, as it does without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The connections of clients that run as our own user, until the shim is to end. Then the
/// listener is closed.
pub(super) struct Accept {
    listener: Option<UnixListener>,
    watch: Arc<FrameWatch>,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Accepting failed, and is tried again after this.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Accept {
    pub(super) fn new(
        listener: StdListener,
        watch: Arc<FrameWatch>,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = Some(UnixListener::from_std(listener)?);
        let shutdown = Box::pin(async move { shutdown.triggered().await });
        Ok(Self {
            listener,
            watch,
            shutdown,
            pause: None,
        })
    }
}

impl Stream for Accept {
    type Item = io::Result<FrameStream<UnixStream>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.listener.is_some() && this.shutdown.as_mut().poll(cx).is_ready() {
            this.listener = None;
        }
        loop {
            let Some(listener) = &this.listener else {
                return Poll::Ready(None);
            };
            if let Some(pause) = &mut this.pause {
                ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            match ready!(listener.poll_accept(cx)) {
                Ok((stream, _)) if is_same_user(&stream) => {
                    return Poll::Ready(Some(Ok(FrameStream::new(
                        stream,
                        Arc::clone(&this.watch),
                    ))));
                }
                Ok(_) => warn!("refused a client that runs as another user"),
                Err(error) => {
                    this.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

fn is_same_user(stream: &UnixStream) -> bool {
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}
