//! The containerd process: its configuration, its log, its life and death.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{SOON, until};

/// A containerd process in its directory.
#[derive(Debug)]
pub struct Daemon {
    directory: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts containerd with its root and socket in `directory` and its state in `state`.
    pub fn start(directory: &Path, state: &Path) -> Self {
        fs::write(directory.join("config.toml"), config(directory, state)).expect("room");
        Self {
            directory: directory.to_owned(),
            child: spawn(directory),
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("our child");
    }

    /// Starts it again on the same state after [`Daemon::kill`].
    pub fn start_again(&mut self) {
        self.child = spawn(&self.directory);
    }

    /// Ends it with SIGTERM.
    pub fn stop(&mut self) {
        // It may be dead already, by the test's own doing.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        until("containerd ends", SOON, || {
            self.child.try_wait().ok().flatten()
        });
    }

    /// Whether it is running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it and the shims have logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("containerd.log")).unwrap_or_default()
    }
}

fn config(directory: &Path, state: &Path) -> String {
    format!(
        r#"version = 2
root = "{directory}/root"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{directory}/containerd.sock"
"#,
        directory = directory.display(),
        state = state.display(),
    )
}

fn spawn(directory: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(directory.join("containerd.log"))
        .expect("a directory of our own");
    let system = std::env::var("PATH").expect("the lab sets PATH");
    Command::new("containerd")
        .args(["--config", "config.toml", "--log-level", "debug"])
        .current_dir(directory)
        .env("PATH", format!("{}/bin:{system}", directory.display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn()
        .expect("the lab has containerd")
}
