//! The caller, as the thread of a connection knows it: somebody who answers hooks, may cancel, and
//! waits for the outcome; or nobody any more.

use std::{future::Future, pin::pin, sync::Arc};

use tokio::{
    sync::{Notify as Signal, mpsc, oneshot},
    time::{self, Instant},
};

use super::job::{CancelledBy, Outcome};
use crate::notify::{HookCall, HookResult, Notify};

/// The thread's ends.
#[derive(Debug)]
pub(super) struct Caller {
    /// Where hooks go. The caller is gone when this is closed.
    hooks: mpsc::Sender<Question>,
    /// The caller's word to cancel.
    cancel: Arc<Signal>,
    /// Where the outcome goes.
    pub outcome: oneshot::Sender<Outcome>,
}

/// A hook that waits for its answer.
#[derive(Debug)]
struct Question {
    call: HookCall,
    answer: oneshot::Sender<HookResult<Vec<String>>>,
}

/// The caller's ends.
#[derive(Debug)]
pub(super) struct Waiting {
    hooks: mpsc::Receiver<Question>,
    cancel: Arc<Signal>,
    outcome: oneshot::Receiver<Outcome>,
}

/// Both ends.
pub(super) fn caller() -> (Caller, Waiting) {
    let (questions, hooks) = mpsc::channel(1);
    let (sender, result) = oneshot::channel();
    let cancel = Arc::new(Signal::new());
    let caller = Caller {
        hooks: questions,
        cancel: Arc::clone(&cancel),
        outcome: sender,
    };
    let waiting = Waiting {
        hooks,
        cancel,
        outcome: result,
    };
    (caller, waiting)
}

impl Waiting {
    /// Has `notify` answer hooks until the call is over, and cancels it when `until` resolves. `None`
    /// if the connection has ended before.
    pub async fn outcome(
        self,
        notify: &mut dyn Notify,
        until: impl Future<Output = ()>,
    ) -> Option<Outcome> {
        let Self {
            mut hooks,
            cancel,
            mut outcome,
        } = self;
        let answering = async {
            while let Some(question) = hooks.recv().await {
                question.put_to(notify).await;
            }
        };
        let (mut answering, mut until) = (pin!(answering), pin!(until));
        let (mut answered, mut cancelled) = (false, false);
        loop {
            tokio::select! {
                biased;
                outcome = &mut outcome => return outcome.ok(),
                () = &mut until, if !cancelled => {
                    cancelled = true;
                    cancel.notify_one();
                }
                () = &mut answering, if !answered => answered = true,
            }
        }
    }
}

impl Question {
    /// Has `notify` answer, until nobody wants the answer any more.
    async fn put_to(self, notify: &mut dyn Notify) {
        let Self { call, mut answer } = self;
        tokio::select! {
            biased;
            // The call is cancelled.
            () = answer.closed() => {}
            // It may be cancelled meanwhile.
            said = call.run(notify) => drop(answer.send(said)),
        }
    }
}

impl Caller {
    /// Puts a hook to the caller. `None`: the caller is gone. Where this is dropped the hook is.
    pub async fn put(&self, call: HookCall) -> Option<HookResult<Vec<String>>> {
        let (answer, answered) = oneshot::channel();
        // There may be one before it still, which nobody wants to be answered any more.
        self.hooks.send(Question { call, answer }).await.ok()?;
        answered.await.ok()
    }

    /// As [`put`](Self::put), for the network to be unlocked, until it takes too long.
    pub async fn unlock(
        &self,
        call: HookCall,
        too_long: impl Future<Output = ()>,
    ) -> HookResult<Vec<String>> {
        tokio::select! {
            biased;
            answer = self.put(call) => {
                answer.unwrap_or_else(|| Err("nobody is there any more to do it".into()))
            }
            () = too_long => Err("it was not over within the grace".into()),
        }
    }

    /// Resolves when the call is to end before its time.
    pub async fn interrupted(&self, deadline: Option<Instant>) -> CancelledBy {
        tokio::select! {
            () = self.hooks.closed() => CancelledBy::Drop,
            () = self.cancel.notified() => CancelledBy::Caller,
            () = at(deadline), if deadline.is_some() => CancelledBy::Deadline,
        }
    }
}

/// Resolves at this instant, if there is one.
pub(super) async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
