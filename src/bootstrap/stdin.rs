//! What containerd sends to `start` and `-info`, and which reply to `start` it understands.
//!
//! containerd 2.3 and later write protobuf `BootstrapParams` to the standard input of `start` and
//! read a protobuf `BootstrapResult`. Earlier ones write the runtime options (an `Any`) or
//! nothing, pass the rest in flags and environment, and all of them (1.6, 1.7, 2.0 to 2.2) accept
//! the bare address as the reply. containerd-shim 0.12 knows the same, but keeps its functions
//! private, replies JSON that containerd 1.7 and 1.6 refuse, and fails without a TTRPC address.

use std::io::{self, IsTerminal, Read};

use containerd_shim::{
    Flags,
    bootstrap::{BootstrapParams, BootstrapResult, LogLevel},
    protos::{
        TASK_API_VERSION,
        protobuf::{Message, well_known_types::any::Any},
    },
};
use stasis_linux::file;

/// How much is read at most; containerd caps its side at the same.
const MAX_INPUT: u64 = 10 << 20;

/// Where containerd puts its addresses, if not into `BootstrapParams`.
pub const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
const GRPC_ADDRESS: &str = "GRPC_ADDRESS";

/// Where sockets go, if `BootstrapParams` do not say.
const SOCKET_DIR: &str = "SHIM_SOCKET_DIR";

/// Why the standard input is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read what containerd sent on the standard input")]
    Read(#[source] io::Error),
    /// It is too long.
    #[error(
        "the standard input is longer than {MAX_INPUT} bytes, which no request of containerd is"
    )]
    TooLong,
    /// It is a request for another shim.
    #[error(
        "the bootstrap parameters are for {namespace}/{id}, the command line is for \
         {flag_namespace}/{flag_id}"
    )]
    ForAnother {
        /// The id in the parameters.
        id: String,
        /// The namespace in the parameters.
        namespace: String,
        /// The id on the command line.
        flag_id: String,
        /// The namespace on the command line.
        flag_namespace: String,
    },
    /// It holds no options.
    #[error("the runtime options on the standard input are not a protobuf Any")]
    NotAny(#[source] protobuf::Error),
}

/// The reply that the caller of `start` understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// A protobuf `BootstrapResult`.
    Bootstrap,
    /// The bare address.
    Address,
}

/// What `start` needs to know, wherever it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct StartRequest {
    /// The reply the caller understands.
    pub reply: Reply,
    /// containerd's address for events. Without one the shim runs without events.
    pub ttrpc_address: Option<String>,
    /// containerd's main address. It is part of the socket's name.
    pub grpc_address: String,
    /// Where the socket goes, unless in the default place.
    pub socket_dir: Option<String>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// The runtime options, and what else containerd passed along.
    pub extensions: Vec<Any>,
}

/// What `start` takes from its environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `TTRPC_ADDRESS`.
    pub ttrpc_address: String,
    /// `GRPC_ADDRESS`.
    pub grpc_address: String,
    /// `SHIM_SOCKET_DIR`.
    pub socket_dir: String,
}

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn read() -> Self {
        let read = |name| std::env::var(name).unwrap_or_default();
        Self {
            ttrpc_address: read(TTRPC_ADDRESS),
            grpc_address: read(GRPC_ADDRESS),
            socket_dir: read(SOCKET_DIR),
        }
    }
}

/// Reads the standard input to its end. A terminal counts as empty, for the shim started by hand.
///
/// # Errors
/// If it cannot be read, or is too long.
pub fn read() -> Result<Vec<u8>, Error> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(Vec::new());
    }
    read_capped(stdin.lock())
}

fn read_capped(from: impl Read) -> Result<Vec<u8>, Error> {
    file::whole(from, MAX_INPUT).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => Error::TooLong,
        _ => Error::Read(error),
    })
}

impl StartRequest {
    /// Makes one request of what was sent, whichever containerd sent it.
    ///
    /// # Errors
    /// If it is a request for another shim.
    pub fn parse(input: &[u8], flags: &Flags, environment: &Environment) -> Result<Self, Error> {
        let (params, reply) = match bootstrap_params(input, flags)? {
            Some(params) => (params, Reply::Bootstrap),
            None => (BootstrapParams::new(), Reply::Address),
        };
        let mut extensions: Vec<Any> = params
            .extensions
            .into_iter()
            .filter_map(|extension| extension.value.into_option())
            .collect();
        if reply == Reply::Address {
            extensions.extend(options(input)?);
        }
        let level = containerd_shim::bootstrap::nearest_log_level(params.log_level.value());
        Ok(Self {
            reply,
            ttrpc_address: first_set([
                &params.containerd_ttrpc_address,
                &environment.ttrpc_address,
            ]),
            grpc_address: first_set([
                &params.containerd_grpc_address,
                &flags.address,
                &environment.grpc_address,
            ])
            .unwrap_or_default(),
            socket_dir: first_set([
                params.socket_dir.as_ref().unwrap_or(&String::new()),
                &environment.socket_dir,
            ]),
            log_level: with_debug_flag(level, flags.debug),
            extensions,
        })
    }
}

/// The options that `-info` was given, and `start` by containerd before 2.3, if any.
///
/// # Errors
/// If there is something else.
pub fn options(input: &[u8]) -> Result<Option<Any>, Error> {
    if input.is_empty() {
        return Ok(None);
    }
    Any::parse_from_bytes(input)
        .map(Some)
        .map_err(Error::NotAny)
}

impl Reply {
    /// Encodes the reply to `start`.
    ///
    /// # Errors
    /// If protobuf fails, which it does only without memory.
    pub fn encode(self, address: &str) -> protobuf::Result<Vec<u8>> {
        match self {
            Self::Address => Ok(address.as_bytes().to_vec()),
            Self::Bootstrap => BootstrapResult {
                version: TASK_API_VERSION,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..BootstrapResult::default()
            }
            .write_to_bytes(),
        }
    }
}

/// Decodes `BootstrapParams`, or gives `None` for what older daemons send.
///
/// An `Any` decodes as `BootstrapParams` too: its type URL lands in `instance_id`, its value, where
/// that happens to be UTF-8, in `namespace`, and nothing else is set. So the identity decides.
fn bootstrap_params(input: &[u8], flags: &Flags) -> Result<Option<BootstrapParams>, Error> {
    if input.is_empty() {
        return Ok(None);
    }
    let Ok(params) = BootstrapParams::parse_from_bytes(input) else {
        return Ok(None);
    };
    if params.instance_id == flags.id && params.namespace == flags.namespace {
        return Ok(Some(params));
    }
    let identity_only = BootstrapParams {
        instance_id: params.instance_id.clone(),
        namespace: params.namespace.clone(),
        ..BootstrapParams::default()
    };
    if params == identity_only {
        return Ok(None);
    }
    Err(Error::ForAnother {
        id: params.instance_id,
        namespace: params.namespace,
        flag_id: flags.id.clone(),
        flag_namespace: flags.namespace.clone(),
    })
}

fn first_set<const N: usize>(candidates: [&String; N]) -> Option<String> {
    candidates
        .into_iter()
        .find(|candidate| !candidate.is_empty())
        .cloned()
}

/// `-debug` is passed along with either protocol. It only ever makes the log longer.
fn with_debug_flag(level: LogLevel, debug: bool) -> LogLevel {
    use protobuf::Enum;
    if debug && level.value() > LogLevel::LOG_LEVEL_DEBUG.value() {
        LogLevel::LOG_LEVEL_DEBUG
    } else {
        level
    }
}

#[cfg(test)]
mod tests;
