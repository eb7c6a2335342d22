//! The seal of an image that an engine has written.

use std::sync::Arc;

use stasis_engine::{
    CheckpointReport, Engine,
    manifest::{self, Parts},
};
use tokio::task::spawn_blocking;

use super::{error::Result, options::Plan, stopwatch::Stopwatch};

/// Seals the image of `plan`.
///
/// # Errors
/// If it is not whole, or cannot be written.
pub async fn seal(
    engine: &Arc<dyn Engine>,
    plan: &Plan,
    report: CheckpointReport,
    watch: &mut Stopwatch,
) -> Result<()> {
    let (engine, options) = (Arc::clone(engine), plan.options.clone());
    let (image, phases) = (plan.image.clone(), watch.phases().to_vec());
    // The end of the container must not overtake its image on the way to the disk.
    let durable = plan.exit;
    spawn_blocking(move || {
        let parts = Parts::of(engine.identity(), report.criu_version, options, phases)?;
        manifest::seal(&image, parts, durable).map(drop)
    })
    .await??;
    watch.lap("seal");
    Ok(())
}
