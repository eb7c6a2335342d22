//! The `start` action: makes a shim and tells containerd where it listens.
//!
//! containerd reads standard output and standard error together as the reply, so nothing else is
//! ever written to either. One shim serves one container; if one listens for this id already,
//! its address is the reply and it is for it to refuse a second Create.
//!
//! What is to hold for the server from its first instruction (its cgroup, its OOM score, no
//! descriptors but its own) is set for this process, which ends right after, and inherited.

use std::{
    env, fs,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{
            net::UnixListener,
            process::{CommandExt, parent_id},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use containerd_shim::{Flags, StartOpts, bootstrap::LogLevel};
use log::LevelFilter;
use stasis_linux::sys;
use tracing::warn;

use super::{
    shim_cgroup,
    socket::{self, Socket},
    stdin::{self, StartRequest},
};
use crate::{
    bundle,
    config::{self, Config},
    invoked_as::InvokedAs,
    logging,
    service::options,
};

/// The highest score there is (proc_pid_oom_score_adj(5)).
const OOM_SCORE_MAX: i32 = 1000;

/// Why there is no shim.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag is missing or makes no sense.
    #[error("-{flag} {value:?} is not a plain name")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// What containerd sent cannot be used.
    #[error(transparent)]
    Stdin(#[from] stdin::Error),
    /// The runtime options cannot be used.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// There is no socket.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// The cgroup of the configuration cannot be joined.
    #[error(transparent)]
    Cgroup(#[from] shim_cgroup::Error),
    /// A file cannot be written into the bundle.
    #[error("cannot write {name} into the bundle {bundle}", bundle = bundle.display())]
    Bundle {
        /// The file.
        name: &'static str,
        /// The bundle.
        bundle: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server cannot be started.
    #[error("cannot start the shim's server: {step}")]
    Spawn {
        /// What failed.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The reply cannot be given.
    #[error("cannot reply to containerd")]
    Reply(#[source] io::Error),
}

impl Error {
    fn spawn(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Spawn { step, source }
    }
}

/// Makes a shim for `flags.id` and writes where it listens to the standard output.
///
/// # Errors
/// If there is no shim. Then nothing is left of it either.
pub fn start(flags: &Flags, invoked_as: &InvokedAs) -> Result<(), Error> {
    plain_name("namespace", &flags.namespace)?;
    plain_name("id", &flags.id)?;
    let request = StartRequest::parse(&stdin::read()?, flags, &stdin::Environment::read())?;
    let bundle = env::current_dir().map_err(Error::spawn("no working directory"))?;
    logging::init(&bundle, level(request.log_level));

    let address = address(&request, flags);
    if let Socket::Bound(listener) = socket::bind(&address)? {
        let made = make(&request, flags, invoked_as, &bundle, &address, listener);
        if made.is_err() {
            // Nobody will ever listen there. A socket that stays is replaced by the next start.
            let _ = socket::remove(socket::path_of(&address));
        }
        made?;
    } else {
        write(&bundle, bundle::ADDRESS, &address)?;
    }
    reply(&request, &address)
}

fn make(
    request: &StartRequest,
    flags: &Flags,
    invoked_as: &InvokedAs,
    bundle: &Path,
    address: &str,
    listener: UnixListener,
) -> Result<(), Error> {
    let config = Config::resolve(invoked_as, options::runtime_among(&request.extensions)?)?;
    if let Some(path) = &config.shim_cgroup {
        shim_cgroup::join(path)?;
    }
    if let Err(error) = raise_oom_score() {
        // Forbidden in some user namespaces, where a container is worth running all the same.
        warn!(%error, "the shim's oom_score_adj stays as it is");
    }
    sys::close_on_exec().map_err(Error::spawn("descriptors cannot be marked"))?;
    write(bundle, bundle::ADDRESS, address)?;
    let mut server = spawn(request, flags, invoked_as, listener)?;
    let written = write(bundle, bundle::SHIM_PID, &server.id().to_string());
    if written.is_err() {
        // It has no container yet. It cannot have ended either, or the wait says so.
        let _ = server.kill().and_then(|()| server.wait());
    }
    written
}

fn spawn(
    request: &StartRequest,
    flags: &Flags,
    invoked_as: &InvokedAs,
    listener: UnixListener,
) -> Result<Child, Error> {
    // The file itself and not /proc/self/exe, which would make "exe" the process's name.
    let binary = env::current_exe().map_err(Error::spawn("the binary has no path"))?;
    let mut command = Command::new(binary);
    command
        .arg0(invoked_as.argv0())
        // Not needed, but tools find the shim of a container by them.
        .args(["-namespace", &flags.namespace, "-id", &flags.id])
        .args(["-address", &request.grpc_address])
        .env(logging::LEVEL, level(request.log_level).as_str())
        // Out of the reach of signals that containerd's terminal sends to its group.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match &request.ttrpc_address {
        Some(address) => command.env(stdin::TTRPC_ADDRESS, address),
        None => command.env_remove(stdin::TTRPC_ADDRESS),
    };
    command
        .spawn()
        .map_err(Error::spawn("the binary cannot be executed"))
}

/// The level that containerd asks for, in ours.
fn level(asked: LogLevel) -> LevelFilter {
    match asked {
        LogLevel::LOG_LEVEL_TRACE => LevelFilter::Trace,
        LogLevel::LOG_LEVEL_DEBUG => LevelFilter::Debug,
        LogLevel::LOG_LEVEL_INFO => LevelFilter::Info,
        LogLevel::LOG_LEVEL_WARN => LevelFilter::Warn,
        LogLevel::LOG_LEVEL_ERROR | LogLevel::LOG_LEVEL_FATAL | LogLevel::LOG_LEVEL_PANIC => {
            LevelFilter::Error
        }
    }
}

fn address(request: &StartRequest, flags: &Flags) -> String {
    let options = StartOpts {
        address: request.grpc_address.clone(),
        namespace: flags.namespace.clone(),
        socket_dir: request.socket_dir.clone(),
        ..StartOpts::default()
    };
    options.socket_address(&flags.id)
}

/// The namespace becomes a directory, and both are part of file names.
fn plain_name(flag: &'static str, value: &str) -> Result<(), Error> {
    if value.is_empty() || value == "." || value == ".." || value.contains(['/', '\0']) {
        return Err(Error::Flag {
            flag,
            value: value.to_owned(),
        });
    }
    Ok(())
}

/// Above containerd's own by one, so that the kernel ends a shim before it ends containerd.
fn raise_oom_score() -> io::Result<()> {
    let containerds = fs::read_to_string(format!("/proc/{}/oom_score_adj", parent_id()))?;
    let score: i32 = containerds.trim().parse().map_err(io::Error::other)?;
    fs::write(
        "/proc/self/oom_score_adj",
        OOM_SCORE_MAX.min(score + 1).to_string(),
    )
}

fn write(bundle: &Path, name: &'static str, content: &str) -> Result<(), Error> {
    bundle::write(bundle, name, content.as_bytes()).map_err(|source| Error::Bundle {
        name,
        bundle: bundle.into(),
        source,
    })
}

fn reply(request: &StartRequest, address: &str) -> Result<(), Error> {
    let reply = request
        .reply
        .encode(address)
        .map_err(|error| Error::Reply(error.into()))?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&reply)
        .and_then(|()| stdout.flush())
        .map_err(Error::Reply)
}
