//! Checkpoint and restore through CRIU.
//!
//! An option goes by flag where the release has it, else by CRIU's configuration file
//! ([`config`]). Whatever a failed restore leaves behind is removed here, since the runtimes
//! leave processes, cgroups and mounts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use serde_json::Value;
use stasis_criu::{
    Evidence, Log, Options, Request, diagnose,
    options::{CgroupMode, External},
};
use stasis_linux::chain;

use super::{freeze, handle::Runc};
use crate::{
    calls::{Checkpoint, CheckpointReport, Restore},
    command::Invocation,
    criu::{
        config,
        debris::{self, RESTORE_LOG},
    },
    error::{Error, Result},
    identify::find,
    identity::{Identity, Kind},
    options::CheckpointOptions,
    vacant::Vacant,
};

/// What crun mounts over masked directories: one directory in its root. In an image it has the
/// fixed name of crun's default root, and crun itself does not tell CRIU where it is now.
const MASK: &str = ".empty-directory";
const MASK_IN_IMAGE: &str = "/run/crun/.empty-directory";

/// CRIU's log of a dump in its work directory, as both runtimes have it.
const DUMP_LOG: &str = "dump.log";

pub(super) async fn checkpoint(
    runc: &Runc,
    id: &str,
    request: &Checkpoint,
) -> Result<CheckpointReport> {
    let ours = by_configuration(runc, &request.options);
    config::write(
        &request.bundle,
        runc.runtime.identity.kind,
        Request::Dump,
        &ours,
    )?;
    let log = fresh_log(&request.work, DUMP_LOG)?;
    let ends = request.afterwards.ends_by_criu();
    let call = runc
        .runtime
        .call("checkpoint", runc.runtime.timeouts.checkpoint)
        .option("--image-path", &request.image)
        .option("--work-path", &request.work)
        .flag("--leave-running", !ends);
    let call = options(runc, call, &request.options).arg(id);
    let was_running = freeze::freeze(runc, id, request.afterwards.found_frozen()).await?;
    let dumped = call.run().await;
    // Ended by CRIU, it has gone.
    let gone = ends && dumped.is_ok();
    let dumped = dumped.map_err(|error| explained(runc, error, Request::Dump, &log));
    if was_running && !gone {
        freeze::thaw(runc, id, dumped).await?;
    } else {
        dumped?;
    }
    Ok(CheckpointReport {
        criu_version: Log::Path(&log).version(),
    })
}

pub(super) async fn restore(runc: &Runc, id: &str, request: Restore) -> Result<Pid> {
    // Else what is removed after the failure would be somebody else's container.
    runc.refuse_known("restore", id)?;
    let kind = runc.runtime.identity.kind;
    let mut ours = by_configuration(runc, &request.options);
    if kind == Kind::Crun {
        // crun makes it at a create only, so that after a reboot there is none.
        let mask = runc.root.join(MASK);
        fs::create_dir_all(&mask).map_err(Error::io("make", &mask))?;
        ours = ours.external(External::mount(MASK_IN_IMAGE, mask.display().to_string()));
    }
    config::write(&request.bundle, kind, Request::Restore, &ours)?;
    let log = fresh_log(&request.work, RESTORE_LOG)?;
    let cgroups = vacant_cgroups(runc, &request.bundle)?;
    let call = runc
        .runtime
        .call("restore", runc.runtime.timeouts.restore)
        .stdio(request.stdio)
        .given_up_by(request.given_up)
        .arg("--detach")
        .option("--bundle", &request.bundle)
        .option("--pid-file", &request.pid_file)
        .option("--image-path", &request.image)
        .option("--work-path", &request.work)
        // crun has neither flag.
        .flag("--no-subreaper", runc.runtime.identity.kind == Kind::Runc)
        .flag(
            "--no-pivot",
            runc.runtime.identity.kind == Kind::Runc && runc.no_pivot_root,
        );
    let restored = match options(runc, call, &request.options).arg(id).run().await {
        Ok(_) => runc.runtime.pid("restore", &request.pid_file),
        Err(error) => Err(explained(runc, error, Request::Restore, &log)),
    };
    if restored.is_err() {
        clean_up(runc, id, &request.work, cgroups.as_ref()).await;
    }
    restored
}

/// The flags that both verbs have.
fn options<'a>(runc: &Runc, call: Invocation<'a>, options: &CheckpointOptions) -> Invocation<'a> {
    let mut call = call
        .flag("--tcp-established", options.tcp_established)
        .flag("--ext-unix-sk", options.ext_unix_sk)
        .flag("--shell-job", options.shell_job)
        .flag("--file-locks", options.file_locks);
    if !by_file(runc, options.cgroup_mode) {
        call = call.option("--manage-cgroups-mode", options.cgroup_mode.as_str());
    }
    for namespace in &options.empty_namespaces {
        call = call.option("--empty-ns", namespace);
    }
    call
}

/// Whether the release refuses the mode as a flag.
fn by_file(runc: &Runc, mode: CgroupMode) -> bool {
    let Identity { kind, version, .. } = &runc.runtime.identity;
    match mode {
        CgroupMode::None | CgroupMode::Props => true,
        CgroupMode::Ignore => *kind == Kind::Runc && version.is_before(1, 2),
        CgroupMode::Soft | CgroupMode::Full | CgroupMode::Strict | CgroupMode::Default => false,
    }
}

/// What CRIU is told by its configuration file.
fn by_configuration(runc: &Runc, options: &CheckpointOptions) -> Options {
    // The request names the images.
    let ours = Options::new("");
    match by_file(runc, options.cgroup_mode) {
        true => ours.manage_cgroups(options.cgroup_mode),
        false => ours,
    }
}

/// Where the log of this call will be. One of an earlier call would explain the wrong failure.
fn fresh_log(work: &Path, name: &str) -> Result<PathBuf> {
    let log = work.join(name);
    match fs::remove_file(&log) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove the old log", &log)(error))
        }
        _ => Ok(log),
    }
}

/// The error with the cause from CRIU's log, or what is missing for CRIU to run at all.
fn explained(runc: &Runc, error: Error, request: Request, log: &Path) -> Error {
    let Error::Failed {
        engine,
        verb,
        message,
    } = error
    else {
        return error;
    };
    let diagnosis = diagnose(&Evidence {
        log: Some(Log::Path(log)),
        ..Evidence::of(request)
    });
    if diagnosis.cause.is_some() {
        return Error::Criu {
            engine,
            verb,
            diagnosis,
        };
    }
    let without = || format!("{verb} without CRIU");
    match engine {
        Kind::Runc if find("criu").is_err() => runc
            .runtime
            .unsupported(without(), "install criu in the PATH of containerd"),
        Kind::Crun if message.contains("libcriu.so") => runc.runtime.unsupported(
            without(),
            "install libcriu.so.2 (package libcriu2 or criu-libs)",
        ),
        // The library is there, and starts a criu that is not: all it sees is a closed socket.
        Kind::Crun if find("criu").is_err() => runc
            .runtime
            .unsupported(without(), "install criu in the PATH of containerd"),
        _ => Error::Failed {
            engine,
            verb,
            message,
        },
    }
}

/// Removes what a failed restore left: CRIU, when killed, leaves processes that will never end by
/// themselves, and mounts; crun always leaves cgroups. What cannot be removed is logged, since
/// the failure itself is what the caller has to know.
async fn clean_up(runc: &Runc, id: &str, work: &Path, cgroups: Option<&Vacant>) {
    let check = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            tracing::warn!(
                "after the failed restore of {id}, cannot {what}: {}",
                chain(&error)
            );
        }
    };
    if let Some(cgroups) = cgroups {
        check("end its processes", end_all(cgroups).await);
    }
    check("remove CRIU's mounts", debris::remove(work));
    check("delete the container", runc.delete(id, true).await);
    if let Some(cgroups) = cgroups {
        cgroups.remove();
    }
}

/// Kills what is there and waits for its end, which nothing reports to those who are no parent.
async fn end_all(cgroups: &Vacant) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(10);
    let began = Instant::now();
    while !cgroups.is_vacant()? && began.elapsed() < PATIENCE {
        cgroups.kill_all()?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// The cgroups that the spec names, if nobody is there.
fn vacant_cgroups(runc: &Runc, bundle: &Path) -> Result<Option<Vacant>> {
    let spec = config::spec(bundle)?;
    let path = spec.pointer("/linux/cgroupsPath").and_then(Value::as_str);
    path.map_or(Ok(None), |path| Vacant::at(path, runc.systemd_cgroup))
}
