//! The options of a request: an `Any` of a type that its client chose, as plain values.
//!
//! Runtime options come in two types, whatever the runtime's name. `containerd.runc.v1.Options` come
//! from ctr, nerdctl and from handlers named io.containerd.runc.v2; `runtimeoptions.v1.Options` from
//! CRI for every other name, and from `ctr run --runtime-config-path`. A CRI handler without a
//! config_path gets its whole `options` table as the inline body, with the key names of the former
//! type: see the configuration file's module.
//!
//! A checkpoint carries `containerd.runc.v1.CheckpointOptions` or nothing (containerd 1.7's ctr,
//! nerdctl and CRI send options only to runtimes named io.containerd.runc.v2).
//!
//! Protobuf 3 knows no unset: empty, zero and false are not set.

use std::path::PathBuf;

use containerd_shim_protos::{
    protobuf::{self, Message, well_known_types::any::Any},
    shim::oci,
};
use stasis_proc::ErrorKind;

use crate::{
    checkpoint::CheckpointRequest,
    config::{RequestedConfig, RuncOptions},
};

#[allow(clippy::pedantic, missing_debug_implementations)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/proto/mod.rs"));
}

use self::generated::runtimeoptions::Options as RuntimeOptions;

/// The types that options come in.
const RUNC: &str = "containerd.runc.v1.Options";
const RUNTIME: &str = "runtimeoptions.v1.Options";
const CHECKPOINT: &str = "containerd.runc.v1.CheckpointOptions";

/// The name of a type without a host before it. Names are compared as text: a message's descriptor,
/// which knows its own, takes memory that is never given back.
fn name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// Why options are refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime options are of a type that we do not know.
    #[error(
        "runtime options of type {type_url:?} are not understood: \
         send containerd.runc.v1.Options or runtimeoptions.v1.Options"
    )]
    UnknownType {
        /// The type as it came.
        type_url: String,
    },
    /// The runtime options cannot be decoded.
    #[error("the runtime options are not a valid {name}")]
    Decode {
        /// The type they claim to be.
        name: &'static str,
        /// What protobuf said.
        source: protobuf::Error,
    },
    /// The inline configuration is not text.
    #[error("the config_body of the runtime options is not UTF-8")]
    BodyNotText(#[source] std::str::Utf8Error),
    /// The checkpoint options are of another type.
    #[error(
        "checkpoint options of type {type_url:?} are not supported: send \
         containerd.runc.v1.CheckpointOptions, or none"
    )]
    CheckpointType {
        /// The type that was sent.
        type_url: String,
    },
    /// The checkpoint options cannot be decoded.
    #[error("the checkpoint options are not a valid containerd.runc.v1.CheckpointOptions")]
    CheckpointDecode(#[source] protobuf::Error),
    /// The checkpoint options hold a field that this version does not know, and will not ignore.
    #[error("checkpoint option number {field} is not known to this version of the shim")]
    UnknownCheckpointOption {
        /// The field's number in containerd.runc.v1.CheckpointOptions.
        field: u32,
    },
}

impl Error {
    /// What kind of answer this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownType { .. }
            | Self::Decode { .. }
            | Self::BodyNotText(_)
            | Self::CheckpointType { .. }
            | Self::CheckpointDecode(_)
            | Self::UnknownCheckpointOption { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// Decodes runtime options.
///
/// # Errors
/// If they are of another type, or cannot be decoded.
pub fn runtime(options: Option<&Any>) -> Result<RequestedConfig, Error> {
    let Some(any) = options else {
        return Ok(RequestedConfig::Default);
    };
    match name(any) {
        RUNC => {
            let options = runc_options(decode(any, RUNC)?);
            Ok(RequestedConfig::Runc(Box::new(options)))
        }
        RUNTIME => runtime_options(decode(any, RUNTIME)?),
        // An Any without a type is how some clients say that there are no options.
        "" if any.type_url.is_empty() && any.value.is_empty() => Ok(RequestedConfig::Default),
        _ => Err(Error::UnknownType {
            type_url: any.type_url.clone(),
        }),
    }
}

/// Decodes the runtime options among the extensions that containerd passes to `start`.
///
/// # Errors
/// If they cannot be decoded.
pub fn runtime_among(extensions: &[Any]) -> Result<RequestedConfig, Error> {
    let is_known = |any: &&Any| [RUNC, RUNTIME].contains(&name(any));
    runtime(extensions.iter().find(is_known))
}

/// Decodes the options of a checkpoint; none at all means to leave the container running.
pub(super) fn checkpoint(options: Option<&Any>) -> Result<CheckpointRequest, Error> {
    let Some(any) = options else {
        return Ok(CheckpointRequest::default());
    };
    if name(any) != CHECKPOINT {
        return Err(Error::CheckpointType {
            type_url: any.type_url.clone(),
        });
    }
    let sent =
        oci::CheckpointOptions::parse_from_bytes(&any.value).map_err(Error::CheckpointDecode)?;
    if let Some((field, _)) = sent.special_fields.unknown_fields().iter().next() {
        return Err(Error::UnknownCheckpointOption { field });
    }
    Ok(CheckpointRequest {
        path: None,
        exit: sent.exit,
        tcp_established: sent.open_tcp,
        ext_unix_sk: sent.external_unix_sockets,
        shell_job: sent.terminal,
        file_locks: sent.file_locks,
        cgroup_mode: text(sent.cgroups_mode),
        empty_namespaces: sent.empty_namespaces,
        image_path: path(sent.image_path),
        work_path: path(sent.work_path),
    })
}

fn runc_options(sent: oci::Options) -> RuncOptions {
    RuncOptions {
        binary_name: text(sent.binary_name),
        root: path(sent.root),
        shim_cgroup: text(sent.shim_cgroup),
        criu_image_path: path(sent.criu_image_path),
        criu_work_path: path(sent.criu_work_path),
        systemd_cgroup: sent.systemd_cgroup,
        no_pivot_root: sent.no_pivot_root,
        no_new_keyring: sent.no_new_keyring,
        io_uid: (sent.io_uid != 0).then_some(sent.io_uid),
        io_gid: (sent.io_gid != 0).then_some(sent.io_gid),
    }
}

fn runtime_options(sent: RuntimeOptions) -> Result<RequestedConfig, Error> {
    if let Some(file) = path(sent.config_path) {
        return Ok(RequestedConfig::File(file));
    }
    if sent.config_body.is_empty() {
        return Ok(RequestedConfig::Default);
    }
    let body = String::from_utf8(sent.config_body);
    body.map(RequestedConfig::Inline)
        .map_err(|error| Error::BodyNotText(error.utf8_error()))
}

fn decode<M: Message>(any: &Any, name: &'static str) -> Result<M, Error> {
    M::parse_from_bytes(&any.value).map_err(|source| Error::Decode { name, source })
}

fn text(field: String) -> Option<String> {
    (!field.is_empty()).then_some(field)
}

/// A path that is set, if it is.
pub(super) fn path(field: String) -> Option<PathBuf> {
    text(field).map(PathBuf::from)
}

#[cfg(test)]
mod tests;
