//! `stasis page-server`: where the pages of a dump that is made elsewhere go.

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use serde_json::json;
use tokio::time::timeout;

use super::{Context, Ended, target::Directory};
use crate::arguments::PageServer;

/// Serves one dump.
pub async fn run(context: &mut Context<'_>, arguments: &PageServer) -> anyhow::Result<Ended> {
    let options = arguments.options()?;
    let directory = Directory::make(&arguments.images.images_dir)?;
    let criu = context.criu.clone();
    let deadline = arguments.images.deadline;
    let serves = async {
        let server = criu.start_page_server_child(&options).await?;
        let port = server.port;
        let json = json!({ "pid": server.pid.as_raw_pid(), "port": port });
        context
            .output
            .answer(format_args!("it listens on port {port}"), &json)?;
        let status = within(deadline, server.wait()).await??;
        if status.success() {
            anyhow::Ok(())
        } else {
            anyhow::bail!("the page server did not get all of a dump: {status}")
        }
    };
    let served = context.signals.give_up(serves).await;
    if served.is_err() {
        criu.idle().await;
        directory.give_up();
    }
    served?;
    Ok(Ended::Done)
}

async fn within<T>(deadline: Option<Duration>, work: impl Future<Output = T>) -> anyhow::Result<T> {
    match deadline {
        Some(deadline) => timeout(deadline, work)
            .await
            .with_context(|| format!("no dump was served within {deadline:?}")),
        None => Ok(work.await),
    }
}
