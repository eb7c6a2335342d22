//! The exec process and its verbs.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::SystemTime,
};

use nix::unistd::Pid;
use serde_json::Value;
use stasis_engine::{Error as EngineError, ExecPids, Signal, Target};
use tokio::sync::SetOnce;

use super::{files::Files, state::ExecState};
use crate::{
    error::{Error, Result},
    exit::Exit,
    init::{DRAIN_LIMIT, Init, cannot_watch},
    monitor::Watched,
    status::Status,
    stdio::{StdioPaths, Streams},
    sync::lock,
};

/// What an exec process is made of.
#[derive(Debug)]
pub struct ExecConfig {
    /// Its id, which the client chose.
    pub id: String,
    /// Its streams.
    pub stdio: StdioPaths,
    /// An OCI process document.
    pub process: Value,
}

/// An exec process.
#[derive(Debug)]
pub struct Exec {
    pub(crate) parent: Arc<Init>,
    config: ExecConfig,
    number: u64,
    state: Mutex<ExecState>,
    pids: OnceLock<ExecPids>,
    streams: OnceLock<Streams>,
    exit: SetOnce<Exit>,
}

impl Init {
    /// One more process for the running container. Nothing of it is made before it is started,
    /// but its streams are checked.
    ///
    /// # Errors
    /// If the container does not run or another verb is in progress, or for streams that are not
    /// supported.
    pub fn exec(self: &Arc<Self>, config: ExecConfig) -> Result<Arc<Exec>> {
        self.check_exec()?;
        config.stdio.check()?;
        Exec::new(Arc::clone(self), config, self.next_exec())
    }
}

impl Exec {
    fn new(parent: Arc<Init>, mut config: ExecConfig, number: u64) -> Result<Arc<Self>> {
        match config.process.as_object_mut() {
            // The request decides, whatever the document says. Terminals were refused before.
            Some(process) => process.insert("terminal".to_owned(), Value::Bool(false)),
            None => return Err(Error::NotAProcess { id: config.id }),
        };
        Ok(Arc::new(Self {
            parent,
            config,
            number,
            state: Mutex::new(ExecState::Created),
            pids: OnceLock::new(),
            streams: OnceLock::new(),
            exit: SetOnce::new(),
        }))
    }

    /// Starts it. If that fails it is stopped, and has an exit that is not sent.
    ///
    /// # Errors
    /// If it was started before, if the container does not run, or if the runtime refuses.
    pub async fn start(self: &Arc<Self>) -> Result<Pid> {
        let _permit = self.parent.permit_exec()?;
        let attempt = self.attempt()?;
        let process = self.launch().await?;
        drop(attempt);
        let pid = process.pid();
        tokio::spawn(Arc::clone(self).ended(process));
        Ok(pid)
    }

    /// Signals it.
    ///
    /// # Errors
    /// [`Error::Finished`] if it has ended, if it was not started, or if the runtime refuses.
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        let finished = || Error::Finished {
            id: self.id().to_owned(),
        };
        let (process, pids) = match &*self.state() {
            // Reaped, but not told of while its last output is taken.
            ExecState::Running(process, _) if process.exited().is_some() => {
                return Err(finished());
            }
            ExecState::Running(process, pids) => (process.clone(), *pids),
            ExecState::Stopped | ExecState::Deleted => return Err(finished()),
            state => return Err(state.refuse("kill")),
        };
        match self
            .parent
            .runtime()
            .kill(
                self.parent.id(),
                signal,
                Target::Exec(pids),
                process.pidfd(),
            )
            .await
        {
            Ok(()) => Ok(()),
            Err(EngineError::NoSuchProcess { .. } | EngineError::NoSuchContainer { .. }) => {
                Err(finished())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Closes one that does not run, and tells how it ended. One that never ran has no status of
    /// its own ([`crate::NO_STATUS`]). This takes as long as nobody reads its last output, but ten
    /// seconds at most.
    ///
    /// # Errors
    /// If it runs, or was deleted before, be it that this still waits for its output.
    pub async fn delete(&self) -> Result<Exit> {
        match &mut *self.state() {
            state @ ExecState::Stopped => *state = ExecState::Deleted,
            state @ ExecState::Created => {
                *state = ExecState::Deleted;
                let _ = self.exit.set(Exit::without_status(self.id()));
            }
            state => return Err(state.refuse("delete")),
        }
        if let Some(streams) = self.streams.get() {
            if !streams.drain(DRAIN_LIMIT).await {
                tracing::warn!(id = self.id(), "output is lost: nobody has read it in time");
            }
            streams.close();
        }
        Ok(self.wait().await)
    }

    /// Waits for its end; any number may wait, before and after it.
    pub async fn wait(&self) -> Exit {
        self.exit.wait().await.clone()
    }

    /// Its state. One that runs in a paused container is paused.
    #[must_use]
    pub fn status(&self) -> Status {
        match &*self.state() {
            ExecState::Created | ExecState::Starting => Status::Created,
            ExecState::Running(..) => match self.parent.status() {
                frozen @ (Status::Pausing | Status::Paused) => frozen,
                _ => Status::Running,
            },
            ExecState::Stopped => Status::Stopped,
            ExecState::Deleted => Status::Deleted,
        }
    }

    /// Its pid on the host, from when it is started and for ever.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.pids.get().map(|pids| pids.host)
    }

    /// The pid by which [`Init::processes`] lists it.
    #[must_use]
    pub fn inner_pid(&self) -> Option<i32> {
        self.pids.get().map(|pids| pids.inner)
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<u32> {
        self.exit.get().map(|exit| exit.status)
    }

    /// When it ended, if it has.
    #[must_use]
    pub fn exited_at(&self) -> Option<SystemTime> {
        self.exit.get().map(|exit| exit.timestamp)
    }

    /// The paths of its streams, as they were given.
    #[must_use]
    pub fn stdio(&self) -> &StdioPaths {
        &self.config.stdio
    }

    /// Lets its input end when the last writer has gone.
    pub async fn close_stdin(&self) {
        if let Some(streams) = self.streams.get() {
            streams.close_stdin();
        }
    }

    /// Its id, which the client chose.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.config.id
    }

    fn state(&self) -> MutexGuard<'_, ExecState> {
        lock(&self.state)
    }

    fn attempt(&self) -> Result<Attempt<'_>> {
        match &mut *self.state() {
            state @ ExecState::Created => *state = ExecState::Starting,
            state => return Err(state.refuse("start")),
        }
        Ok(Attempt(self))
    }

    /// Has the runtime start it, and adopts it.
    async fn launch(&self) -> Result<Watched> {
        let streams = Streams::open(&self.config.stdio, self.parent.owner())?;
        let stdio = self.streams.get_or_init(|| streams).container_ends();
        let files = Files::write(self.parent.bundle(), self.number, &self.config.process)?;
        let request = stasis_engine::Exec {
            process_file: files.process.clone(),
            pid_file: files.pid.clone(),
            stdio,
        };
        let birth = self.parent.monitor().expect_birth();
        let pids = self
            .parent
            .runtime()
            .exec(self.parent.id(), request)
            .await?;
        let process = birth
            .adopt(pids.host)
            .map_err(cannot_watch(self.id(), pids.host))?;
        *self.state() = ExecState::Running(process.clone(), *self.pids.get_or_init(|| pids));
        Ok(process)
    }

    /// Tells of the end of its process when it comes.
    async fn ended(self: Arc<Self>, process: Watched) {
        let exit = Exit::of(self.id(), process.wait().await);
        if let Some(streams) = self.streams.get() {
            streams.process_ended();
            streams.taken().await;
        }
        *self.state() = ExecState::Stopped;
        let _ = self.exit.set(exit.clone());
        if self.parent.exits().send(exit).is_err() {
            tracing::debug!(id = self.id(), "nobody takes exits any more");
        }
    }
}

/// A start in progress. If it fails or is given up, the process has ended: waiting for it and
/// deleting it must not hang.
struct Attempt<'a>(&'a Exec);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if matches!(*state, ExecState::Starting) {
            *state = ExecState::Stopped;
            if let Some(streams) = self.0.streams.get() {
                streams.close();
            }
            let _ = self.0.exit.set(Exit::without_status(self.0.id()));
        }
    }
}
