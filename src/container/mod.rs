//! One container: its process objects, its mounts, and the actor that serves it.
//!
//! ttrpc drops a handler when its client gives up. So no handler does the work itself: it puts a
//! job into the container's mailbox ([`Container::ask`]) and waits for the answer; that nobody
//! waits any more changes nothing for the job. Jobs of one container run one after the other,
//! those of two containers never wait for each other. What only reads (state, wait, pids) and
//! kill go around the mailbox, so that they answer while a dump or a restore is running.
//!
//! One verb, one file. The actor also announces the exits of the container's processes, in the
//! order that [`order`] keeps.

mod checkpoint;
mod create;
mod delete;
mod error;
mod exec;
mod order;
mod pause;
mod query;
mod restore;
mod start;

use std::{
    collections::HashMap,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::unistd::Pid;
use stasis_engine::Engine;
use stasis_linux::sys;
use stasis_proc::{Exec, Exit, Init};
use tokio::sync::{mpsc, oneshot};

use self::order::{Exited, Order};
pub use self::{
    create::{CreateRequest, ShimContext, create},
    error::{Error, Result},
    query::{ListedProcess, TaskState, the_shim_alone},
};
use crate::{
    config::Config,
    events::{Event, Publisher},
};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A container of this shim. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Container {
    shared: Arc<Shared>,
    mailbox: mpsc::UnboundedSender<Job>,
}

/// What the jobs and the queries of one container share.
#[derive(Debug)]
pub struct Shared {
    id: String,
    bundle: PathBuf,
    config: Config,
    engine: Arc<dyn Engine>,
    init: Arc<Init>,
    execs: Mutex<HashMap<String, Arc<Exec>>>,
    order: Mutex<Order<ProcessEnd>>,
    publisher: Publisher,
}

impl Container {
    /// Starts the actor of a container whose exits arrive on `exits`.
    fn new(shared: Shared, exits: mpsc::UnboundedReceiver<Exit>) -> Self {
        let shared = Arc::new(shared);
        let (mailbox, jobs) = mpsc::unbounded_channel();
        tokio::spawn(act(Arc::clone(&shared), jobs, exits));
        Self { shared, mailbox }
    }

    /// Runs `verb` when the jobs before it have ended, and gives its answer. Once called, the
    /// verb runs to its end even if the returned future is dropped.
    ///
    /// # Errors
    /// Those of the verb, and [`Error::Gone`] if the container went away meanwhile.
    pub async fn ask<T, F, Fut>(&self, verb: F) -> Result<T>
    where
        F: FnOnce(Arc<Shared>) -> Fut,
        Fut: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let gone = || Error::Gone(self.shared.id.clone());
        let (reply, answer) = oneshot::channel();
        let work = verb(Arc::clone(&self.shared));
        let job = async move {
            // The client may have given up: its answer is then of no use to anybody.
            let _ = reply.send(work.await);
        };
        self.mailbox.send(Box::pin(job)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// What answers at once, around the mailbox.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// The life of a container's actor: one job after the other, exits whenever they come.
async fn act(
    shared: Arc<Shared>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    mut exits: mpsc::UnboundedReceiver<Exit>,
) {
    // Exits first: one that has come is announced before the next job begins, which may make an
    // exec of the same id, and before the container is forgotten.
    loop {
        let job = tokio::select! {
            biased;
            Some(exit) = exits.recv() => {
                shared.announce_exit(&exit);
                continue;
            }
            job = jobs.recv() => job,
        };
        let Some(job) = job else { return };
        // A task of its own, so that a fault in one job is not the end of the container.
        let mut job = tokio::spawn(job);
        loop {
            tokio::select! {
                biased;
                Some(exit) = exits.recv() => shared.announce_exit(&exit),
                ended = &mut job => {
                    if let Err(fault) = ended {
                        tracing::error!("a request for container {} failed: {fault}", shared.id);
                    }
                    break;
                }
            }
        }
        // Its answer goes first. What it has taken the next may not need for days.
        tokio::task::yield_now().await;
        sys::trim_heap();
    }
}

impl Shared {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its init process.
    pub fn init(&self) -> &Arc<Init> {
        &self.init
    }

    /// The init process for an empty exec id, else that exec.
    fn process(&self, exec: &str) -> Result<ProcessRef> {
        if exec.is_empty() {
            return Ok(ProcessRef::Init(Arc::clone(&self.init)));
        }
        Ok(ProcessRef::Exec(self.exec_process(exec)?))
    }

    fn exec_process(&self, exec: &str) -> Result<Arc<Exec>> {
        lock(&self.execs)
            .get(exec)
            .cloned()
            .ok_or_else(|| Error::UnknownExec {
                task: self.id.clone(),
                exec: exec.to_owned(),
            })
    }

    fn announce_exit(&self, exit: &Exit) {
        let pid = if exit.id == self.id {
            self.init.pid()
        } else {
            match lock(&self.execs).get(&exit.id) {
                Some(exec) => exec.pid(),
                // Its Delete has announced it.
                None => return,
            }
        };
        let ended = ProcessEnd {
            pid: pid_number(pid),
            exit: exit.clone(),
        };
        let free = lock(&self.order).exited(ended);
        self.publish_exits(free);
    }

    fn publish_exits(&self, ended: Vec<ProcessEnd>) {
        for ProcessEnd { pid, exit } in ended {
            self.publish(Event::Exited { pid, exit });
        }
    }

    fn publish(&self, event: Event) {
        self.publisher.publish(&self.id, event);
    }
}

/// The end of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEnd {
    /// The pid that it had; zero if it was never started.
    pub pid: u32,
    /// Which one it is, and how it ended.
    pub exit: Exit,
}

impl Exited for ProcessEnd {
    fn id(&self) -> &str {
        &self.exit.id
    }
}

/// One process of a container, as requests name it.
enum ProcessRef {
    Init(Arc<Init>),
    Exec(Arc<Exec>),
}

/// The pid as the API carries it: zero where there is none yet.
pub fn pid_number(pid: Option<Pid>) -> u32 {
    pid.and_then(|pid| u32::try_from(pid.as_raw()).ok())
        .unwrap_or_default()
}

/// Locks what is only ever held for a look or a change of fields: a panic between cannot leave
/// it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
