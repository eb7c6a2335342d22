//! `stasis page-server`: where the pages of a dump that is made elsewhere go.

use std::{future::Future, time::Duration};

use serde_json::json;
use stasis_criu::pages::PageReceiver;
use tokio::time::timeout;

use super::{Context, Ended, target::Directory};
use crate::{arguments::PageServer, failure::Failure};

/// Serves one dump.
pub async fn run(context: &mut Context<'_>, arguments: &PageServer) -> anyhow::Result<Ended> {
    let options = arguments.options()?;
    let directory = Directory::make(&arguments.images.images_dir)?;
    let (criu, output) = (context.criu.clone(), context.output);
    let serves = async {
        let receiver = PageReceiver::bind(arguments.listens_at()).await?;
        let address = receiver.address();
        let json = json!({ "address": address.ip().to_string(), "port": address.port() });
        output.answer(format_args!("it listens at {address}"), &json)?;
        let from = receiver.receive(&criu, &options).await?;
        if !output.is_json() {
            let pages = directory.path().display();
            output.report(
                format_args!("all pages of a dump from {from} are in {pages}"),
                &json,
            )?;
        }
        anyhow::Ok(())
    };
    let served = within(arguments.images.deadline, serves);
    let served = context.signals.give_up(served).await;
    if served.is_err() {
        // A page server that was given up is ended meanwhile.
        criu.idle().await;
        directory.give_up();
    }
    served.map(|()| Ended::Done)
}

async fn within<T>(
    deadline: Option<Duration>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match deadline {
        Some(deadline) => timeout(deadline, work).await.unwrap_or_else(|_| {
            let why = format!("not all pages of a dump came within {deadline:?}");
            Err(Failure::deadline(why).into())
        }),
        None => work.await,
    }
}
