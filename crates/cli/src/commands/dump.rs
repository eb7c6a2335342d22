//! `stasis dump`: looks at the tree, dumps it, keeps its state beside the images, and sees that
//! what was to end has ended.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::json;
use stasis_criu::{Error, HookResult, Notify};
use stasis_plain::{DumpPlan, FILE_NAME, Liveness, Managed, ProcessError};
use tokio::time::{sleep, timeout};

use super::{
    Context, Ended,
    target::{Directory, Target, failed, report},
};
use crate::{arguments::Dump, progress::Progress};

/// How long killed processes may take to be gone, memory and all.
const DEATH: Duration = Duration::from_secs(5);
/// How often it is looked whether they are, of which no event tells.
const LOOK: Duration = Duration::from_millis(5);

/// Dumps.
pub async fn run(context: &mut Context<'_>, arguments: &Dump) -> anyhow::Result<Ended> {
    let options = arguments.options()?;
    let target = Target::hold(arguments.target.pid)?;
    let plan = DumpPlan::detect(arguments.target.pid)?.chosen(&options);
    let options = arguments.both.over(plan.apply(options));
    let directory = Directory::make(&arguments.images.images_dir)?;
    let progress = match arguments.memory.page_server {
        true => Progress::waiting(context.output, "dumping"),
        false => Progress::of_dump(context.output, directory.path(), plan.state()),
    };
    let mut hooks = Hooks {
        plan,
        images: directory.path().to_owned(),
        saved: false,
    };
    let started = Instant::now();
    let call = context.criu.dump(&options).notify(&mut hooks);
    let dumped = context
        .signals
        .cancel(context.output, progress, arguments.images.deadline, call)
        .await;
    let took = started.elapsed();
    let dumped = match dumped {
        Ok(dumped) => dumped,
        Err(error) => {
            // A CRIU that does not keep to its protocol may have dumped it all the same.
            if !matches!(error, Error::Protocol { .. }) {
                hooks.forget();
            }
            return Err(failed(&target, &directory, error));
        }
    };
    let after = after(context, arguments, &target, &hooks.plan).await;
    let pid = target.process().pid();
    let is = match after {
        "running" => "runs on",
        "stopped" => "is stopped",
        _ => "has ended",
    };
    let words = format!("dumped process {pid}, which {is}");
    let known = json!({
        "pid": pid,
        "images_dir": arguments.images.images_dir.to_string_lossy(),
        "process": after,
    });
    report(context.output, &words, known, took, dumped.stats.as_ref())
}

/// What is left of the process, in a word.
async fn after(
    context: &Context<'_>,
    arguments: &Dump,
    target: &Target,
    plan: &DumpPlan,
) -> &'static str {
    match target.process().state() {
        // One that was stopped before is left so.
        Ok(Liveness::Stopped) if arguments.leave_running || arguments.leave_stopped => "stopped",
        _ if arguments.leave_running => "running",
        _ if gone(target.process(), plan).await => "ended",
        _ => {
            context.output.remark(
                "what was dumped is a zombie still, since its parent does not take its status; it \
                 can be restored when it is gone",
            );
            "zombie"
        }
    }
}

/// Waits until nothing is left of the tree, so that it can be restored at once.
async fn gone(root: &Managed, plan: &DumpPlan) -> bool {
    let gone = async {
        root.exited().await?;
        // An end whose status nobody has taken is an end to `root`.
        while is_there(root)? {
            sleep(LOOK).await;
        }
        plan.gone().await
    };
    matches!(timeout(DEATH, gone).await, Ok(Ok(())))
}

fn is_there(process: &Managed) -> Result<bool, ProcessError> {
    match Managed::take_over(process.pid()) {
        Ok(there) => Ok(there.started() == process.started()),
        Err(ProcessError::Gone { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Looks at the tree again when it is frozen.
struct Hooks {
    plan: DumpPlan,
    images: PathBuf,
    saved: bool,
}

#[async_trait]
impl Notify for Hooks {
    async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
        let external = self.plan.externals()?;
        self.plan.state().save(&self.images)?;
        self.saved = true;
        Ok(external)
    }
}

impl Hooks {
    /// Removes the state of a tree of which there are no images.
    fn forget(&self) {
        if self.saved {
            // It is of no use, and does no harm.
            let _ = fs::remove_file(self.images.join(FILE_NAME));
        }
    }
}
