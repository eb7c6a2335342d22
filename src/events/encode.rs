//! Our events as containerd's messages.

use std::path::Path;

use containerd_shim::{
    event::Event as Message,
    protos::{
        events::task::{
            TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit,
            TaskIO, TaskPaused, TaskResumed, TaskStart,
        },
        protobuf::{self, MessageDyn, well_known_types::any::Any},
        types::mount::Mount,
    },
};

use super::event::{Created, Event};
use crate::mounts::MountRequest;

/// The message that tells of an event.
pub(super) fn message(container: &str, event: Event) -> Box<dyn Message> {
    let container_id = container.to_owned();
    match event {
        Event::Created(created) => Box::new(create(container_id, *created)),
        Event::Started { pid } => Box::new(TaskStart {
            container_id,
            pid,
            ..TaskStart::default()
        }),
        Event::ExecAdded { exec } => Box::new(TaskExecAdded {
            container_id,
            exec_id: exec,
            ..TaskExecAdded::default()
        }),
        Event::ExecStarted { exec, pid } => Box::new(TaskExecStarted {
            container_id,
            exec_id: exec,
            pid,
            ..TaskExecStarted::default()
        }),
        Event::Paused => Box::new(TaskPaused {
            container_id,
            ..TaskPaused::default()
        }),
        Event::Resumed => Box::new(TaskResumed {
            container_id,
            ..TaskResumed::default()
        }),
        Event::Checkpointed { image } => Box::new(TaskCheckpointed {
            container_id,
            checkpoint: text(&image),
            ..TaskCheckpointed::default()
        }),
        Event::Exited { pid, exit } => Box::new(TaskExit {
            container_id,
            id: exit.id,
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.timestamp.into()).into(),
            ..TaskExit::default()
        }),
        Event::Deleted { pid, exit } => Box::new(TaskDelete {
            container_id,
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.timestamp.into()).into(),
            ..TaskDelete::default()
        }),
    }
}

fn create(container_id: String, created: Created) -> TaskCreate {
    TaskCreate {
        container_id,
        bundle: text(&created.bundle),
        rootfs: created.rootfs.into_iter().map(mount).collect(),
        io: Some(TaskIO {
            stdin: created.stdio.stdin,
            stdout: created.stdio.stdout,
            stderr: created.stdio.stderr,
            terminal: created.stdio.terminal,
            ..TaskIO::default()
        })
        .into(),
        checkpoint: created.checkpoint.as_deref().map(text).unwrap_or_default(),
        pid: created.pid,
        ..TaskCreate::default()
    }
}

fn mount(mount: MountRequest) -> Mount {
    Mount {
        type_: mount.kind,
        source: mount.source,
        target: mount.target,
        options: mount.options,
        ..Mount::default()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Packs a message as containerd does: the type URL is the bare name.
pub(super) fn any(message: &dyn MessageDyn) -> protobuf::Result<Any> {
    Ok(Any {
        type_url: message.descriptor_dyn().full_name().to_owned(),
        value: message.write_to_bytes_dyn()?,
        ..Any::default()
    })
}
