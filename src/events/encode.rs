//! Our events as containerd's messages.

use std::path::Path;

use containerd_shim::{
    event::Event as Topic,
    protos::{
        events::task::{
            TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit,
            TaskIO, TaskPaused, TaskResumed, TaskStart,
        },
        protobuf::{self, Message, well_known_types::any::Any},
        types::mount::Mount,
    },
};

use super::event::{Created, Event};
use crate::mounts::MountRequest;

/// What the messages of events are in.
const PACKAGE: &str = "containerd.events";

/// The topic of an event, and the message that tells of it.
pub(super) fn message(container: &str, event: Event) -> protobuf::Result<(String, Any)> {
    let container_id = container.to_owned();
    match event {
        Event::Created(created) => packed(&create(container_id, *created)),
        Event::Started { pid } => packed(&TaskStart {
            container_id,
            pid,
            ..TaskStart::default()
        }),
        Event::ExecAdded { exec } => packed(&TaskExecAdded {
            container_id,
            exec_id: exec,
            ..TaskExecAdded::default()
        }),
        Event::ExecStarted { exec, pid } => packed(&TaskExecStarted {
            container_id,
            exec_id: exec,
            pid,
            ..TaskExecStarted::default()
        }),
        Event::Paused => packed(&TaskPaused {
            container_id,
            ..TaskPaused::default()
        }),
        Event::Resumed => packed(&TaskResumed {
            container_id,
            ..TaskResumed::default()
        }),
        Event::Checkpointed { image } => packed(&TaskCheckpointed {
            container_id,
            checkpoint: text(&image),
            ..TaskCheckpointed::default()
        }),
        Event::Exited { pid, exit } => packed(&TaskExit {
            container_id,
            id: exit.id,
            pid,
            exit_status: exit.status,
            exited_at: Some(exit.timestamp.into()).into(),
            ..TaskExit::default()
        }),
        Event::Deleted { pid, exit } => packed(&TaskDelete {
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

/// Packs a message as containerd does: the type URL is the bare name. Not by its descriptor, which
/// takes memory that is never given back: more than a third of all that an idle shim had.
fn packed<M: Topic + Message>(message: &M) -> protobuf::Result<(String, Any)> {
    let any = Any {
        type_url: format!("{PACKAGE}.{}", M::NAME),
        value: message.write_to_bytes()?,
        ..Any::default()
    };
    Ok((message.topic(), any))
}
