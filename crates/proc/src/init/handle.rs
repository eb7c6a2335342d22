//! What every verb of an init process works on, and what can be asked of it at any time.

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

use super::{
    config::InitConfig,
    state::{InitState, Lifecycle, Permit},
    verb::Verb,
};
use crate::{
    error::{Error, Result},
    exit::ExitSender,
    monitor::ProcessMonitor,
    status::Status,
    stdio::{Owner, StdioPaths, Streams},
    sync::lock,
};

/// The init process of a container.
#[derive(Debug)]
pub struct Init {
    pub(crate) config: InitConfig,
    pub(super) life: Arc<Lifecycle>,
    pub(super) pid: OnceLock<Pid>,
    pub(super) streams: Mutex<Option<Arc<Streams>>>,
    /// Gives up the restore in progress, if there is one.
    pub(super) restoring: Mutex<Option<oneshot::Sender<()>>>,
    pub(super) execs: AtomicU64,
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
            InitState::New | InitState::Created(_) | InitState::CreatedFromCheckpoint(_) => {
                Status::Created
            }
            InitState::Running(_) if verb == Some(Verb::Pause) => Status::Pausing,
            InitState::Running(_) | InitState::Killed(_) => Status::Running,
            InitState::Paused(_) => Status::Paused,
            InitState::Stopped { .. } => Status::Stopped,
            InitState::Deleted => Status::Deleted,
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

    /// Whether an exec can be started just now.
    pub(crate) fn check_exec(&self) -> Result<()> {
        self.life.check(Verb::Exec)
    }

    /// The number of the next exec: a name of our own for its files, since its id is the client's,
    /// and may be no file name.
    pub(crate) fn next_exec(&self) -> u64 {
        self.execs.fetch_add(1, Ordering::Relaxed)
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

    pub(super) fn streams(&self) -> Option<Arc<Streams>> {
        lock(&self.streams).clone()
    }

    /// Closes the streams. Their paths stay known.
    pub(super) fn close_streams(&self) {
        if let Some(streams) = lock(&self.streams).as_ref() {
            streams.close();
        }
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.config.bundle.join("init.pid")
    }

    /// Removes the files that were made for it in the bundle.
    pub(super) fn remove_files(&self) {
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
