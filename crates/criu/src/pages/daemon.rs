//! The daemon of lazy pages, `criu lazy-pages`, in a thread of its own.
//!
//! There is no request for it: it is a command. It listens at `lazy-pages.socket` in its work
//! directory, writes one byte to `--status-fd` then, and ends with 0 once all memory is where it
//! belongs. Where it ends before, the kernel gives the restored processes zeros for what has not
//! come: the sooner they are ended the fewer they read. So the thread stays until the daemon has
//! ended, whoever waits for it or does not any more. Where this process ends first the daemon goes
//! on, and nobody ends the processes for it.

use std::{
    ffi::OsString,
    future::Future,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::{fs::AtFlags, process::Pid};
use stasis_linux::{file, sys};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    sync::{mpsc, oneshot, watch},
    time,
};

use super::{PagesError, lazy_tree::LazyTree};
use crate::{
    Error, Request,
    child::{Child, SpawnError, cannot},
    diagnosis::{self, Diagnosis, Evidence, Log},
    undo::Leftover,
};

/// How long it may take until it listens.
const READY: Duration = Duration::from_secs(10);
/// How long a restore may go on that it has left.
const MOMENT: Duration = Duration::from_secs(2);
/// Its log, in its work directory.
const LOG: &str = "lazy-pages.log";
/// Where it listens, in its work directory (`criu/uffd.c`).
const SOCKET: &str = "lazy-pages.socket";

/// How to start it.
#[derive(Debug)]
pub(super) struct Program {
    /// The binary: a path, or a name to be found in `PATH`.
    pub binary: PathBuf,
    /// Set in its environment, besides ours.
    pub environment: Vec<(OsString, OsString)>,
    /// Arguments besides those that name its directories.
    pub arguments: Vec<OsString>,
    /// The images.
    pub images: Arc<OwnedFd>,
    /// Where its socket and its log are.
    pub work: Arc<OwnedFd>,
}

/// What its thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Processes are to come that get their memory from it.
    Guard(Expected),
    /// End it, and them.
    GiveUp,
}

/// The processes of a restore that is under way.
#[derive(Debug)]
pub(super) struct Expected {
    /// They come before any of them runs, from the restore itself: whoever waits for that may be
    /// gone by then.
    tree: oneshot::Receiver<LazyTree>,
    /// They are looked after; or, where it has ended already, they have: with what is left of them.
    answer: oneshot::Sender<Vec<Leftover>>,
}

/// How it ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// All memory is where it belongs.
    Filled,
    /// It ended, or was ended, before that.
    Early {
        /// Whether somebody killed it: else it gave up, and that may be because the restore did.
        killed: bool,
        /// Why.
        diagnosis: Box<Diagnosis>,
        /// The processes that are left of those that waited for it.
        left: Vec<Leftover>,
    },
}

/// The daemon as its thread's owner sees it.
#[derive(Debug)]
pub(super) struct Daemon {
    /// Its process.
    pub pid: Pid,
    orders: mpsc::UnboundedSender<Order>,
    ended: watch::Receiver<Option<End>>,
}

impl Daemon {
    /// Starts it, and waits until it listens.
    pub async fn start(program: Program) -> Result<Self, Error> {
        let start = |source| Error::Start {
            request: Request::Restore,
            source,
        };
        let (orders, todo) = mpsc::unbounded_channel();
        let (publish, ended) = watch::channel(None);
        let (opened, ready) = oneshot::channel();
        thread::Builder::new()
            .name(String::from("criu-lazy-pages"))
            .spawn(move || run(&program, opened, todo, &publish))
            .map_err(cannot("start a thread"))
            .map_err(start)?;
        let gone = |_| start(cannot("keep a thread")(std::io::ErrorKind::Other.into()));
        let pid = ready.await.map_err(gone)??;
        Ok(Self { pid, orders, ended })
    }

    /// Tells its thread something.
    pub fn order(&self, order: Order) {
        // It is gone only where the daemon is.
        let _ = self.orders.send(order);
    }

    /// Has its thread look after processes as soon as they come. The future is ready when that is
    /// so, or, where the daemon has ended too early already, with its error, when they have ended.
    pub fn guard(
        &self,
        tree: oneshot::Receiver<LazyTree>,
    ) -> impl Future<Output = Result<(), PagesError>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Guard(Expected { tree, answer }));
        let ended = self.ended.clone();
        async move {
            // No answer is a thread that has ended: the daemon has brought all memory.
            let left = answered.await.unwrap_or_default();
            let end = ended.borrow().clone();
            let Some(mut end) = end else { return Ok(()) };
            if let End::Early { left: more, .. } = &mut end {
                more.extend(left);
            }
            end.into()
        }
    }

    /// Waits for its end.
    pub async fn ended(&self) -> Result<(), PagesError> {
        last(self.ended.clone()).await.into()
    }

    /// Resolves when a restore need not wait for it any more: at once where somebody has killed
    /// it. Where it has given up by itself that may be because the restore does, which has a
    /// moment then to end and to say why.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let ended = self.ended.clone();
        async move {
            match last(ended).await {
                End::Early { killed: true, .. } => {}
                End::Early { killed: false, .. } => time::sleep(MOMENT).await,
                End::Filled => std::future::pending().await,
            }
        }
    }

    /// Ends it and those that it was to guard, and waits for that. Returns how it ended, and whether
    /// it had ended before.
    pub async fn end(self) -> (End, bool) {
        let before = self.ended.borrow().is_some();
        self.order(Order::GiveUp);
        let Self { orders, ended, .. } = self;
        drop(orders);
        (last(ended).await, before)
    }
}

impl From<End> for Result<(), PagesError> {
    fn from(end: End) -> Self {
        match end {
            End::Filled => Ok(()),
            End::Early {
                diagnosis, left, ..
            } => Err(PagesError::Daemon {
                diagnosis,
                left: left.into(),
            }),
        }
    }
}

async fn last(mut ended: watch::Receiver<Option<End>>) -> End {
    let end = ended.wait_for(Option::is_some).await;
    // The thread publishes before it goes.
    end.ok().and_then(|end| end.clone()).unwrap_or(End::Filled)
}

fn run(
    program: &Program,
    opened: oneshot::Sender<Result<Pid, Error>>,
    todo: mpsc::UnboundedReceiver<Order>,
    publish: &watch::Sender<Option<End>>,
) {
    let start = |source| Error::Start {
        request: Request::Restore,
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot("start a runtime"))
        .map_err(start);
    match runtime {
        Ok(runtime) => runtime.block_on(serve(program, opened, todo, publish)),
        Err(error) => refuse(opened, error),
    }
}

fn refuse(opened: oneshot::Sender<Result<Pid, Error>>, error: Error) {
    // Nobody may be waiting any more.
    let _ = opened.send(Err(error));
}

async fn serve(
    program: &Program,
    opened: oneshot::Sender<Result<Pid, Error>>,
    mut todo: mpsc::UnboundedReceiver<Order>,
    publish: &watch::Sender<Option<End>>,
) {
    let request = Request::Restore;
    let (child, status) = match program.spawn() {
        Ok(spawned) => spawned,
        Err(source) => return refuse(opened, Error::Start { request, source }),
    };
    let mut guard = Guard {
        child,
        socket: Socket(&program.work),
        tree: None,
        expected: None,
    };
    if let Err(source) = guard.ready(status, &mut todo).await {
        // It is gone before that is told.
        drop(guard);
        return refuse(opened, Error::Pages { request, source });
    }
    if opened.send(Ok(guard.child.pid())).is_err() {
        return;
    }
    let exit = guard.until_its_end(&mut todo).await;
    let mut expected = guard.expected.take();
    let end = guard.end(exit);
    let filled = matches!(end, End::Filled);
    publish.send_replace(Some(end));
    if filled {
        return;
    }
    // A restore that is just succeeding gives word of its processes yet.
    loop {
        if let Some(Expected { tree, answer }) = expected.take()
            && let Ok(tree) = tree.await
        {
            // Nobody may be waiting any more.
            let _ = answer.send(tree.end());
        }
        match todo.recv().await {
            Some(Order::Guard(more)) => expected = Some(more),
            Some(Order::GiveUp) => {}
            None => return,
        }
    }
}

impl Program {
    fn spawn(&self) -> Result<(Child, pipe::Receiver), SpawnError> {
        let (status, writer) = std::io::pipe().map_err(cannot("make a pipe"))?;
        let status =
            pipe::Receiver::from_owned_fd(status.into()).map_err(cannot("watch a pipe"))?;
        let writer = Arc::new(OwnedFd::from(writer));
        // The directories that the restore has, wherever their paths lead by now.
        let at = |directory: &OwnedFd| format!("/proc/self/fd/{}", directory.as_raw_fd());
        let mut command = Command::new(&self.binary);
        command
            .arg("lazy-pages")
            .args(["--images-dir", &at(&self.images)])
            .args(["--work-dir", &at(&self.work)])
            .args(["--status-fd", &writer.as_raw_fd().to_string()])
            .args(["--log-file", LOG, "-v4"])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .process_group(0);
        let inherited = vec![Arc::clone(&self.images), Arc::clone(&self.work), writer];
        sys::inherit_only(&mut command, inherited);
        Ok((Child::spawn(command, &self.binary)?, status))
    }
}

/// Waits for processes that are to come. `None` if their restore has failed.
async fn come(expected: &mut Option<Expected>) -> Option<LazyTree> {
    match expected {
        Some(Expected { tree, .. }) => tree.await.ok(),
        None => std::future::pending().await,
    }
}

/// The daemon, and those that need it.
struct Guard<'a> {
    child: Child,
    // After the daemon, which makes it.
    socket: Socket<'a>,
    tree: Option<LazyTree>,
    expected: Option<Expected>,
}

impl Guard<'_> {
    /// Waits until it listens.
    async fn ready(
        &mut self,
        mut status: pipe::Receiver,
        todo: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Result<(), PagesError> {
        let mut byte = [0; 1];
        let exit = tokio::select! {
            biased;
            // The end of the pipe is that of the daemon.
            read = status.read(&mut byte) => match read {
                Ok(1) => return Ok(()),
                _ => self.child.ended().await.ok(),
            },
            () = self.child.listen() => None,
            () = time::sleep(READY) => return Err(PagesError::NotReady { within: READY }),
            // Nobody waits for it any more; dropping it kills it.
            _ = todo.recv() => None,
        };
        Err(PagesError::Daemon {
            diagnosis: self.diagnosis(exit),
            left: Vec::new().into(),
        })
    }

    /// Waits for its end. It is brought about where nobody is left who needs it.
    async fn until_its_end(
        &mut self,
        todo: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Option<ExitStatus> {
        let mut wanted = true;
        loop {
            if !wanted && self.tree.is_none() && self.expected.is_none() {
                self.child.kill();
            }
            tokio::select! {
                biased;
                exit = self.child.ended() => return exit.ok(),
                tree = come(&mut self.expected) => {
                    // Without it there are none.
                    let expected = self.expected.take();
                    if let (Some(tree), Some(Expected { answer, .. })) = (tree, expected) {
                        self.tree = Some(tree);
                        let _ = answer.send(Vec::new());
                    }
                }
                order = todo.recv(), if wanted => match order {
                    Some(Order::Guard(expected)) => self.expected = Some(expected),
                    Some(Order::GiveUp) => self.child.kill(),
                    None => wanted = false,
                },
            }
        }
    }

    /// It has ended: so do those that still need it, and its socket goes.
    fn end(mut self, exit: Option<ExitStatus>) -> End {
        if exit.is_some_and(|exit| exit.success()) {
            return End::Filled;
        }
        End::Early {
            killed: exit.is_some_and(|exit| exit.signal().is_some()),
            left: self.tree.take().map_or_else(Vec::new, LazyTree::end),
            diagnosis: self.diagnosis(exit),
        }
    }

    fn diagnosis(&mut self, exit: Option<ExitStatus>) -> Box<Diagnosis> {
        Box::new(diagnosis::diagnose(&Evidence {
            stderr: &self.child.said(),
            log: Some(Log::In(self.socket.0.as_fd(), LOG)),
            disk_full: file::is_full(self.socket.0),
            exit,
            ..Evidence::of(Request::Restore)
        }))
    }
}

/// Its socket, which it leaves in its work directory in any case.
struct Socket<'a>(&'a Arc<OwnedFd>);

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(self.0, SOCKET, AtFlags::empty());
    }
}
