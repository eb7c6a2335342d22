//! The server: the shim process that stays, from its set-up to its end.
//!
//! It inherits the listening socket as its standard input, as inetd hands one to a server that
//! accepts for itself: so no descriptor number has to be agreed on and no code runs between fork
//! and exec. By hand it can be started with `-socket PATH` instead.
//!
//! One ttrpc server carries `containerd.task.v2.Task` and `containerd.task.v3.Task`, whose
//! messages are field-identical, so one implementation is registered under both names;
//! containerd-shim-protos generates the latter. Everything else answers Unimplemented.
//!
//! The end, by Shutdown or by SIGTERM and SIGINT (containers run on): the socket file goes first,
//! so that a `start` for the same id binds its own; then the listener is closed, the reply of
//! the Shutdown call and the events leave, each with a deadline. Clients that keep their
//! connections open do not hold the process.

mod accept;

use std::{
    collections::HashMap,
    io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use containerd_shim::{
    Flags,
    protos::{
        shim_async::{Task, create_task},
        ttrpc::{
            self,
            asynchronous::{Server, Service, transport::Listener},
        },
    },
};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing::{debug, error, info, warn};

use self::accept::Accept;
use super::{frame_stream::FrameWatch, socket, stdin::TTRPC_ADDRESS, unknown_service};
use crate::{events::Publisher, invoked_as::InvokedAs, logging, pod::Shutdown};

/// The name that containerd 1.6 to 1.7 use, and 2.x for shims of version 2.
const TASK_V2: &str = "containerd.task.v2.Task";

/// The name since containerd 2.0.
const TASK_V3: &str = "containerd.task.v3.Task";

/// Threads for what blocks: files and mounts. They end after some seconds without work.
const BLOCKING_THREADS: usize = 4;

/// How long the reply of Shutdown may take to leave, and the events after it. With what else
/// there is to do that makes less than the 5 s that clients wait for a shim to end.
const REPLY: Duration = Duration::from_secs(1);
const EVENTS: Duration = Duration::from_secs(3);
const _: () = assert!(REPLY.as_secs() + EVENTS.as_secs() < 5);

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody handed down a listener.
    #[error(
        "the standard input is no listening socket: use the start action, or give a -socket PATH"
    )]
    NoListener,
    /// The socket of `-socket` cannot be bound.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// Another server listens on the socket of `-socket`.
    #[error("a shim listens on {path} already", path = path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The process cannot be set up.
    #[error("cannot {step}")]
    SetUp {
        /// What failed.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// ttrpc does not start.
    #[error("cannot start the ttrpc server")]
    Server(#[source] ttrpc::Error),
}

impl Error {
    fn set_up(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::SetUp { step, source }
    }
}

/// An implementation of the task service.
pub type TaskService = Arc<dyn Task + Send + Sync>;

/// What the server gives to the implementation of the task service.
#[derive(Debug)]
pub struct ServiceContext {
    /// The namespace of every container of this shim.
    pub namespace: String,
    /// The name the shim was started under.
    pub invoked_as: InvokedAs,
    /// Where events go.
    pub publisher: Publisher,
    /// Ends the shim.
    pub shutdown: Shutdown,
}

/// Serves the tasks of `make` until the shim is told to end.
///
/// # Errors
/// If the process or the server cannot be set up; logged too, since nobody reads our stderr.
pub fn serve<F>(flags: &Flags, invoked_as: InvokedAs, make: F) -> Result<(), Error>
where
    F: FnOnce(ServiceContext) -> Result<TaskService, io::Error>,
{
    // First, so that nothing that we ever start can escape to another parent.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| Error::set_up("become a subreaper")(errno.into()))?;
    let bundle = std::env::current_dir().map_err(Error::set_up("find the working directory"))?;
    logging::init(&bundle, logging::level_of_server(flags.debug));
    // Nobody reads our standard error.
    std::panic::set_hook(Box::new(|panic| error!("{panic}")));
    let result = run(flags, invoked_as, make);
    if let Err(error) = &result {
        error!(
            error = error as &dyn std::error::Error,
            "the shim cannot serve"
        );
    }
    result
}

fn run<F>(flags: &Flags, invoked_as: InvokedAs, make: F) -> Result<(), Error>
where
    F: FnOnce(ServiceContext) -> Result<TaskService, io::Error>,
{
    let listener = listener(flags)?;
    // SIGPIPE is ignored: Rust's runtime does that before main, and undoes it in children.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(Error::set_up("start the runtime"))?;
    let result = runtime.block_on(async {
        let ttrpc_address = std::env::var(TTRPC_ADDRESS)
            .ok()
            .filter(|address| !address.is_empty());
        let context = ServiceContext {
            namespace: flags.namespace.clone(),
            invoked_as,
            publisher: Publisher::spawn(ttrpc_address.as_deref(), &flags.namespace),
            shutdown: Shutdown::new(),
        };
        let (publisher, shutdown) = (context.publisher.clone(), context.shutdown.clone());
        let task = make(context).map_err(Error::set_up("make the task service"))?;
        until_shutdown(listener, task, &publisher, &shutdown).await
    });
    // Not waiting for work that blocks: the end of the process ends it.
    runtime.shutdown_background();
    result
}

async fn until_shutdown(
    listener: UnixListener,
    task: TaskService,
    publisher: &Publisher,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let path = listener
        .local_addr()
        .ok()
        .and_then(|addr| addr.as_pathname().map(Path::to_owned));
    let watch = FrameWatch::new(vec![TASK_V2, TASK_V3]);
    let accept = Accept::new(listener, Arc::clone(&watch), shutdown.clone())
        .map_err(Error::set_up("listen"))?;
    let mut server = Server::new()
        .register_service(task_services(&task))
        .register_service(unknown_service::service())
        .add_listener(Listener::new(accept));
    end_on_signals(shutdown.clone()).map_err(Error::set_up("watch for signals"))?;
    server.start().await.map_err(Error::Server)?;
    info!(version = env!("CARGO_PKG_VERSION"), "the shim serves");

    shutdown.triggered().await;
    if let Some(path) = path
        && let Err(error) = socket::remove(&path)
    {
        warn!(path = %path.display(), %error, "the socket stays");
    }
    if timeout(REPLY, watch.shutdown_replies()).await.is_err() {
        debug!("the client of Shutdown does not read its reply");
    }
    publisher.drain(EVENTS).await;
    info!("the shim ends");
    Ok(())
}

/// The task service under both its names.
fn task_services(task: &TaskService) -> HashMap<String, Service> {
    let mut services = create_task(Arc::clone(task));
    services.extend(
        create_task(Arc::clone(task))
            .into_values()
            .map(|service| (TASK_V2.to_owned(), service)),
    );
    services
}

fn listener(flags: &Flags) -> Result<UnixListener, Error> {
    if !flags.socket.is_empty() {
        return match socket::bind(&flags.socket)? {
            socket::Socket::Bound(listener) => Ok(listener),
            socket::Socket::InUse => Err(Error::InUse {
                path: socket::path_of(&flags.socket).into(),
            }),
        };
    }
    take_stdin()
        .map_err(Error::set_up("take the listener"))?
        .ok_or(Error::NoListener)
}

/// Takes the listener from the standard input, which is then `/dev/null`.
fn take_stdin() -> io::Result<Option<UnixListener>> {
    let stdin = rustix::stdio::stdin();
    if !rustix::net::sockopt::socket_acceptconn(stdin).unwrap_or(false) {
        return Ok(None);
    }
    let listener: OwnedFd = stdin.try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(Some(listener.into()))
}

fn end_on_signals(shutdown: Shutdown) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("ending on SIGTERM"),
            _ = interrupt.recv() => info!("ending on SIGINT"),
        }
        shutdown.trigger();
    });
    Ok(())
}

#[cfg(test)]
mod tests;
