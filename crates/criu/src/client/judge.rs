//! What a call that is over comes to: its answer, or its error.

use std::{
    mem::take,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustix::process::Pid;
use stasis_linux::file::Directory;

use super::{
    call::Call,
    outcome::{Answer, IgnoredHook},
};
use crate::{
    Error, Request,
    diagnosis::{self, Evidence, KnownCause, Log, Stamp},
    link::{CancelledBy, End, Outcome, SwrkEnd},
    notify::{Hook, HookError},
    rpc::CriuResp,
    stats::{DumpStats, RestoreStats},
    swrk::pid,
    undo::Left,
    undo::Leftover,
};

/// Makes of a call that is over its answer or its error.
pub(super) struct Judge {
    request: Request,
    deadline: Duration,
    /// Where CRIU leaves its log and its statistics.
    logs: Option<Arc<OwnedFd>>,
    log: Option<String>,
    /// The log that was there before it, of an earlier call.
    log_before: Option<Stamp>,
}

impl Judge {
    /// Of a call that is about to be made.
    pub fn of<T>(call: &Call<'_, T>) -> Self {
        let rendered = &call.rendered;
        let options = call.options.as_ref();
        let log = options.and_then(|options| options.log_name(call.request));
        let mut judge = Self {
            request: call.request,
            deadline: call.deadline.unwrap_or_default(),
            logs: rendered.work.as_ref().or(rendered.images.as_ref()).cloned(),
            log: log.map(String::from),
            log_before: None,
        };
        judge.log_before = judge.log().and_then(Log::stamp);
        judge
    }

    /// Its answer, if it succeeded.
    pub fn judge(&self, mut outcome: Outcome) -> Result<Answer, Error> {
        let request = self.request;
        let left = left(request, &mut outcome).into();
        match (outcome.end, outcome.cancelled) {
            (_, Some(CancelledBy::Protocol(source))) => Err(Error::Protocol {
                request,
                source,
                left,
            }),
            // It was too late to cancel it, if it was to be cancelled at all.
            (End::Reply(reply, unknown), _) if reply.success => Ok(Answer {
                reply: *reply,
                unknown,
                ignored: outcome
                    .ignored
                    .into_iter()
                    .map(|(hook, error)| IgnoredHook { hook, error })
                    .collect(),
                command: outcome.command,
                dump_stats: self
                    .logs()
                    .filter(|_| request.freezes())
                    .and_then(|logs| DumpStats::read(logs).ok()),
                restore_stats: self
                    .logs()
                    .filter(|_| request == Request::Restore)
                    .and_then(|logs| RestoreStats::read(logs).ok()),
            }),
            (_, Some(CancelledBy::Hook(hook, source))) => Err(Error::Hook {
                request,
                hook,
                source,
                left,
            }),
            (_, Some(CancelledBy::Deadline)) => Err(Error::Deadline {
                request,
                deadline: self.deadline,
                left,
            }),
            (_, Some(CancelledBy::Caller | CancelledBy::Drop)) => {
                Err(Error::Cancelled { request, left })
            }
            (End::Reply(reply, _), None) => {
                Err(self.failed(&reply, &outcome.swrk, outcome.ignored, left))
            }
            (End::Silence | End::GivenUp, None) => Err(Error::NoReply {
                request,
                diagnosis: Box::new(diagnosis::diagnose(&Evidence {
                    exit: outcome.swrk.exit,
                    ..self.evidence(&outcome.swrk)
                })),
                left,
            }),
        }
    }

    /// CRIU says that it has failed.
    fn failed(
        &self,
        reply: &CriuResp,
        swrk: &SwrkEnd,
        ignored: Vec<(Hook, HookError)>,
        left: Left,
    ) -> Error {
        let request = self.request;
        let diagnosis = diagnosis::diagnose(&Evidence {
            cr_errno: reply.cr_errno,
            cr_errmsg: reply.cr_errmsg.as_deref(),
            ..self.evidence(swrk)
        });
        match ignored.into_iter().next_back() {
            // It did not pass over the hook after all, as over `orphan-pts-master` where its own
            // standard input is no terminal.
            Some((hook, source)) if diagnosis.known == Some(KnownCause::HookFailed) => {
                Error::Hook {
                    request,
                    hook,
                    source,
                    left,
                }
            }
            _ => Error::Failed {
                request,
                diagnosis: Box::new(diagnosis),
                left,
            },
        }
    }

    fn evidence<'a>(&'a self, swrk: &'a SwrkEnd) -> Evidence<'a> {
        // Where CRIU fails before it opens its log, that of an earlier call is still there.
        let log = self.log().filter(|log| log.stamp() != self.log_before);
        Evidence {
            stderr: &swrk.stderr,
            log,
            disk_full: swrk.disk_full,
            ..Evidence::of(self.request)
        }
    }

    fn log(&self) -> Option<Log<'_>> {
        let (logs, name) = self.logs.as_ref().zip(self.log.as_deref())?;
        Some(Log::In(logs.as_fd(), name))
    }

    fn logs(&self) -> Option<Directory<'_>> {
        self.logs
            .as_ref()
            .map(|logs| Directory::Descriptor(logs.as_fd()))
    }
}

/// What is left, and what a success has left of which nothing was undone.
fn left(request: Request, outcome: &mut Outcome) -> Vec<Leftover> {
    let mut left = take(&mut outcome.left);
    if let (Some(CancelledBy::Protocol(_)), End::Reply(reply, _)) =
        (&outcome.cancelled, &outcome.end)
        && reply.success
    {
        let told = reply.restore.as_ref();
        let root = told.and_then(|told| pid(told.pid)).or(outcome.root);
        left.extend(there(request, root));
    }
    left
}

/// What a restore has left that may have succeeded.
pub(super) fn there(request: Request, root: Option<Pid>) -> Vec<Leftover> {
    let root = root.filter(|_| request == Request::Restore);
    root.map(|pid| Leftover::Process { pid })
        .into_iter()
        .collect()
}
