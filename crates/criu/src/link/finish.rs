//! What comes after the exchange: CRIU's end is waited for, and what is left of a call that did not
//! succeed is undone.

use std::{mem::take, os::unix::process::ExitStatusExt, process::ExitStatus};

use tokio::time;

use super::{
    exchange::Exchange,
    job::{CancelledBy, End, Outcome, ProtocolError},
    peer::{Peer, SwrkEnd},
};
use crate::{
    child::Child,
    notify::{Hook, HookCall},
    request::Request,
    undo::Leftover,
};

impl Exchange {
    /// Sees to it that the call is over, and tells the caller. The connection comes back if CRIU goes
    /// on after it.
    pub async fn finish(mut self, mut peer: Peer, end: End) -> Option<Peer> {
        let replied = matches!(end, End::Reply(..));
        let succeeded = matches!(&end, End::Reply(reply, _) if reply.success);
        let goes_on = self.job.keeps_open && replied;
        let mut outcome = Outcome {
            end,
            cancelled: self.cancelled.take().map(|(why, _)| why),
            ignored: take(&mut self.ignored),
            swrk: SwrkEnd::default(),
            left: Vec::new(),
            command: None,
            root: self.root,
        };
        if succeeded {
            self.job.undo.succeeded();
        }
        let mut open = None;
        if goes_on && (succeeded || self.job.request != Request::PreDump) {
            open = Some(peer);
        } else if succeeded && self.job.becomes_command {
            outcome.command = peer.swrk.take().map(Child::let_go);
        } else if succeeded {
            let more;
            (outcome.swrk, more) = peer.finish(self.grace).await;
            if more {
                // Which of the replies is true nobody knows.
                let error = CancelledBy::Protocol(ProtocolError::TwoReplies);
                outcome.cancelled.get_or_insert(error);
            }
        } else {
            self.take_back(peer, &mut outcome).await;
        }
        drop(self.job.keep);
        if let Err(outcome) = self.caller.outcome.send(outcome) {
            let request = self.job.request;
            tracing::debug!(%request, ?outcome, "nobody waits for this call any more");
        }
        open
    }

    /// Ends CRIU, and undoes what is left.
    async fn take_back(&mut self, peer: Peer, outcome: &mut Outcome) {
        let swrk = peer.swrk.as_ref().map(Child::pid);
        outcome.swrk = peer.end(self.grace).await;
        let signalled = |exit: ExitStatus| exit.signal().is_some();
        let killed =
            matches!(outcome.end, End::GivenUp) || outcome.swrk.exit.is_some_and(signalled);
        let by_caller = matches!(
            outcome.cancelled,
            Some(CancelledBy::Caller | CancelledBy::Drop | CancelledBy::Deadline)
        );
        // The log tells why; of a call that was cancelled in order there is nothing to tell.
        let keep_log = killed || !by_caller;
        // Before what it wrote is removed.
        outcome.swrk.disk_full = self.job.undo.disk_is_full();
        outcome.left = take(&mut self.job.undo).undo(swrk, killed, keep_log);
        // A service's worker goes on.
        if self.locked && swrk.is_some() {
            // It ended before it came to it.
            let call = HookCall::Plain(Hook::NetworkUnlock);
            let too_long = time::sleep(self.grace);
            if let Err(error) = self.caller.unlock(call, too_long).await {
                outcome.ignored.push((Hook::NetworkUnlock, error));
            }
        }
        let failed = outcome.ignored.iter();
        let failed = failed.filter(|(hook, _)| *hook == Hook::NetworkUnlock);
        let locks = failed.map(|(_, error)| Leftover::NetworkLock {
            why: error.to_string(),
        });
        outcome.left.extend(locks);
    }
}
