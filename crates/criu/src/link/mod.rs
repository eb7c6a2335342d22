//! A connection to CRIU, in a thread of its own.
//!
//! The thread has a runtime of its own and owns the socket and, but for a service's, the process
//! at its other end. A caller's future runs hooks and waits, no more: when it is dropped, alone or
//! with its runtime, the thread is still there to bring the call to an orderly end (`exchange.rs`,
//! `finish.rs`, `undo/`) and to reap.
//!
//! ```text
//! caller's runtime                 thread
//!   Link::call ── Job ──────────▶  Exchange ───── criu_req ────▶ CRIU
//!   hooks      ◀── HookCall ─────      │      ◀─── NOTIFY ─────
//!              ─── answer ──────▶      │      ──── NOTIFY ─────▶
//!   result     ◀── Outcome ──────      │      ◀─── criu_resp ──
//! ```

mod caller;
mod exchange;
mod finish;
mod job;
mod peer;
mod sockets;

use std::{io, thread, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use caller::{Caller, caller};
use exchange::Exchange;
pub use job::ProtocolError;
pub(crate) use job::{CancelledBy, End, Job, Outcome};
use peer::Peer;
pub(crate) use peer::{Endpoint, SwrkEnd};
pub(crate) use sockets::PageSocket;

use crate::{
    child::{SpawnError, cannot},
    notify::Notify,
};

/// A connection to CRIU. Dropping it ends what runs on it, in order.
#[derive(Debug)]
pub(crate) struct Link {
    jobs: mpsc::Sender<(Job, Caller)>,
    ended: oneshot::Receiver<()>,
}

impl Link {
    /// Opens a connection to `endpoint`. `grace` is how long a cancelled call may take until CRIU
    /// is killed.
    pub async fn open(
        endpoint: Endpoint,
        grace: Duration,
        open: watch::Sender<usize>,
    ) -> Result<Self, SpawnError> {
        let (jobs, todo) = mpsc::channel(1);
        let (opened, ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let counted = Counted::one_more_of(open);
        thread::Builder::new()
            .name(String::from("criu"))
            .spawn(move || {
                serve(&endpoint, grace, todo, opened);
                drop(counted);
                // Nobody may be waiting for it.
                let _ = end.send(());
            })
            .map_err(cannot("start a thread"))?;
        match ready.await {
            Ok(Ok(())) => Ok(Self { jobs, ended }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(cannot("keep a thread")(io::ErrorKind::Other.into())),
        }
    }

    /// Has a call made. `notify` answers its hooks; it is cancelled when `until` resolves. `None` if
    /// the connection has ended.
    pub async fn call(
        &self,
        job: Job,
        notify: &mut dyn Notify,
        until: impl Future<Output = ()>,
    ) -> Option<Outcome> {
        let (caller, waiting) = caller();
        self.jobs.send((job, caller)).await.ok()?;
        waiting.outcome(notify, until).await
    }

    /// Closes the connection, and waits until CRIU has ended and been reaped.
    pub async fn close(self) {
        let Self { jobs, ended } = self;
        drop(jobs);
        // An error is a thread that is gone already.
        let _ = ended.await;
    }
}

/// One of the connections that there are.
#[derive(Debug)]
struct Counted(watch::Sender<usize>);

impl Counted {
    fn one_more_of(open: watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

fn serve(
    endpoint: &Endpoint,
    grace: Duration,
    mut todo: mpsc::Receiver<(Job, Caller)>,
    opened: oneshot::Sender<Result<(), SpawnError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(source) => {
            let _ = opened.send(Err(cannot("start a runtime")(source)));
            return;
        }
    };
    runtime.block_on(async {
        let mut peer = match Peer::open(endpoint) {
            Ok(peer) => peer,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        if opened.send(Ok(())).is_err() {
            // Whoever opened it is gone, and nothing has been asked.
            return;
        }
        // One that has only answered questions has nothing to bring to an end.
        let mut patience = Duration::ZERO;
        while let Some((job, caller)) = peer.next(&mut todo).await {
            if !job.request.is_question() {
                patience = grace;
            }
            let mut exchange = Exchange::new(job, caller, grace);
            let end = exchange.run(&mut peer).await;
            match exchange.finish(peer, end).await {
                Some(open) => peer = open,
                None => return,
            }
        }
        peer.end(patience).await;
    });
}
