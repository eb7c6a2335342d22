//! The Checkpoint request: from its options to a sealed image and what becomes of the container.

use std::{path::Path, sync::Arc};

use containerd_shim_protos::{api::CheckpointTaskRequest, events::task::TaskCheckpointed};
use stasis_engine::{
    Afterwards, Checkpoint, CheckpointReport, EngineStatus, Error as EngineError, Kind,
    manifest::{self, Parts},
};
use stasis_proc::Checkpointing;
use tokio::task::spawn_blocking;

use super::{Error, Result, image_dir::ImageDir, options::Plan, stopwatch::Stopwatch};
use crate::{container::Shared, status::chain};

/// The work directory of a dump in the bundle, where the request and the configuration name none.
/// It outlives a failed dump, so that its log can be read.
const WORK_DIR: &str = "criu-dump";

/// Captures a container as the request asks, and ends it afterwards if the request says so.
///
/// # Errors
/// If the request is refused, or the dump or the seal fails: the container is then in the state
/// in which it came, and nothing is left of the image. A container that CRIU has ended with the
/// dump has ended whatever fails afterwards, and its image is kept ([`Error::Unsealed`]). One whose
/// image is sealed and that cannot be killed goes on, and the image is kept, too.
pub async fn capture(container: &Shared, request: &CheckpointTaskRequest) -> Result<()> {
    let mut watch = Stopwatch::start();
    let plan = Plan::resolve(request, container.config())?;
    container.engine().check_options(&plan.options)?;
    let turn = container.init().begin_checkpoint()?;
    let afterwards = afterwards(container, &plan, &turn);
    let (image, call) = match prepare(container, &plan, afterwards) {
        Ok(prepared) => prepared,
        Err(error) => return Err(released(container, turn, error).await),
    };
    watch.lap("preflight");
    let report = match dump(&turn, &plan, &call, &mut watch).await {
        Ok(report) => report,
        Err(error) => {
            // The runtime may fail after CRIU has done everything.
            let ended = afterwards.ends_by_criu() && has_ended(container).await;
            return Err(failed(container, turn, image, error, ended).await);
        }
    };
    if let Err(error) = seal(container, &plan, report, &mut watch).await {
        let ended = afterwards.ends_by_criu();
        return Err(failed(container, turn, image, error, ended).await);
    }
    image.keep();
    announce(container, &plan.image);
    if afterwards.ends_by_criu() {
        turn.ended_by_criu().await;
    } else if plan.exit {
        turn.end().await?;
    } else {
        turn.release().await?;
    }
    watch.lap("end");
    log(container, &plan.image, &watch);
    Ok(())
}

/// What becomes of the image and of the container after `error`, which is given back.
async fn failed(
    container: &Shared,
    turn: Checkpointing,
    image: ImageDir,
    error: Error,
    ended: bool,
) -> Error {
    // Before what was written is removed again.
    let error = image.explain(error);
    if ended {
        // The image is all that is left of the container.
        let (image, source) = (image.keep(), Box::new(error));
        turn.ended_by_criu().await;
        return Error::Unsealed { image, source };
    }
    image.discard().await;
    released(container, turn, error).await
}

/// Lets the container go on in the state in which it came, after `error`, which is given back.
async fn released(container: &Shared, turn: Checkpointing, error: Error) -> Error {
    if let Err(stuck) = turn.release().await {
        tracing::error!(
            "container {} stays frozen: {}",
            container.id(),
            chain(&stuck)
        );
    }
    error
}

/// Whether the runtime has nothing left of the container that runs.
async fn has_ended(container: &Shared) -> bool {
    match container.engine().state(container.id()).await {
        Ok(state) => state.status == EngineStatus::Stopped,
        Err(error) => matches!(error, EngineError::NoSuchContainer { .. }),
    }
}

/// What the engine is to leave behind. CRIU itself ends a container with established
/// connections: they stay silent only if it kills their owners before it lifts its network lock.
/// Every other one that is to end is frozen here, and ended when its image is sealed.
fn afterwards(container: &Shared, plan: &Plan, turn: &Checkpointing) -> Afterwards {
    let frozen = turn.was_paused();
    let by_criu = plan.options.tcp_established && container.engine().kind() != Kind::Runsc;
    if plan.exit && by_criu {
        Afterwards::EndsByCriu { frozen }
    } else if plan.exit || frozen {
        Afterwards::StaysFrozen
    } else {
        Afterwards::GoesOn
    }
}

/// Claims the image directory, and says what the engine is to do.
fn prepare(
    container: &Shared,
    plan: &Plan,
    afterwards: Afterwards,
) -> Result<(ImageDir, Checkpoint)> {
    let image = ImageDir::claim(&plan.image)?;
    let own = container.bundle().join(WORK_DIR);
    let call = Checkpoint {
        image: plan.image.clone(),
        work: image.work_dir(&plan.work, &own)?,
        bundle: container.bundle().to_owned(),
        options: plan.options.clone(),
        afterwards,
    };
    Ok((image, call))
}

/// Freezes the container if it is to end here, and dumps it.
async fn dump(
    turn: &Checkpointing,
    plan: &Plan,
    call: &Checkpoint,
    watch: &mut Stopwatch,
) -> Result<CheckpointReport> {
    if call.afterwards.ends_by_criu() {
        manifest::reserve_room(&plan.image)?;
    } else if plan.exit {
        // What it did between the dump and its end would be lost.
        turn.freeze().await?;
        watch.lap("freeze");
    }
    let report = turn.capture(call).await?;
    watch.lap("dump");
    Ok(report)
}

/// Seals the image.
async fn seal(
    container: &Shared,
    plan: &Plan,
    report: CheckpointReport,
    watch: &mut Stopwatch,
) -> Result<()> {
    let (engine, options) = (Arc::clone(container.engine()), plan.options.clone());
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

fn announce(container: &Shared, image: &Path) {
    container.publisher().publish(&TaskCheckpointed {
        container_id: container.id().to_owned(),
        checkpoint: image.display().to_string(),
        ..TaskCheckpointed::default()
    });
}

fn log(container: &Shared, image: &Path, watch: &Stopwatch) {
    let phases: Vec<String> = watch
        .phases()
        .iter()
        .map(|phase| format!("{} {:?}", phase.name, phase.took))
        .collect();
    tracing::info!(
        "container {} checkpointed to {} in {:?}: {}",
        container.id(),
        image.display(),
        watch.total(),
        phases.join(", ")
    );
}
