//! Requests of the task service, as plain values.

use containerd_shim_protos::{
    api::{CheckpointTaskRequest, CreateTaskRequest, ExecProcessRequest},
    protobuf::well_known_types::any::Any,
    types::mount::Mount,
};
use stasis_proc::{ExecConfig, StdioPaths};

use super::{
    error::Error,
    options::{self, path},
};
use crate::{
    checkpoint::CheckpointRequest,
    container::{self, CreateRequest},
    mounts::MountRequest,
};

/// What a Create asks for.
///
/// # Errors
/// If its options cannot be used.
pub(super) fn create(request: CreateTaskRequest) -> Result<CreateRequest, Error> {
    Ok(CreateRequest {
        config: options::runtime(request.options.as_ref())?,
        id: request.id,
        bundle: request.bundle.into(),
        rootfs: request.rootfs.into_iter().map(mount).collect(),
        stdio: StdioPaths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        },
        checkpoint: path(request.checkpoint),
        parent_checkpoint: path(request.parent_checkpoint),
    })
}

fn mount(mount: Mount) -> MountRequest {
    MountRequest {
        kind: mount.type_,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    }
}

/// What a Checkpoint asks for.
///
/// # Errors
/// If its options cannot be used.
pub(super) fn checkpoint(request: CheckpointTaskRequest) -> Result<CheckpointRequest, Error> {
    Ok(CheckpointRequest {
        path: path(request.path),
        ..options::checkpoint(request.options.as_ref())?
    })
}

/// The process that an Exec adds.
///
/// # Errors
/// If it is no process of an OCI specification.
pub(super) fn exec(request: ExecProcessRequest) -> Result<ExecConfig, Error> {
    let document = request
        .spec
        .as_ref()
        .map_or(&[][..], |Any { value, .. }| value);
    let process = serde_json::from_slice(document).map_err(|source| container::Error::Invalid {
        what: "process of an exec",
        value: source.to_string(),
        wanted: "the process document of the OCI runtime specification, as JSON",
    })?;
    Ok(ExecConfig {
        id: request.exec_id,
        stdio: StdioPaths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        },
        process,
    })
}
