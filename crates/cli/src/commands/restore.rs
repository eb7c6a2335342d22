//! `stasis restore`: what was dumped, with the streams that it is to have now.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use anyhow::Context as _;
use async_trait::async_trait;
use serde_json::{Value, json};
use stasis_criu::{Error, HookResult, Notify, RestoreStats};
use stasis_plain::{
    Managed, ProcessError, ProcessState, RestorePlan, RestoreStdio, adapters::write_pid_file,
};

use super::{Context, Ended, target::micros};
use crate::{
    arguments::{Restore, Streams},
    failure::{Failure, Fate},
    progress::Progress,
    streams,
};

/// Restores, and waits for the end of the process unless it is detached.
pub async fn run(context: &mut Context<'_>, arguments: &Restore) -> anyhow::Result<Ended> {
    let plan = plan(&arguments.images.images_dir, &arguments.streams)?;
    let options = arguments.options()?;
    let options = arguments.both.over(match &plan {
        Some(plan) => plan.apply(options),
        None => options,
    });
    let needs_terminal = plan.as_ref().is_some_and(RestorePlan::needs_terminal);
    let mut criu = context.criu.clone();
    if needs_terminal || (arguments.both.shell_job && io::stdin().is_terminal()) {
        criu = criu.stdin(terminal()?);
    }
    let mut hooks = Hooks::default();
    let progress = Progress::waiting(context.output, "restoring");
    let call = criu.restore(&options).notify(&mut hooks);
    let restored = context
        .signals
        .cancel(context.output, progress, arguments.images.deadline, call)
        .await;
    let restored = restored.map_err(with_fate)?;

    let pid = restored.pid.as_raw_pid().unsigned_abs();
    let there = || Fate(format!("process {pid} was restored and goes on"));
    let process = match plan {
        Some(mut plan) => {
            if let Some(master) = hooks.master {
                plan.attach_terminal(master);
            }
            plan.take_over(pid).with_context(there)?
        }
        None => Managed::take_over(pid).with_context(there)?,
    };
    if let Some(file) = &arguments.streams.pid_file {
        write_pid_file(file, pid).with_context(there)?;
    }
    if arguments.streams.detach || context.output.is_json() {
        let json = json!({
            "pid": pid,
            "stats": restored.stats.as_ref().map_or(Value::Null, stats),
        });
        context.output.answer(pid, &json).with_context(there)?;
    }
    if arguments.streams.detach {
        return Ok(Ended::Done);
    }
    streams::until_end(context, process).await.map(Ended::With)
}

/// The error, with what became of the processes if that is known.
fn with_fate(error: Error) -> anyhow::Error {
    // A CRIU that does not keep to its protocol may have restored them all the same.
    let known = error.left().is_empty() && !matches!(error, Error::Protocol { .. });
    let error = anyhow::Error::from(error);
    match known {
        true => error.context(Fate(String::from("no process was restored"))),
        false => error,
    }
}

/// What the tree needs, by the state beside the images. Images that CRIU itself made have none.
fn plan(images: &Path, streams: &Streams) -> anyhow::Result<Option<RestorePlan>> {
    let state = match ProcessState::reload(images) {
        Ok(state) => state,
        Err(ProcessError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if streams.attach || streams.log.is_some() {
                let why = "there is no process_state.json with the images, so that it is not \
                           known what the streams were; restore it without --attach and --log";
                return Err(Failure::unavailable(why).into());
            }
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let stdio = match &streams.log {
        Some(log) => RestoreStdio::Log(log.clone()),
        None if streams.attach => RestoreStdio::Attach,
        None => RestoreStdio::Keep,
    };
    let plan = RestorePlan::new(&state, stdio)?;
    if plan.awaits_terminal() && !streams.attach {
        let why = "the terminal of the process was that of the program which dumped it; restore \
                   it with --attach";
        return Err(Failure::unavailable(why).into());
    }
    let missing: Vec<_> = plan
        .missing()
        .map(|missing| missing.was.display().to_string())
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        let why = format!("the process had open what is not there any more: {missing}");
        return Err(Failure::unavailable(why).into());
    }
    Ok(Some(plan))
}

/// The terminal that a job of a shell comes back to: ours.
fn terminal() -> anyhow::Result<OwnedFd> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let why = "it was a job of a shell, which comes back to the terminal that is the standard \
                   input of this command, and there is none; start it on a terminal";
        return Err(Failure::unavailable(why).into());
    }
    let shared = stdin.as_fd().try_clone_to_owned();
    shared.context("cannot share the terminal")
}

/// The figures of a restore as JSON, times in microseconds.
fn stats(stats: &RestoreStats) -> Value {
    let RestoreStats {
        forking,
        restore,
        pages_compared,
        pages_skipped_cow,
        pages_restored,
    } = stats;
    json!({
        "forking_us": micros(*forking),
        "restore_us": micros(*restore),
        "pages_compared": pages_compared,
        "pages_skipped_cow": pages_skipped_cow,
        "pages_restored": pages_restored,
    })
}

/// Takes the terminal that CRIU makes.
#[derive(Default)]
struct Hooks {
    master: Option<OwnedFd>,
}

#[async_trait]
impl Notify for Hooks {
    async fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        self.master = Some(master);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stasis_criu::{Left, ProtocolError, Request};

    use super::*;

    #[test]
    fn that_nothing_was_restored_is_said_only_where_it_is_known() {
        let (request, left) = (Request::Restore, Left::default());
        let cancelled = with_fate(Error::Cancelled { request, left });
        assert!(cancelled.downcast_ref::<Fate>().is_some());
        let unreliable = with_fate(Error::Protocol {
            request,
            source: ProtocolError::TwoReplies,
            left: Left::default(),
        });
        assert!(unreliable.downcast_ref::<Fate>().is_none());
    }
}
