//! `stasis criu`: what there is to know of CRIU before anything is dumped.

use serde_json::json;
use stasis_criu::{Features, Version};

use super::{Context, Ended};
use crate::{arguments::Criu as Question, progress::Progress};

/// Asks, and says the answer.
pub async fn run(context: &mut Context<'_>, question: Question) -> anyhow::Result<Ended> {
    match question {
        Question::Version => {
            let version = context.signals.give_up(context.criu.version()).await?;
            let Version {
                major,
                minor,
                sublevel,
                gitid,
                extra,
                name,
            } = &version;
            let json = json!({
                "version": version.to_string(),
                "number": version.as_integer(),
                "major": major,
                "minor": minor,
                "sublevel": sublevel,
                "gitid": gitid,
                "extra": extra,
                "name": name,
            });
            context.output.answer(&version, &json)?;
        }
        Question::Check => {
            let check = context.criu.check();
            let progress = Progress::waiting(context.output, "checking");
            let works = context
                .signals
                .cancel(context.output, progress, None, check);
            works.await?;
            let json = json!({ "works": true });
            context.output.report("CRIU works on this machine", &json)?;
        }
        Question::Features => {
            let Features {
                mem_track,
                lazy_pages,
                pidfd_store,
            } = context.signals.give_up(context.criu.features()).await?;
            let json = json!({
                "mem_track": mem_track,
                "lazy_pages": lazy_pages,
                "pidfd_store": pidfd_store,
            });
            let says = |has| if has { "yes" } else { "no" };
            let text = format!(
                "memory tracking, for pre-dumps       {}\n\
                 userfaultfd, for lazy pages          {}\n\
                 pidfds, to tell processes apart      {}",
                says(mem_track),
                says(lazy_pages),
                says(pidfd_store),
            );
            context.output.answer(text, &json)?;
        }
    }
    Ok(Ended::Done)
}
