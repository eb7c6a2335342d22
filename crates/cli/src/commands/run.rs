//! `stasis run`: a program, so that it can be dumped later.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use serde_json::json;

use super::{Context, Ended};
use crate::{
    arguments::{Run, Streams},
    failure::Fate,
    streams,
};

/// Runs it, and waits for its end unless it is detached.
pub async fn run(context: &mut Context<'_>, arguments: &Run) -> anyhow::Result<Ended> {
    let mut run = stasis_plain::Run::new(&arguments.program)
        .args(arguments.arguments.iter().cloned())
        .stdio(stdio(&arguments.streams));
    if let Some(directory) = &arguments.chdir {
        run = run.current_dir(directory);
    }
    if let Some(file) = &arguments.streams.pid_file {
        run = run.pid_file(file);
    }
    let process = run.start()?;
    let pid = process.pid();
    if arguments.streams.detach || context.output.is_json() {
        let there = || Fate(format!("process {pid} runs"));
        let said = context.output.answer(pid, &json!({ "pid": pid }));
        said.with_context(there)?;
    }
    if arguments.streams.detach {
        return Ok(Ended::Done);
    }
    streams::until_end(context, process).await.map(Ended::With)
}

fn stdio(streams: &Streams) -> stasis_plain::Stdio {
    match &streams.log {
        Some(log) => stasis_plain::Stdio::Log(log.clone()),
        None if !streams.attach => stasis_plain::Stdio::Null,
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            stasis_plain::Stdio::Terminal {
                size: streams::size_here(),
            }
        }
        None => stasis_plain::Stdio::Pipes,
    }
}
