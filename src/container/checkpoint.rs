//! Checkpoint: from its options to a sealed image and what becomes of the container.

use std::path::Path;

use stasis_engine::{
    Afterwards, Checkpoint, CheckpointReport, EngineStatus, Error as EngineError, Kind, manifest,
};
use stasis_linux::chain;
use stasis_proc::Checkpointing;

use super::{Result, Shared};
use crate::{
    checkpoint::{self, CheckpointRequest, Error, ImageDir, Plan, Stopwatch},
    events::Event,
};

/// The work directory of a dump in the bundle, where the request and the configuration name none.
/// It outlives a failed dump, so that its log can be read.
const WORK_DIR: &str = "criu-dump";

impl Shared {
    /// Checkpoints the container as the request asks, and ends it afterwards if the request says
    /// so.
    ///
    /// # Errors
    /// If the request is refused, or the dump or the seal fails: the container is then in the
    /// state in which it came, and nothing is left of the image. A container that CRIU has ended
    /// with the dump has ended whatever fails afterwards, and its image is kept
    /// ([`Error::Unsealed`]). One whose image is sealed and that cannot be killed goes on, and the
    /// image is kept, too.
    pub async fn checkpoint(&self, request: CheckpointRequest) -> Result<()> {
        let mut watch = Stopwatch::start();
        let plan = Plan::resolve(request, &self.config)?;
        self.engine.check_options(&plan.options)?;
        let turn = self.init.begin_checkpoint()?;
        let afterwards = self.afterwards(&plan, &turn);
        let (image, call) = match self.prepare(&plan, afterwards) {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.released(turn, error).await.into()),
        };
        watch.lap("preflight");
        let report = match dump(&turn, &plan, &call, &mut watch).await {
            Ok(report) => report,
            Err(error) => {
                // The runtime may fail after CRIU has done everything.
                let ended = afterwards.ends_by_criu() && self.has_ended().await;
                return Err(self.failed(turn, image, error, ended).await.into());
            }
        };
        if let Err(error) = checkpoint::seal(&self.engine, &plan, report, &mut watch).await {
            let ended = afterwards.ends_by_criu();
            return Err(self.failed(turn, image, error, ended).await.into());
        }
        image.keep();
        self.publish(Event::Checkpointed {
            image: plan.image.clone(),
        });
        if afterwards.ends_by_criu() {
            turn.ended_by_criu().await;
        } else if plan.exit {
            turn.end().await?;
        } else {
            turn.release().await?;
        }
        watch.lap("end");
        self.log_checkpoint(&plan.image, &watch);
        Ok(())
    }

    /// What becomes of the image and of the container after `error`, which is given back.
    async fn failed(
        &self,
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
        self.released(turn, error).await
    }

    /// Lets the container go on in the state in which it came, after `error`, which is given back.
    async fn released(&self, turn: Checkpointing, error: Error) -> Error {
        if let Err(stuck) = turn.release().await {
            tracing::error!("container {} stays frozen: {}", self.id, chain(&stuck));
        }
        error
    }

    /// Whether the runtime has nothing left of the container that runs.
    async fn has_ended(&self) -> bool {
        match self.engine.state(&self.id).await {
            Ok(state) => state.status == EngineStatus::Stopped,
            Err(error) => matches!(error, EngineError::NoSuchContainer { .. }),
        }
    }

    /// What the engine is to leave behind. CRIU itself ends a container with established
    /// connections: they stay silent only if it kills their owners before it lifts its network
    /// lock. Every other one that is to end is frozen here, and ended when its image is sealed.
    fn afterwards(&self, plan: &Plan, turn: &Checkpointing) -> Afterwards {
        let frozen = turn.was_paused();
        let by_criu = plan.options.tcp_established && self.engine.kind() != Kind::Runsc;
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
        &self,
        plan: &Plan,
        afterwards: Afterwards,
    ) -> checkpoint::Result<(ImageDir, Checkpoint)> {
        let image = ImageDir::claim(&plan.image)?;
        let own = self.bundle.join(WORK_DIR);
        let call = Checkpoint {
            image: plan.image.clone(),
            work: image.work_dir(&plan.work, &own)?,
            bundle: self.bundle.clone(),
            options: plan.options.clone(),
            afterwards,
        };
        Ok((image, call))
    }

    fn log_checkpoint(&self, image: &Path, watch: &Stopwatch) {
        let phases: Vec<String> = watch
            .phases()
            .iter()
            .map(|phase| format!("{} {:?}", phase.name, phase.took))
            .collect();
        tracing::info!(
            "container {} checkpointed to {} in {:?}: {}",
            self.id,
            image.display(),
            watch.total(),
            phases.join(", ")
        );
    }
}

/// Freezes the container if it is to end here, and dumps it.
async fn dump(
    turn: &Checkpointing,
    plan: &Plan,
    call: &Checkpoint,
    watch: &mut Stopwatch,
) -> checkpoint::Result<CheckpointReport> {
    if call.afterwards.ends_by_criu() {
        manifest::reserve_room(&plan.image)?;
    } else if plan.exit {
        // What it did between the dump and its end would be lost.
        turn.freeze().await?;
        watch.lap("freeze");
    }
    let report = turn.dump(call).await?;
    watch.lap("dump");
    Ok(report)
}
