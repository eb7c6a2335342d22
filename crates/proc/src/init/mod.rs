//! The init process of a container, which stands for the container itself.
//!
//! The exit of the container is the exit of the process whose pid the engine gives: init, or
//! runsc's sandbox, which exits as the container does. It is adopted before it is started, so
//! that one which ends at once is not missed, and the death of one that never starts is noticed.
//!
//! One file for each verb, or pair of verbs; what is permitted when is in [`state`]. A verb that
//! fails leaves the state as it was, but for a restore, which leaves a stopped container.

mod checkpoint;
mod config;
mod create;
mod delete;
mod exit;
mod kill;
mod pause;
mod start;
mod state;
mod verb;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::unistd::Pid;
use stasis_engine::Engine;
use tokio::sync::oneshot;

pub use self::{
    checkpoint::Checkpointing,
    config::{CreateConfig, InitConfig, RestoreConfig},
};
pub(crate) use self::{delete::DRAIN_LIMIT, state::Permit};
use self::{
    state::{Lifecycle, State},
    verb::Verb,
};
use crate::{
    Error, Exec, ExecConfig, ExitSender, ProcessMonitor, Result, StdioPaths,
    stdio::{Owner, Streams},
    sync::lock,
};

/// The state of a process, as a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is being made, or waits to be started or restored.
    Created,
    /// It runs.
    Running,
    /// It is being frozen.
    Pausing,
    /// It is frozen.
    Paused,
    /// It has ended.
    Stopped,
    /// Nothing is left of it.
    Deleted,
}

/// The init process of a container.
#[derive(Debug)]
pub struct Init {
    config: InitConfig,
    life: Arc<Lifecycle>,
    pid: OnceLock<Pid>,
    streams: Mutex<Option<Arc<Streams>>>,
    /// Gives up the restore in progress, if there is one.
    restoring: Mutex<Option<oneshot::Sender<()>>>,
    execs: AtomicU64,
}

impl Init {
    /// An init process of which nothing was made yet.
    #[must_use]
    pub fn new(config: InitConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            life: Lifecycle::new(),
            pid: OnceLock::new(),
            streams: Mutex::default(),
            restoring: Mutex::default(),
            execs: AtomicU64::new(0),
        })
    }

    /// One more process for the running container. Nothing of it is made before it is started,
    /// but its streams are checked.
    ///
    /// # Errors
    /// If the container does not run or another verb is in progress, or for streams that are not
    /// supported.
    pub fn exec(self: &Arc<Self>, config: ExecConfig) -> Result<Arc<Exec>> {
        self.life.check(Verb::Exec)?;
        config.stdio.check()?;
        // A name of our own for its files: the id is the client's, and may be no file name.
        let number = self.execs.fetch_add(1, Ordering::Relaxed);
        Exec::new(Arc::clone(self), config, number)
    }

    /// The pids of its processes as its engine counts them: none if nothing of it runs.
    ///
    /// # Errors
    /// If the runtime refuses.
    pub async fn processes(&self) -> Result<Vec<i32>> {
        match self.life.process() {
            Some(_) => Ok(self.config.engine.processes(self.id()).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Its state, whatever is in progress.
    #[must_use]
    pub fn status(&self) -> Status {
        self.life.look(|state, verb| match state {
            State::New | State::Created(_) | State::CreatedFromCheckpoint(_) => Status::Created,
            State::Running(_) if verb == Some(Verb::Pause) => Status::Pausing,
            State::Running(_) | State::Killed(_) => Status::Running,
            State::Paused(_) => Status::Paused,
            State::Stopped { .. } => Status::Stopped,
            State::Deleted => Status::Deleted,
        })
    }

    /// The pid of the process whose end is the container's, from when it is made and for ever.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.pid.get().copied()
    }

    /// The paths of its streams, as they were given.
    #[must_use]
    pub fn stdio(&self) -> StdioPaths {
        self.streams()
            .map(|streams| streams.paths().clone())
            .unwrap_or_default()
    }

    /// Lets its input end when the last writer has gone.
    pub async fn close_stdin(&self) {
        if let Some(streams) = self.streams() {
            streams.close_stdin();
        }
    }

    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// The runtime.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Engine> {
        &self.config.engine
    }

    /// Who reaps its processes.
    #[must_use]
    pub fn monitor(&self) -> &Arc<ProcessMonitor> {
        &self.config.monitor
    }

    /// Its OCI bundle.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.config.bundle
    }

    /// The root of its file system, which the shim mounts.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.config.bundle.join("rootfs")
    }

    /// Where files of it go that are none of the bundle's.
    #[must_use]
    pub fn work_dir(&self) -> &Path {
        &self.config.work_dir
    }

    /// Whether it is the sandbox of a pod, or a container of its own.
    #[must_use]
    pub fn sandbox(&self) -> bool {
        self.config.sandbox
    }

    /// Where runsc writes what it has to say to the container's user.
    #[must_use]
    pub fn user_log(&self) -> Option<&Path> {
        self.config.user_log.as_deref()
    }

    /// The user that owns the container's ends of its streams.
    #[must_use]
    pub fn io_uid(&self) -> u32 {
        self.config.io_uid
    }

    /// The group that owns the container's ends of its streams.
    #[must_use]
    pub fn io_gid(&self) -> u32 {
        self.config.io_gid
    }

    /// The permission to start an exec.
    pub(crate) fn permit_exec(&self) -> Result<Permit> {
        self.life.permit(Verb::Exec)
    }

    /// Where exits are sent.
    pub(crate) fn exits(&self) -> &ExitSender {
        &self.config.exits
    }

    /// Who owns the container's ends of streams.
    pub(crate) fn owner(&self) -> Owner {
        Owner {
            uid: self.config.io_uid,
            gid: self.config.io_gid,
        }
    }

    fn streams(&self) -> Option<Arc<Streams>> {
        lock(&self.streams).clone()
    }

    /// Closes the streams. Their paths stay known.
    fn close_streams(&self) {
        if let Some(streams) = lock(&self.streams).as_ref() {
            streams.close();
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.config.bundle.join("init.pid")
    }

    /// Removes the files that were made for it in the bundle.
    fn remove_files(&self) {
        remove_file(&self.pid_file());
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove_file(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a file");
        }
        Ok(()) | Err(_) => {}
    }
}

/// For a process of `id` that cannot be adopted.
pub(crate) fn cannot_watch(id: &str, pid: Pid) -> impl FnOnce(std::io::Error) -> Error {
    let id = id.to_owned();
    move |source| Error::Watch { pid, id, source }
}
