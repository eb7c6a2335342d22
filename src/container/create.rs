//! Create: from a request to a container whose init waits to be started, or, with a checkpoint,
//! to one whose Start will be a restore.
//!
//! What can be refused is refused before anything is made; what was made is undone when a later
//! step fails.

use std::{path::PathBuf, sync::Arc};

use containerd_shim_protos::{
    api::CreateTaskRequest,
    events::task::{TaskCreate, TaskIO},
    protobuf::MessageField,
};
use stasis_engine::Children;
use stasis_proc::{CreateConfig, Init, InitConfig, ProcessMonitor, StdioPaths};
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{Container, Order, Result, Shared, pid_number, restore};
use crate::{
    bundle::RuntimeRecord, config::Config, events::Publisher, invoked_as::InvokedAs, logging,
    mounts::RootfsMounts, spec,
};

/// Where containers are made: what all those of one shim have in common.
#[derive(Debug, Clone)]
pub struct Birthplace {
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

/// Makes a container.
///
/// # Errors
/// If the request cannot be honoured or the runtime fails; nothing of the container is left.
pub async fn create(place: &Birthplace, request: &CreateTaskRequest) -> Result<Container> {
    let stdio = stdio(request);
    stdio.check()?;
    let bundle = PathBuf::from(&request.bundle);
    let config = Config::resolve(&place.invoked_as, request.options.as_ref())?;
    logging::configure(&config, &request.id);
    let mut spec = spec::read(&bundle)?;
    let engine = config
        .connect(&place.namespace, &bundle, place.children.clone())
        .await?;
    let restore = restore::plan(request, &config, &engine, &bundle).await?;
    RuntimeRecord::new(&config, &*engine, &place.namespace, &request.id).write(&bundle)?;
    if engine.prepare_spec(&bundle, &mut spec)? {
        spec::write(&bundle, &spec)?;
    }
    let (mounts, target) = (request.rootfs.clone(), bundle.join("rootfs"));
    let rootfs = spawn_blocking(move || RootfsMounts::mount(&mounts, &target)).await??;
    let (exit_sender, exits) = mpsc::unbounded_channel();
    let init = Init::new(InitConfig {
        id: request.id.clone(),
        work_dir: bundle.clone(),
        bundle: bundle.clone(),
        engine: Arc::clone(&engine),
        monitor: Arc::clone(&place.monitor),
        exits: exit_sender,
        io_uid: config.io_uid,
        io_gid: config.io_gid,
        sandbox: false,
        user_log: None,
        kill_all_on_exit: !spec::has_private_pid_namespace(&spec),
    });
    if let Err(error) = init.create(CreateConfig { stdio, restore }).await {
        // A fault there must not hide why the container was not made.
        let _ = spawn_blocking(move || drop(rootfs)).await;
        return Err(error.into());
    }
    rootfs.keep();
    announce(place, request, &init);
    let shared = Shared {
        id: request.id.clone(),
        bundle,
        config,
        engine,
        init,
        execs: Default::default(),
        order: Order::new(&request.id).into(),
        publisher: place.publisher.clone(),
    };
    Ok(Container::new(shared, exits))
}

fn stdio(request: &CreateTaskRequest) -> StdioPaths {
    StdioPaths {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}

fn announce(place: &Birthplace, request: &CreateTaskRequest, init: &Init) {
    place.publisher.publish(&TaskCreate {
        container_id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        io: MessageField::some(TaskIO {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
            ..TaskIO::default()
        }),
        checkpoint: request.checkpoint.clone(),
        pid: pid_number(init.pid()),
        ..TaskCreate::default()
    });
}
