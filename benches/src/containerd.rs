//! A containerd for each shim, so that all of them have the same name there, and `ctr`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    env,
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    command::{self, Ended},
    peer::{Engine, Peer, Programs, Shim},
};

/// The namespace of all containers.
pub const NAMESPACE: &str = "bench";

/// A containerd whose PATH has one shim. Dropping it ends its tasks and it.
#[derive(Debug)]
pub struct Containerd {
    directory: PathBuf,
    child: Child,
}

impl Containerd {
    /// Starts it with the image imported.
    pub fn start(programs: &Programs, shim: Shim) -> Result<Self> {
        let directory = scratch()?.join(shim.key());
        let bin = directory.join("bin");
        fs::create_dir_all(&bin)?;
        for engine in [Engine::Runc, Engine::Runsc] {
            let from = programs.of(shim);
            // A copy: what one inode's pages are shared by are the processes of one peer.
            fs::copy(&from, bin.join(engine.shim_name()))
                .with_context(|| format!("cannot copy {}", from.display()))?;
        }
        fs::write(directory.join("config.toml"), config(&directory, shim))?;
        let containerd = Self {
            child: spawn(&directory, &bin)?,
            directory,
        };
        containerd.await_answer()?;
        let image = variable("STASIS_LAB_IMAGE")?;
        containerd
            .ctr(&format!("image import --local {image}"))?
            .ok()?;
        Ok(containerd)
    }

    /// The directory with the shim, under each of its names.
    pub fn bin(&self) -> PathBuf {
        self.directory.join("bin")
    }

    /// Where containerd listens.
    pub fn address(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// Runs ctr with a line of arguments, whose words are separated by blanks.
    pub fn ctr(&self, arguments: &str) -> Result<Ended> {
        command::run(&mut command::line(&format!(
            "ctr --address {} --namespace {NAMESPACE} {arguments}",
            self.address().display()
        )))
    }

    /// Makes a container of the image and starts it.
    pub fn start_container(&self, peer: Peer, id: &str, command: &str) -> Result<()> {
        let options = peer.ctr_options();
        let image = image()?;
        self.ctr(&format!("run --detach {options} {image} {id} {command}"))?
            .ok()?;
        Ok(())
    }

    /// Ends a container in whatever state it is, as a user would who gives up on it.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.ctr(&format!("task delete --force {id}"))?;
        self.ctr(&format!("container delete {id}"))?;
        Ok(())
    }

    fn await_answer(&self) -> Result<()> {
        let end = Instant::now() + command::DEADLINE;
        while UnixStream::connect(self.address()).is_err() {
            ensure!(Instant::now() < end, "containerd does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        // The socket is there before the services are; ctr waits for them.
        self.ctr("version")?.ok()?;
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Ok(tasks) = self.ctr("task ls --quiet") {
            for id in tasks.stdout.lines() {
                let _ = self.remove(id);
            }
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !command::ends_within(&self.child, command::DEADLINE).unwrap_or(false) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The containerds of those peers.
pub fn start_all(programs: &Programs, peers: &[Peer]) -> Result<BTreeMap<Shim, Containerd>> {
    let mut all = BTreeMap::new();
    for peer in peers {
        if let Entry::Vacant(place) = all.entry(peer.shim) {
            let containerd = Containerd::start(programs, peer.shim)
                .with_context(|| format!("containerd with {}", peer.shim.title()))?;
            place.insert(containerd);
        }
    }
    Ok(all)
}

/// The name of the image.
pub fn image() -> Result<String> {
    variable("STASIS_LAB_IMAGE_REF")
}

/// A directory on a disk: no overlay, as containerd makes them, can be on the lab's own.
pub fn scratch() -> Result<PathBuf> {
    Ok(Path::new(&variable("STASIS_LAB_SCRATCH")?).join("bench"))
}

/// The system's PATH with a directory before it.
pub fn path_with(first: &Path) -> Result<String> {
    Ok(format!("{}:{}", first.display(), variable("PATH")?))
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: this runs in the lab (benches/run)"))
}

fn config(directory: &Path, shim: Shim) -> String {
    let directory = directory.display();
    // The state is on a tmpfs, as on a real host.
    format!(
        r#"version = 2
root = "{directory}/root"
state = "/run/bench-{key}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{directory}/containerd.sock"
"#,
        key = shim.key(),
    )
}

fn spawn(directory: &Path, bin: &Path) -> Result<Child> {
    let log = File::create(directory.join("containerd.log"))?;
    Command::new("containerd")
        .args(["--config", "config.toml"])
        .current_dir(directory)
        .env("PATH", path_with(bin)?)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start containerd")
}
