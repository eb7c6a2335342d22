//! `stasis pre-dump`: memory ahead of a dump.

use std::time::Instant;

use serde_json::json;
use stasis_plain::DumpPlan;

use super::{
    Context, Ended,
    target::{Directory, Target, failed, report},
};
use crate::{arguments::PreDump, progress::Progress};

/// Dumps memory.
pub async fn run(context: &mut Context<'_>, arguments: &PreDump) -> anyhow::Result<Ended> {
    let options = arguments.options()?;
    let target = Target::hold(arguments.target.pid)?;
    let plan = DumpPlan::detect(arguments.target.pid)?;
    let options = arguments.both.over(plan.apply(options));
    let directory = Directory::make(&arguments.images.images_dir)?;
    let progress = match arguments.memory.page_server {
        true => Progress::waiting(context.output, "dumping memory"),
        false => Progress::of_dump(context.output, directory.path(), plan.state()),
    };
    let started = Instant::now();
    let call = context.criu.pre_dump(&options);
    let dumped = context
        .signals
        .cancel(context.output, progress, arguments.images.deadline, call)
        .await;
    let took = started.elapsed();
    let dumped = match dumped {
        Ok(dumped) => dumped,
        Err(error) => return Err(failed(&target, &directory, error)),
    };
    let pid = target.process().pid();
    let words = format!("dumped memory of process {pid}");
    let known = json!({
        "pid": pid,
        "images_dir": arguments.images.images_dir.to_string_lossy(),
    });
    report(context.output, &words, known, took, dumped.stats.as_ref())
}
