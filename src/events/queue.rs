//! The events that wait to be sent.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use containerd_shim::protos::shim::event::Envelope;
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

/// How many events wait at most. Fifty containers that start and end at once make some hundred.
pub(super) const QUEUE: usize = 1024;

/// After this an event is old news: containerd, back for longer than this, has asked for the
/// state of its tasks itself.
pub(super) const KEEP: Duration = Duration::from_secs(60);

/// The events that wait for the sender, and whoever waits for them.
#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// There is something to send.
    filled: Notify,
    /// There is nothing left to send.
    emptied: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Pending>,
    /// One event has been taken out and is being sent.
    sending: bool,
    /// Events were dropped since the queue was last empty, and that has been logged.
    overflowed: bool,
}

pub(super) struct Pending {
    pub(super) envelope: Envelope,
    pub(super) give_up: Instant,
}

impl Outbox {
    /// Adds an event; the oldest one goes if there are too many.
    pub(super) fn push(&self, envelope: Envelope) {
        let first_drop = self.with(|queue| {
            let full = queue.waiting.len() >= QUEUE;
            if full {
                queue.waiting.pop_front();
            }
            queue.waiting.push_back(Pending {
                envelope,
                give_up: Instant::now() + KEEP,
            });
            full && !std::mem::replace(&mut queue.overflowed, true)
        });
        if first_drop {
            warn!("containerd takes no events: {QUEUE} are waiting, the oldest are dropped");
        }
        self.filled.notify_one();
    }

    /// Takes the oldest event out, when there is one.
    pub(super) async fn pop(&self) -> Pending {
        loop {
            let next = self.with(|queue| {
                let next = queue.waiting.pop_front();
                queue.sending = next.is_some();
                next
            });
            match next {
                Some(next) => return next,
                None => self.filled.notified().await,
            }
        }
    }

    /// The event that was taken out has been sent or given up.
    pub(super) fn done(&self) {
        let empty = self.with(|queue| {
            queue.sending = false;
            queue.overflowed &= !queue.waiting.is_empty();
            queue.waiting.is_empty()
        });
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until nothing is left to send.
    pub(super) async fn empty(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            // Waits from here on, so that a queue that empties between the look and the wait
            // is not missed.
            emptied.as_mut().enable();
            if self.with(|queue| queue.waiting.is_empty() && !queue.sending) {
                return;
            }
            emptied.await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
