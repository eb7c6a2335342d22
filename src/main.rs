//! The shim that containerd starts for a container: which action was asked for.
//!
//! The binary runs in two ways: for a moment, as one of the actions of the shim v2 contract
//! ([`bootstrap`]), and for as long as the container lives, as the server that `start` leaves
//! behind. What it serves is in [`service`], what it knows of its containers in [`pod`].

#![expect(
    clippy::error_impl_error,
    reason = "a module's error is named by its path, as io::Error is: config::Error"
)]

mod bootstrap;
mod bundle;
mod checkpoint;
mod config;
mod container;
mod events;
mod invoked_as;
mod logging;
mod mounts;
mod pod;
mod service;
mod spec;

use std::{env, ffi::OsString, io, process::ExitCode, sync::Arc};

use stasis_engine::Children;
use stasis_linux::chain;
use stasis_proc::ProcessMonitor;

use crate::{
    bootstrap::{ServiceContext, TaskService},
    container::ShimContext,
    invoked_as::InvokedAs,
    pod::Pod,
    service::Service,
};

fn main() -> ExitCode {
    let mut args = env::args_os();
    let invoked_as = InvokedAs::new(&args.next().unwrap_or_default());
    let args: Vec<OsString> = args.collect();
    match act(&args, invoked_as) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows this to whoever asked for the container.
            eprintln!("{}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn act(args: &[OsString], invoked_as: InvokedAs) -> Result<(), Box<dyn std::error::Error>> {
    let flags = bootstrap::parse(args)?;
    if flags.version {
        return Ok(bootstrap::version(&invoked_as)?);
    }
    if flags.info {
        return Ok(bootstrap::info(&invoked_as)?);
    }
    match flags.action.as_str() {
        "start" => Ok(bootstrap::start(&flags, &invoked_as)?),
        "delete" => Ok(bootstrap::delete(&flags)?),
        "" => Ok(bootstrap::serve(&flags, invoked_as, tasks)?),
        action => Err(format!("unknown action {action:?}: use start or delete").into()),
    }
}

/// The task service of the server. Called inside its runtime, after it became a subreaper.
fn tasks(given: ServiceContext) -> io::Result<TaskService> {
    let children = Children::default();
    let monitor = ProcessMonitor::new(children.clone());
    monitor.start_sweeper()?;
    let context = ShimContext {
        namespace: given.namespace,
        invoked_as: given.invoked_as,
        children,
        monitor,
        publisher: given.publisher,
    };
    let pod = Pod::new(context, given.shutdown);
    Ok(Arc::new(Service::new(pod)))
}
