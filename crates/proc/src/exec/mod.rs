//! One more process in a running container.
//!
//! Its exit is the exit of the process on the host that the engine names: with runsc the resident
//! `runsc exec` helper, which exits as the process in the sandbox does. Its files in the bundle
//! are numbered, since its id is the client's and may be no file name, and are removed as soon as
//! the runtime has read them.

mod files;
mod state;

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::SystemTime,
};

use nix::unistd::Pid;
use serde_json::Value;
use stasis_engine::{Error as EngineError, ExecPids, Signal, Target};

use self::{files::Files, state::State};
use crate::{
    Error, Exit, Init, Process, Result, Status, StdioPaths,
    init::{DRAIN_LIMIT, cannot_watch},
    stdio::Streams,
    sync::{Told, lock},
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
    parent: Arc<Init>,
    config: ExecConfig,
    number: u64,
    state: Mutex<State>,
    pids: OnceLock<ExecPids>,
    streams: OnceLock<Streams>,
    exit: Told<Exit>,
}

impl Exec {
    pub(crate) fn new(parent: Arc<Init>, mut config: ExecConfig, number: u64) -> Result<Arc<Self>> {
        match config.process.as_object_mut() {
            // The request decides, whatever the document says. Terminals were refused before.
            Some(process) => process.insert("terminal".to_owned(), Value::Bool(false)),
            None => return Err(Error::NotAProcess { id: config.id }),
        };
        Ok(Arc::new(Self {
            parent,
            config,
            number,
            state: Mutex::new(State::Created),
            pids: OnceLock::new(),
            streams: OnceLock::new(),
            exit: Told::new(None),
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
        let pids = match &*self.state() {
            // Reaped, but not told of while its last output is taken: its pid may be another's by
            // now. Nothing comes between this look and the signal of runc's and crun's engine,
            // which goes to the pid at once, on the shim's only thread.
            State::Running(process, _) if process.exited().is_some() => return Err(finished()),
            State::Running(_, pids) => *pids,
            State::Stopped | State::Deleted => return Err(finished()),
            state => return Err(state.refuse("kill")),
        };
        match self
            .parent
            .runtime()
            .kill(self.parent.id(), signal, Target::Exec(pids))
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
            state @ State::Stopped => *state = State::Deleted,
            state @ State::Created => {
                *state = State::Deleted;
                self.exit.tell(Exit::without_status(self.id()));
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
        self.exit.wait().await
    }

    /// Its state. One that runs in a paused container is paused.
    #[must_use]
    pub fn status(&self) -> Status {
        match &*self.state() {
            State::Created | State::Starting => Status::Created,
            State::Running(..) => match self.parent.status() {
                frozen @ (Status::Pausing | Status::Paused) => frozen,
                _ => Status::Running,
            },
            State::Stopped => Status::Stopped,
            State::Deleted => Status::Deleted,
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

    /// The container's init process.
    #[must_use]
    pub fn parent(&self) -> &Arc<Init> {
        &self.parent
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn attempt(&self) -> Result<Attempt<'_>> {
        match &mut *self.state() {
            state @ State::Created => *state = State::Starting,
            state => return Err(state.refuse("start")),
        }
        Ok(Attempt(self))
    }

    /// Has the runtime start it, and adopts it.
    async fn launch(&self) -> Result<Process> {
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
        *self.state() = State::Running(process.clone(), *self.pids.get_or_init(|| pids));
        Ok(process)
    }

    /// Tells of the end of its process when it comes.
    async fn ended(self: Arc<Self>, process: Process) {
        let exit = Exit::of(self.id(), process.wait().await);
        if let Some(streams) = self.streams.get() {
            streams.process_ended();
            streams.taken().await;
        }
        *self.state() = State::Stopped;
        self.exit.tell(exit.clone());
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
        if matches!(*state, State::Starting) {
            *state = State::Stopped;
            if let Some(streams) = self.0.streams.get() {
                streams.close();
            }
            self.0.exit.tell(Exit::without_status(self.0.id()));
        }
    }
}
