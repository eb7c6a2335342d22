//! One request, CRIU's hooks, and its reply; and how a call ends before its time.
//!
//! A dump is cancelled by bringing CRIU to fail in order: the next hook is refused, no write to a
//! file succeeds any more, and the page server's socket is shut. CRIU then takes its code out of
//! the processes, lets connections go on and removes its network rules. Killing it does none of
//! that, and closing its socket cancels nothing at all: CRIU would finish the dump and kill the
//! processes. So it is killed only after a grace, and then what can be undone is (`undo`).
//!
//! After post-dump has been acknowledged a dump can no longer be cancelled: it completes, and its
//! reply is a success.

use std::{os::fd::OwnedFd, time::Duration};

use prost::Message as _;
use rustix::process::Pid;
use tokio::time::{self, Instant};

use super::{
    caller::{Caller, at},
    job::{CancelledBy, End, Job, ProtocolError},
    peer::{Peer, ended, listen},
    sockets::PageSocket,
};
use crate::{
    child::Child,
    notify::{Hook, HookCall, HookError},
    pages::LazyTree,
    request::Request,
    rpc::{CriuNotify, CriuOpts, CriuReq, CriuReqType, CriuResp},
    swrk::{pid, refuse_writes},
    transport::{Packet, TransportError},
    unknown,
};

/// A job under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub job: Job,
    pub caller: Caller,
    pub grace: Duration,
    pub cancelled: Option<(CancelledBy, Instant)>,
    pub ignored: Vec<(Hook, HookError)>,
    /// The root process of a restore, once CRIU has told it.
    pub root: Option<Pid>,
    /// Whether the caller was asked to lock the network, and not to unlock it since.
    pub locked: bool,
    /// Whether the tree that a restore makes has been killed already.
    restored_killed: bool,
    /// The last hook that was acknowledged, `post-dump` once it was: from there on a dump
    /// completes.
    past: Option<Hook>,
}

impl Exchange {
    pub fn new(job: Job, caller: Caller, grace: Duration) -> Self {
        Self {
            job,
            caller,
            grace,
            cancelled: None,
            ignored: Vec::new(),
            root: None,
            locked: false,
            restored_killed: false,
            past: None,
        }
    }

    /// Asks, has hooks answered, and waits for the reply.
    pub async fn run(&mut self, peer: &mut Peer) -> End {
        match peer.socket.send(&self.job.message, &[]).await {
            Ok(()) => {}
            // It has gone, and may have said why.
            Err(TransportError::Socket { .. }) => return End::Silence,
            Err(error) => {
                // Nothing was asked of it.
                self.cancel(peer, CancelledBy::Protocol(error.into()));
                return End::Silence;
            }
        }
        loop {
            let stopping = self.cancelled.is_some();
            let since = self.cancelled.as_ref().map(|(_, since)| *since);
            // A grace without end has none.
            let give_up_at = since.and_then(|since| since.checked_add(self.grace));
            tokio::select! {
                biased;
                received = peer.receive() => match received {
                    Ok(Some(packet)) => {
                        if let Some(end) = self.take(peer, packet).await {
                            return end;
                        }
                    }
                    Ok(None) => return End::Silence,
                    Err(error) => {
                        self.cancel(peer, CancelledBy::Protocol(error.into()));
                        return self.give_up(peer);
                    }
                },
                why = self.caller.interrupted(self.job.deadline), if !stopping => {
                    self.cancel(peer, why);
                    if self.job.request.is_question() {
                        return self.give_up(peer);
                    }
                }
                () = at(give_up_at), if stopping => {
                    if let Some(end) = self.out_of_patience(peer) {
                        return end;
                    }
                }
            }
        }
    }

    /// Takes a packet. The reply is the end.
    async fn take(&mut self, peer: &mut Peer, packet: Packet) -> Option<End> {
        let decoded = unknown::decode::<CriuResp>("criu.criu_resp", &packet.bytes);
        let (reply, fields) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => return self.broken(peer, ProtocolError::Malformed(error)),
        };
        if let (true, Some(swrk)) = (self.cancelled.is_some() || !reply.success, &peer.swrk) {
            // What CRIU kills in a moment is nobody's child then.
            self.job.undo.look(swrk.pid());
        }
        if reply.r#type == CriuReqType::Notify as i32 {
            let notify = reply.notify.unwrap_or_default();
            self.hook(peer, &notify, packet.descriptors).await;
            return None;
        }
        if !packet.descriptors.is_empty() {
            let count = packet.descriptors.len();
            return self.broken(peer, ProtocolError::Descriptors { count });
        }
        if reply.r#type == CriuReqType::Empty as i32 && !reply.success {
            // CRIU's word for a request that it could not make sense of.
            self.cancel(peer, CancelledBy::Protocol(ProtocolError::Empty));
            return Some(End::Reply(Box::new(reply), fields));
        }
        if reply.r#type != self.job.request.reply() {
            let got = match CriuReqType::try_from(reply.r#type) {
                Ok(known) => String::from(known.as_str_name()),
                Err(_) => format!("request {}", reply.r#type),
            };
            return self.broken(peer, ProtocolError::WrongType { got });
        }
        Some(End::Reply(Box::new(reply), fields))
    }

    /// CRIU does not keep to its protocol: nothing that it says later can be trusted.
    fn broken(&mut self, peer: &mut Peer, error: ProtocolError) -> Option<End> {
        self.cancel(peer, CancelledBy::Protocol(error));
        // A dump is still given the chance to end in order.
        match self.job.request.freezes() {
            true => None,
            false => Some(self.give_up(peer)),
        }
    }

    async fn hook(&mut self, peer: &mut Peer, notify: &CriuNotify, mut descriptors: Vec<OwnedFd>) {
        let script = notify.script.as_deref().unwrap_or_default();
        let root = notify.pid.and_then(pid);
        let call = match (Hook::from_script(script), root) {
            (Some(Hook::OrphanPtsMaster), _) if descriptors.len() == 1 => {
                descriptors.pop().map(HookCall::WithMaster)
            }
            (hook, root) if descriptors.is_empty() => Some(match (hook, root) {
                (None, _) => HookCall::Unknown(script.to_owned()),
                (Some(hook), Some(root)) => HookCall::WithPid(hook, root),
                (Some(hook), None) => HookCall::Plain(hook),
            }),
            _ => None,
        };
        let Some(call) = call else {
            let count = descriptors.len();
            let error = ProtocolError::Descriptors { count };
            self.cancel(peer, CancelledBy::Protocol(error));
            return self.answer(peer, None, None).await;
        };
        if let (Some(Hook::SetupNamespaces | Hook::PostRestore), Some(root)) = (call.hook(), root) {
            self.job.undo.saw_root(root);
            self.root = Some(root);
        }
        let hook = call.hook();
        if hook == Some(Hook::StatusReady) {
            self.job.undo.before_serving();
        }
        let externals = self.ask(peer, call).await;
        if let (None, Some(swrk)) = (&externals, &peer.swrk) {
            // As in `take`: CRIU does it when it gets the answer.
            self.job.undo.look(swrk.pid());
        }
        if let (Some(Hook::PostRestore), Some(root), Some(_)) = (hook, root, &externals)
            && let Some(restored) = self.job.restored.take()
        {
            // Nobody may be waiting any more.
            let _ = restored.send(LazyTree::of(root));
        }
        self.answer(peer, hook, externals).await;
    }

    /// Asks the caller. `None` is a refusal.
    async fn ask(&mut self, peer: &mut Peer, call: HookCall) -> Option<Vec<String>> {
        let hook = call.hook();
        if hook == Some(Hook::NetworkUnlock) {
            self.locked = false;
            return self.ask_to_unlock(peer, call).await;
        }
        if self.cancelled.is_some() {
            return None;
        }
        self.locked |= hook == Some(Hook::NetworkLock);
        let result = tokio::select! {
            biased;
            why = self.caller.interrupted(self.job.deadline) => Err(why),
            answer = self.caller.put(call) => answer.ok_or(CancelledBy::Drop),
            // Nobody wants the answer any more.
            () = ended(&mut peer.swrk) => return None,
        };
        match (result, hook) {
            (Ok(Ok(externals)), _) => Some(externals),
            // Acknowledged whatever happens.
            (Ok(Err(_)), None) => Some(Vec::new()),
            (Ok(Err(error)), Some(hook)) if hook.aborts() => {
                self.cancel(peer, CancelledBy::Hook(hook, error));
                None
            }
            (Ok(Err(error)), Some(hook)) => {
                self.ignored.push((hook, error));
                None
            }
            (Err(why), _) => {
                self.cancel(peer, why);
                None
            }
        }
    }

    /// Asks the caller to let the network's traffic flow again, whatever has become of the call:
    /// CRIU wants it of a dump that it gives up, and the processes run on with whatever
    /// `network_lock` did. The caller has a grace of its own for it from the moment that the call
    /// is cancelled, since CRIU waits.
    async fn ask_to_unlock(&mut self, peer: &mut Peer, call: HookCall) -> Option<Vec<String>> {
        let begun = Instant::now();
        let mut interrupted = None;
        let too_long = async {
            if self.cancelled.is_none() {
                interrupted = Some(self.caller.interrupted(self.job.deadline).await);
            }
            time::sleep(self.grace).await;
        };
        let answer = tokio::select! {
            biased;
            answer = self.caller.unlock(call, too_long) => answer,
            () = listen(&mut peer.swrk) => std::future::pending().await,
        };
        match (&mut self.cancelled, interrupted) {
            (Some((_, since)), _) => *since += begun.elapsed(),
            (None, Some(why)) => self.cancel(peer, why),
            (None, None) => {}
        }
        answer
            .map_err(|error| self.ignored.push((Hook::NetworkUnlock, error)))
            .ok()
    }

    async fn answer(
        &mut self,
        peer: &mut Peer,
        hook: Option<Hook>,
        externals: Option<Vec<String>>,
    ) {
        let opts = externals
            .as_ref()
            .filter(|externals| !externals.is_empty())
            .map(|externals| CriuOpts {
                external: externals.clone(),
                ..CriuOpts::default()
            });
        let request = CriuReq {
            r#type: CriuReqType::Notify as i32,
            notify_success: Some(externals.is_some()),
            opts,
            ..CriuReq::default()
        };
        let message = request.encode_to_vec();
        if externals.is_some() && self.past.is_none_or(|past| past != Hook::PostDump) {
            self.past = hook;
        }
        // Where CRIU has gone, what it had to say may still be there to read.
        let _ = peer.socket.send(&message, &[]).await;
    }

    /// Begins to bring the call to its end. The first reason counts.
    fn cancel(&mut self, peer: &mut Peer, why: CancelledBy) {
        if self.cancelled.is_some() {
            return;
        }
        tracing::debug!(request = %self.job.request, ?why, "cancelling");
        // Where a hook has failed CRIU gives up by itself, and its log is whole.
        let by_itself = matches!(why, CancelledBy::Hook(..));
        self.cancelled = Some((why, Instant::now()));
        // A lazy dump waits for its peer after post-dump.
        let serves = matches!(self.job.pages, Some(PageSocket::Listening(_)));
        let past = self.past == Some(Hook::PostDump) && !serves;
        if self.job.request.freezes() && !by_itself && !past {
            if let Some(swrk) = &peer.swrk {
                refuse_writes(swrk.pid());
            }
            if let Some(pages) = &self.job.pages {
                pages.shut(peer.swrk.as_ref().map(Child::pid));
            }
        }
    }

    /// The grace is over.
    fn out_of_patience(&mut self, peer: &mut Peer) -> Option<End> {
        let swrk = peer.swrk.as_ref().map(Child::pid);
        if let (Request::Restore, Some(swrk), false) =
            (self.job.request, swrk, self.restored_killed)
        {
            // CRIU sees the processes that it restores die, and gives up in order. It has the
            // same time again for it.
            self.restored_killed = true;
            self.job.undo.kill_restored(swrk);
            if let Some((_, since)) = &mut self.cancelled {
                *since = Instant::now();
            }
            return None;
        }
        Some(self.give_up(peer))
    }

    fn give_up(&mut self, peer: &mut Peer) -> End {
        if let Some(swrk) = &mut peer.swrk {
            self.job.undo.before_kill();
            swrk.kill();
        }
        End::GivenUp
    }
}
