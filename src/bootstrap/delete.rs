//! The `delete` action: cleans up after a container whose shim is gone.
//!
//! containerd runs it when the connection to a shim breaks, in the bundle, and gives it 5 s. It
//! works from what is in the bundle, whatever is missing there, and does every step that it can:
//! one that fails is a warning on the standard error, which containerd logs. The standard output
//! is the reply alone.

use std::{
    env, fs,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use containerd_shim::{
    Flags,
    protos::{api::DeleteResponse, protobuf::Message},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal},
};
use stasis_engine::{Identity, Settings, Timeouts, connect, connect_as};
use stasis_linux::{
    Pidfd, chain,
    procfs::{self, Entry, Stat},
    sys,
};
use tokio::{runtime, time::timeout};

use super::socket;
use crate::{
    bundle::{self, RuntimeRecord},
    mounts,
};

/// What a container counts as that ended without anybody seeing how: ended by SIGKILL.
const STATUS: u32 = 128 + 9;

/// How long the runtime may take, and then the process that it should have ended. Together with
/// the rest that is less than containerd's 5 s.
const RUNTIME: Duration = Duration::from_secs(3);
const KILL: Duration = Duration::from_secs(1);
const _: () = assert!(RUNTIME.as_secs() + KILL.as_secs() < 5);

/// How much later than the file with its pid a process may seem to have started: the kernel tells
/// its own start in whole seconds, and clocks are adjusted.
const SLACK: Duration = Duration::from_secs(2);

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no bundle to work in.
    #[error("cannot find the working directory")]
    Bundle(#[source] io::Error),
    /// The reply cannot be given.
    #[error("cannot reply to containerd")]
    Reply(#[source] io::Error),
}

/// Cleans up and writes the reply.
///
/// # Errors
/// If there is no bundle to work in, or nobody to reply to.
pub fn delete(flags: &Flags) -> Result<(), Error> {
    let bundle = match flags.bundle.as_str() {
        "" => env::current_dir().map_err(Error::Bundle)?,
        path => PathBuf::from(path),
    };
    let init = RecordedInit::read(&bundle);
    match RuntimeRecord::read(&bundle) {
        Ok(Some(record)) => delete_in_runtime(record, &bundle),
        // The container was never about to be made.
        Ok(None) => {}
        Err(error) => warn_of("delete the container", Err(error)),
    }
    if let Some(init) = &init {
        warn_of("end the container's process", init.end());
    }
    warn_of(
        "unmount the rootfs",
        mounts::unmount(&bundle.join("rootfs")),
    );
    warn_of("remove the socket", remove_socket(&bundle));
    reply(init.map_or(0, |init| init.pid))
}

/// Has the runtime delete the container.
fn delete_in_runtime(record: RuntimeRecord, bundle: &Path) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return warn_of("start an async runtime", Err(error)),
    };
    runtime.block_on(async {
        let id = record.id.clone();
        let known = record.identity.clone().filter(Identity::holds);
        let settings = settings(record, bundle);
        let deleted = timeout(RUNTIME, async {
            let engine = match known {
                Some(identity) => connect_as(identity, settings),
                None => connect(settings).await?,
            };
            engine.delete(&id, true).await
        });
        match deleted.await {
            Ok(result) => warn_of("delete the container", result),
            Err(_) => eprintln!("the runtime did not delete the container within {RUNTIME:?}"),
        }
    });
    runtime.shutdown_background();
}

fn settings(record: RuntimeRecord, bundle: &Path) -> Settings {
    Settings {
        binary: record.binary.to_string_lossy().into_owned(),
        root: record.root,
        bundle: bundle.to_owned(),
        systemd_cgroup: record.systemd_cgroup,
        runsc_config: record.runsc_config,
        timeouts: Timeouts {
            delete: Some(RUNTIME),
            ..Timeouts::default()
        },
        ..Settings::default()
    }
}

/// The container's init or sandbox, by the file that the runtime wrote.
struct RecordedInit {
    pid: u32,
    written: SystemTime,
}

impl RecordedInit {
    fn read(bundle: &Path) -> Option<Self> {
        let pid = bundle::read(bundle, bundle::INIT_PID, bundle::MAX_LINE).ok()??;
        let written = fs::metadata(bundle.join(bundle::INIT_PID))
            .ok()?
            .modified()
            .ok()?;
        Some(Self {
            pid: pid.trim().parse().ok()?,
            written,
        })
    }

    /// Ends the process if it lives, and waits for that. A process that started after the file was
    /// written has got the pid of one that has ended, and is a stranger's.
    fn end(&self) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        // First the pidfd, then the question: what it stands for cannot change in between.
        let process = match Pidfd::take(pid) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let stat = match Entry::open(self.pid).and_then(|entry| entry.stat()) {
            Err(procfs::Error::Gone { .. }) => return Ok(()),
            stat => stat.map_err(io::Error::other)?,
        };
        // Reaped, its number may be another's, and so may be what was read.
        if process.is_reaped() || started(&stat)? > self.written + SLACK {
            return Ok(());
        }
        let killed = sys::send_signal(process.as_fd(), Signal::KILL.as_raw());
        if process.ends_within(KILL) {
            return Ok(());
        }
        killed?;
        Err(io::Error::other(format!(
            "process {pid} does not end",
            pid = self.pid
        )))
    }
}

/// When a process started, by the clock that dates files.
fn started(stat: &Stat) -> io::Result<SystemTime> {
    let boot = procfs::boot_time().map_err(io::Error::other)?;
    let since_boot = Duration::from_millis(stat.started.saturating_mul(10));
    Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(boot) + since_boot)
}

fn remove_socket(bundle: &Path) -> io::Result<()> {
    match bundle::read(bundle, bundle::ADDRESS, bundle::MAX_LINE)? {
        Some(address) => socket::remove(socket::path_of(&address)),
        None => Ok(()),
    }
}

fn warn_of<E: std::error::Error>(step: &str, result: Result<(), E>) {
    if let Err(error) = result {
        eprintln!("cannot {step}: {}", chain(&error));
    }
}

fn reply(pid: u32) -> Result<(), Error> {
    let response = DeleteResponse {
        pid,
        exit_status: STATUS,
        exited_at: Some(SystemTime::now().into()).into(),
        ..DeleteResponse::default()
    };
    let bytes = response
        .write_to_bytes()
        .map_err(|error| Error::Reply(error.into()))?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&bytes)
        .and_then(|()| stdout.flush())
        .map_err(Error::Reply)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(bundle: &Path) -> Child {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(bundle.join(bundle::INIT_PID), child.id().to_string()).unwrap();
        child
    }

    #[test]
    fn a_process_that_lives_is_ended() {
        let bundle = tempfile::tempdir().unwrap();
        let mut child = sleeper(bundle.path());

        RecordedInit::read(bundle.path()).unwrap().end().unwrap();

        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_stranger_that_has_got_the_pid_is_left_alone() {
        let bundle = tempfile::tempdir().unwrap();
        let mut child = sleeper(bundle.path());
        let mut init = RecordedInit::read(bundle.path()).unwrap();
        init.written -= Duration::from_secs(3600);

        init.end().unwrap();

        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        init.end().unwrap();
    }

    #[test]
    fn a_process_that_was_reaped_is_gone() {
        let bundle = tempfile::tempdir().unwrap();
        let mut child = sleeper(bundle.path());
        let init = RecordedInit::read(bundle.path()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();

        init.end().unwrap();
    }

    #[test]
    fn a_process_that_has_just_started_is_dated_now() {
        let bundle = tempfile::tempdir().unwrap();
        let mut child = sleeper(bundle.path());
        let process = Pidfd::take(Pid::from_child(&child)).unwrap();

        let started = started(&process.entry().unwrap().stat().unwrap()).unwrap();

        let now = SystemTime::now();
        assert!(
            started < now + SLACK && started > now - Duration::from_secs(60),
            "{started:?} for {now:?}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_bundle_without_anything_is_cleaned_without_an_error() {
        let bundle = tempfile::tempdir().unwrap();

        assert!(RecordedInit::read(bundle.path()).is_none());
        assert_eq!(RuntimeRecord::read(bundle.path()).unwrap(), None);
        remove_socket(bundle.path()).unwrap();
    }
}
