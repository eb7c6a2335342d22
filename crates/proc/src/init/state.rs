//! The states of a container and what is permitted in each.
//!
//! ```text
//!            create                 start
//!   New ───────────────► Created ──────────► Running ◄──────► Paused
//!    │ create with a                            ▲     pause     │
//!    │ checkpoint        start, restore         │     resume    │
//!    └──► CreatedFromCheckpoint ────────────────┘               │
//!                        │                      │               │
//!                        │ a restore that fails │ exit          │ exit
//!                        └──────────────────► Stopped ◄─────────┘   (Created: exit, too)
//!                                               │ delete            (Created and
//!                                               ▼                    CreatedFromCheckpoint:
//!                                            Deleted                 delete, too)
//! ```
//!
//! A checkpoint that ends its container leads from Running or Paused to Killed, and the exit from
//! there to Stopped.
//!
//! A verb asks for a [`Permit`], works without any lock, and commits the new state. While it
//! works, other verbs that would change the state are refused by name. The exit of the process
//! asks nobody: it stops the container whatever is in progress, and no commit but a deletion's
//! undoes that.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::SetOnce;

use super::{config::RestoreConfig, verb::Verb};
use crate::{
    error::{Error, Result},
    exit::Exit,
    monitor::Watched,
    sync::lock,
};

/// A container's state, with what belongs to it.
#[derive(Debug)]
pub(super) enum InitState {
    /// Nothing was made yet.
    New,
    /// Its init waits to be started.
    Created(Watched),
    /// Nothing of it runs until it is restored.
    CreatedFromCheckpoint(RestoreConfig),
    /// It runs.
    Running(Watched),
    /// It is frozen.
    Paused(Watched),
    /// Its checkpoint has killed it, and its end has not been seen yet.
    Killed(Watched),
    /// It has ended.
    Stopped {
        /// By a checkpoint that was told to. containerd resumes such a container as it does any
        /// that it paused for a checkpoint, and that must not fail.
        checkpointed: bool,
    },
    /// Nothing is left of it.
    Deleted,
}

impl InitState {
    /// The state, as an adjective.
    fn name(&self) -> &'static str {
        match self {
            Self::New => "not yet created",
            Self::Created(_) => "created",
            Self::CreatedFromCheckpoint(_) => "not yet restored",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Killed(_) => "killed",
            Self::Stopped { .. } => "stopped",
            Self::Deleted => "deleted",
        }
    }

    /// The process whose end is the container's, if it lives.
    fn process(&self) -> Option<&Watched> {
        match self {
            Self::Created(process)
            | Self::Running(process)
            | Self::Paused(process)
            | Self::Killed(process) => Some(process),
            Self::New | Self::CreatedFromCheckpoint(_) | Self::Stopped { .. } | Self::Deleted => {
                None
            }
        }
    }

    fn permits(&self, verb: Verb) -> bool {
        match verb {
            Verb::Create => matches!(self, Self::New),
            Verb::Start => matches!(self, Self::Created(_) | Self::CreatedFromCheckpoint(_)),
            Verb::Restore => matches!(self, Self::CreatedFromCheckpoint(_)),
            Verb::Exec | Verb::Pause => matches!(self, Self::Running(_)),
            Verb::Resume => {
                matches!(
                    self,
                    Self::Paused(_) | Self::Killed(_) | Self::Stopped { checkpointed: true }
                )
            }
            Verb::Checkpoint => matches!(self, Self::Running(_) | Self::Paused(_)),
            Verb::Kill => self.process().is_some(),
            Verb::Delete => matches!(
                self,
                Self::Created(_)
                    | Self::CreatedFromCheckpoint(_)
                    | Self::Stopped { .. }
                    // What the shim has to remove besides may have failed, and is tried again.
                    | Self::Deleted
            ),
        }
    }

    /// What to do first, so that the verb is permitted.
    fn advice(&self, verb: Verb) -> &'static str {
        match (self, verb) {
            (Self::Running(_) | Self::Paused(_), Verb::Delete) => ": kill it first",
            (Self::Killed(_), Verb::Delete) => ": wait for its end",
            (Self::Paused(_), Verb::Exec) => ": resume it first",
            (
                Self::Created(_) | Self::CreatedFromCheckpoint(_),
                Verb::Exec | Verb::Pause | Verb::Checkpoint,
            ) => ": start it first",
            (Self::CreatedFromCheckpoint(_), Verb::Kill) => ": nothing of it runs; delete it",
            _ => "",
        }
    }

    fn refuse(&self, verb: Verb) -> Error {
        let (verb, advice) = (verb.name(), self.advice(verb));
        Error::WrongState {
            verb,
            state: self.name(),
            what: "container",
            advice,
        }
    }
}

/// The state of one container, shared by its verbs and by whoever watches its process.
#[derive(Debug)]
pub(super) struct Lifecycle {
    inner: Mutex<Inner>,
    exit: SetOnce<Exit>,
}

#[derive(Debug)]
struct Inner {
    state: InitState,
    /// The verb in progress that excludes all others.
    verb: Option<Verb>,
    /// How many execs are being started. They exclude other verbs, but not each other.
    execs: usize,
}

impl Inner {
    fn permit(&self, verb: Verb) -> Result<()> {
        if !self.state.permits(verb) {
            return Err(self.state.refuse(verb));
        }
        // A deletion ends what is being started; it need not wait for it.
        let execs =
            (self.execs > 0 && !matches!(verb, Verb::Exec | Verb::Delete)).then_some(Verb::Exec);
        match self.verb.or(execs) {
            Some(other) => Err(Error::Busy {
                verb: verb.name(),
                other: other.noun(),
            }),
            None => Ok(()),
        }
    }
}

impl Lifecycle {
    pub(super) fn new() -> Arc<Self> {
        let inner = Inner {
            state: InitState::New,
            verb: None,
            execs: 0,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            exit: SetOnce::new(),
        })
    }

    /// Marks `verb` as in progress, if the state permits it and no other is.
    pub(super) fn permit(self: &Arc<Self>, verb: Verb) -> Result<Permit> {
        let mut inner = self.inner();
        inner.permit(verb)?;
        match verb {
            Verb::Exec => inner.execs += 1,
            _ => inner.verb = Some(verb),
        }
        Ok(Permit {
            life: Arc::clone(self),
            verb,
        })
    }

    /// Whether `verb` is permitted just now; nothing is marked.
    pub(super) fn check(&self, verb: Verb) -> Result<()> {
        self.inner().permit(verb)
    }

    /// The process to signal. Permitted whatever is in progress: a container that takes long to
    /// dump or to start can be killed.
    pub(super) fn target(&self, id: &str) -> Result<Watched> {
        let inner = self.inner();
        let finished = || Error::Finished { id: id.to_owned() };
        match &inner.state {
            InitState::Stopped { .. } | InitState::Deleted => Err(finished()),
            state => match state.process() {
                // Its end is seen and only not told yet; its pid may be another's by now.
                Some(process) if process.exited().is_some() => Err(finished()),
                Some(process) => Ok(process.clone()),
                None if inner.verb == Some(Verb::Restore) => Err(Error::Busy {
                    verb: Verb::Kill.name(),
                    other: Verb::Restore.noun(),
                }),
                None => Err(state.refuse(Verb::Kill)),
            },
        }
    }

    /// Looks at the state and the verb in progress.
    pub(super) fn look<T>(&self, look: impl FnOnce(&InitState, Option<Verb>) -> T) -> T {
        let inner = self.inner();
        look(&inner.state, inner.verb)
    }

    /// The process whose end is the container's, if it lives.
    pub(super) fn process(&self) -> Option<Watched> {
        self.look(|state, _| state.process().cloned())
    }

    /// Records that the container has ended, whatever is in progress. Says whether that was new.
    pub(super) fn stop(&self, exit: Exit) -> bool {
        let mut inner = self.inner();
        if matches!(
            inner.state,
            InitState::New | InitState::Stopped { .. } | InitState::Deleted
        ) {
            return false;
        }
        inner.state = InitState::Stopped {
            checkpointed: matches!(inner.state, InitState::Killed(_)),
        };
        self.exit.set(exit).is_ok()
    }

    /// Records that a checkpoint has killed the container, whether or not its end was seen.
    pub(super) fn killed_by_checkpoint(&self) {
        let state = &mut self.inner().state;
        match state {
            InitState::Running(process) | InitState::Paused(process) => {
                *state = InitState::Killed(process.clone());
            }
            InitState::Stopped { checkpointed } => *checkpointed = true,
            // None of them is in a checkpoint.
            InitState::New
            | InitState::Created(_)
            | InitState::CreatedFromCheckpoint(_)
            | InitState::Killed(_)
            | InitState::Deleted => {}
        }
    }

    /// How the container ended, if it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.exit.get().cloned()
    }

    /// Waits for the container's end.
    pub(super) async fn ended(&self) -> Exit {
        self.exit.wait().await.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

/// The permission for one verb. While it lives, the verb is in progress.
#[derive(Debug)]
pub(crate) struct Permit {
    life: Arc<Lifecycle>,
    verb: Verb,
}

impl Permit {
    /// Moves to `next`, unless the container has ended meanwhile; a deletion goes on from there.
    pub(super) fn commit(&self, next: InitState) {
        let mut inner = self.life.inner();
        if !matches!(inner.state, InitState::Stopped { .. }) || matches!(next, InitState::Deleted) {
            inner.state = next;
        }
    }

    /// Makes it the permission for another verb.
    pub(super) fn turn_into(mut self, verb: Verb) -> Self {
        self.life.inner().verb = Some(verb);
        self.verb = verb;
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.life.inner();
        match self.verb {
            Verb::Exec => inner.execs -= 1,
            _ => inner.verb = None,
        }
    }
}
