//! Create with a checkpoint: the image is checked here, so that its faults are told before there
//! is a task, and the options it was dumped with are read back. The restore itself is the Start.

use std::{path::Path, sync::Arc};

use stasis_engine::{
    Engine, host,
    manifest::{self, Manifest},
};
use stasis_proc::RestoreConfig;
use tokio::task::spawn_blocking;

use crate::{
    checkpoint::{Error, Result, WorkDir},
    config::Config,
};

/// The work directory of a restore in the bundle, where the configuration names none.
const WORK_DIR: &str = "criu-restore";

/// What the Start of a container has to restore; `None` if its Create names no checkpoint.
///
/// `asked` and `parent` are the checkpoint that the Create names and the one that it builds on.
///
/// # Errors
/// If the image is not whole, or not one that this engine can restore.
pub async fn plan(
    asked: Option<&Path>,
    parent: Option<&Path>,
    config: &Config,
    engine: &Arc<dyn Engine>,
    bundle: &Path,
) -> Result<Option<RestoreConfig>> {
    if let Some(parent) = parent {
        let parent = parent.to_owned();
        return Err(Error::ParentCheckpoint { parent });
    }
    let Some(image) = asked.or(config.criu_image_path.as_deref()) else {
        return Ok(None);
    };
    let image = image.to_owned();
    let manifest = spawn_blocking({
        let (image, engine) = (image.clone(), Arc::clone(engine));
        move || check(&image, &*engine)
    })
    .await??;
    // An image that another tool made says nothing of its options.
    let options = manifest.map_or_else(|| config.checkpoint.clone(), |manifest| manifest.options);
    engine.check_options(&options)?;
    let work =
        WorkDir::configured(config.criu_work_path.as_deref()).make(&bundle.join(WORK_DIR))?;
    Ok(Some(RestoreConfig {
        image,
        work,
        options,
    }))
}

fn check(image: &Path, engine: &dyn Engine) -> stasis_engine::Result<Option<Manifest>> {
    let binary = engine.binary();
    let build =
        host::build_id(binary).map_err(stasis_engine::Error::io("read the build id of", binary))?;
    Ok(manifest::verify(
        image,
        engine.kind(),
        engine.version(),
        build.as_deref(),
    )?)
}
