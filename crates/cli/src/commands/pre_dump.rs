//! `stasis pre-dump`: memory ahead of a dump.

use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};
use stasis_plain::DumpPlan;

use super::{
    Context, Ended,
    target::{Directory, Target, in_words, micros, stats},
};
use crate::{arguments::PreDump, failure::Fate, progress::Progress};

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
        Err(error) => {
            directory.give_up();
            let fate = target.fate(&error);
            return Err(anyhow::Error::from(error).context(fate));
        }
    };
    let pid = target.process().pid();
    let figures = dumped.stats.as_ref();
    let mut text = format!(
        "dumped memory of process {pid}; {:.2} s",
        took.as_secs_f64()
    );
    if let Some(stats) = figures {
        text.push_str(", ");
        text.push_str(&in_words(stats));
    }
    let json = json!({
        "pid": pid,
        "images_dir": arguments.images.images_dir.to_string_lossy(),
        "took_us": micros(took),
        "stats": figures.map_or(Value::Null, stats),
    });
    let said = context.output.report(&text, &json);
    said.context(Fate(text))?;
    Ok(Ended::Done)
}
