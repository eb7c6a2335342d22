//! Create: from a request to a container whose init waits to be started, or, with a checkpoint,
//! to one whose Start will be a restore.
//!
//! What can be refused is refused before anything is made; what was made is undone when a later
//! step fails.

use std::{path::PathBuf, sync::Arc};

use stasis_engine::Children;
use stasis_proc::{CreateConfig, Init, InitConfig, ProcessMonitor, StdioPaths};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{Container, Order, Result, Shared, pid_number, restore};
use crate::{
    bundle::RuntimeRecord,
    config::{Config, RequestedConfig},
    events::{Created, Event, Publisher},
    invoked_as::InvokedAs,
    logging,
    mounts::{MountRequest, RootfsMounts},
    spec,
};

/// What all containers of one shim have in common.
#[derive(Debug, Clone)]
pub struct ShimContext {
    /// containerd's namespace.
    pub namespace: String,
    /// The name under which the shim was started.
    pub invoked_as: InvokedAs,
    /// The child processes that this shim waits for.
    pub children: Children,
    /// Watches the processes of containers.
    pub monitor: Arc<ProcessMonitor>,
    /// Where events go.
    pub publisher: Publisher,
}

/// What a Create asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateRequest {
    /// The container's id.
    pub id: String,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// What its root file system is mounted from.
    pub rootfs: Vec<MountRequest>,
    /// The streams of its init.
    pub stdio: StdioPaths,
    /// The runtime options.
    pub config: RequestedConfig,
    /// The image to restore from.
    pub checkpoint: Option<PathBuf>,
    /// The image that this one builds on.
    pub parent_checkpoint: Option<PathBuf>,
}

/// Makes a container.
///
/// # Errors
/// If the request cannot be honoured or the runtime fails; nothing of the container is left.
pub async fn create(context: &ShimContext, request: CreateRequest) -> Result<Container> {
    request.stdio.check()?;
    let (id, bundle) = (request.id.clone(), request.bundle.clone());
    let config = Config::resolve(&context.invoked_as, request.config.clone())?;
    logging::configure(&config, &id);
    let mut spec = spec::read(&bundle)?;
    let engine = config
        .connect(&context.namespace, &bundle, context.children.clone())
        .await?;
    let (image, parent) = (
        request.checkpoint.as_deref(),
        request.parent_checkpoint.as_deref(),
    );
    let restore = restore::plan(image, parent, &config, &engine, &bundle).await?;
    RuntimeRecord::new(&config, &*engine, &context.namespace, &id).write(&bundle)?;
    if engine.prepare_spec(&bundle, &mut spec)? {
        spec::write(&bundle, &spec)?;
    }
    let (mounts, target) = (request.rootfs.clone(), bundle.join("rootfs"));
    let rootfs = spawn_blocking(move || RootfsMounts::mount(&mounts, &target)).await??;
    let (exit_sender, exits) = mpsc::unbounded_channel();
    let init = Init::new(InitConfig {
        id: id.clone(),
        work_dir: bundle.clone(),
        bundle: bundle.clone(),
        engine: Arc::clone(&engine),
        monitor: Arc::clone(&context.monitor),
        exits: exit_sender,
        io_uid: config.io_uid,
        io_gid: config.io_gid,
        sandbox: false,
        user_log: None,
        kill_all_on_exit: !spec::has_private_pid_namespace(&spec),
    });
    let stdio = request.stdio.clone();
    if let Err(error) = init.create(CreateConfig { stdio, restore }).await {
        // A fault there must not hide why the container was not made.
        let _ = spawn_blocking(move || drop(rootfs)).await;
        return Err(error.into());
    }
    rootfs.keep();
    announce(context, request, &init);
    let shared = Shared {
        order: Order::new(&id).into(),
        id,
        bundle,
        config,
        engine,
        init,
        execs: Default::default(),
        publisher: context.publisher.clone(),
    };
    Ok(Container::new(shared, exits))
}

fn announce(context: &ShimContext, request: CreateRequest, init: &Init) {
    let created = Created {
        bundle: request.bundle,
        rootfs: request.rootfs,
        stdio: request.stdio,
        checkpoint: request.checkpoint,
        pid: pid_number(init.pid()),
    };
    let event = Event::Created(Box::new(created));
    context.publisher.publish(&request.id, event);
}
