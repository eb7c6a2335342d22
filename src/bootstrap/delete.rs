//! The `delete` action: cleans up after a container whose shim is gone.
//!
//! containerd runs it when the connection to a shim breaks, in the bundle, and gives it 5 s. It
//! works from what is in the bundle, whatever is missing there, and does every step that it can:
//! one that fails is a warning on the standard error, which containerd logs. The standard output
//! is the reply alone.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use containerd_shim::{
    Flags,
    protos::{api::DeleteResponse, protobuf::Message},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use stasis_engine::{Children, Identity, Settings, Timeouts, connect, connect_as};
use tokio::{runtime, time::timeout};

use super::socket;
use crate::{
    bundle::{self, RuntimeRecord},
    chain::chain,
    mounts,
};

/// What a container counts as that ended without anybody seeing how: ended by SIGKILL.
const STATUS: u32 = 128 + 9;

/// How long the runtime may take, and then the process that it should have ended. Together with
/// the rest that is less than containerd's 5 s.
const RUNTIME: Duration = Duration::from_secs(3);
const KILL: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
const _: () = assert!(RUNTIME.as_secs() + KILL.tv_sec.unsigned_abs() < 5);

/// How much later than the file with its pid a process may seem to have started: the kernel
/// counts its start in hundredths of a second, and clocks are adjusted.
const SLACK: Duration = Duration::from_secs(2);

/// The unit of start times in `/proc/PID/stat`: `USER_HZ`, on every machine that runs runsc.
const TICKS_PER_SECOND: f64 = 100.0;

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
    let init = Init::read(&bundle);
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
        no_pivot_root: false,
        no_new_keyring: false,
        timeouts: Timeouts {
            delete: Some(RUNTIME),
            ..Timeouts::default()
        },
        children: Children::default(),
    }
}

/// The container's init or sandbox, by the file that the runtime wrote.
struct Init {
    pid: u32,
    written: SystemTime,
}

impl Init {
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
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        // In this order: where time passes between the two, what is ours does not become younger.
        let file = self.written.elapsed().unwrap_or_default();
        let process = match age_of_process(pid) {
            Err(error) if is_gone(&error) => return Ok(()),
            age => age?,
        };
        if process + SLACK < file {
            return Ok(());
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&KILL))? {
            0 => Err(io::Error::other(format!(
                "process {pid} does not end",
                pid = self.pid
            ))),
            _ => Ok(()),
        }
    }
}

fn age_of_process(pid: Pid) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    age(&stat, &uptime).ok_or_else(|| io::Error::other("/proc says nothing of its start"))
}

/// Whether a process was reaped before its file in `/proc` was opened, or before it was read.
fn is_gone(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::NOENT | Errno::SRCH))
}

/// The time since a process started, by `/proc/PID/stat` and `/proc/uptime` (proc(5)).
fn age(stat: &str, uptime: &str) -> Option<Duration> {
    // The second field is the program's name, which may hold anything but ends at the last
    // parenthesis. The 22nd is the start.
    let (_, fields) = stat.rsplit_once(')')?;
    let started: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64((up - started / TICKS_PER_SECOND).max(0.0)).ok()
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

        Init::read(bundle.path()).unwrap().end().unwrap();

        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_stranger_that_has_got_the_pid_is_left_alone() {
        let bundle = tempfile::tempdir().unwrap();
        let mut child = sleeper(bundle.path());
        let mut init = Init::read(bundle.path()).unwrap();
        init.written -= Duration::from_secs(3600);

        init.end().unwrap();

        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        init.end().unwrap();
    }

    #[test]
    fn a_process_that_is_reaped_meanwhile_is_gone_wherever_its_age_is_looked_for() {
        let bundle = tempfile::tempdir().unwrap();
        let mut child = sleeper(bundle.path());
        let pid = Pid::from_child(&child);
        let stat = fs::File::open(format!("/proc/{}/stat", child.id())).unwrap();
        age_of_process(pid).unwrap();

        child.kill().unwrap();
        child.wait().unwrap();

        assert!(is_gone(&age_of_process(pid).unwrap_err()));
        assert!(is_gone(&io::read_to_string(stat).unwrap_err()));
    }

    #[test]
    fn an_age_is_read_past_any_program_name() {
        let fields = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5000 1 1";
        let stat = format!("7 (a) b (c) {fields}");

        assert_eq!(age(&stat, "60.00 100.00\n"), Some(Duration::from_secs(10)));
        assert_eq!(age("7 (a", "60.00"), None);
    }

    #[test]
    fn a_bundle_without_anything_is_cleaned_without_an_error() {
        let bundle = tempfile::tempdir().unwrap();

        assert!(Init::read(bundle.path()).is_none());
        assert_eq!(RuntimeRecord::read(bundle.path()).unwrap(), None);
        remove_socket(bundle.path()).unwrap();
    }
}
