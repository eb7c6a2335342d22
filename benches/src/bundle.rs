//! Bundles for shims and engines that are driven without containerd.

use std::{
    env,
    fs::{self, File},
    io::Read,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, mknodat},
};
use serde_json::{Value, json};

use crate::{
    command::{self, DEADLINE},
    containerd::scratch,
};

/// What containers here run of busybox.
const APPLETS: [&str; 4] = ["dd", "sh", "sleep", "true"];

/// A root file system with busybox and the process that is to be dumped.
#[derive(Debug)]
pub struct Image {
    root: PathBuf,
    spec: Value,
}

/// A bundle on a tmpfs, as containerd has it. Dropping it removes it.
#[derive(Debug)]
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// Where it is.
    pub directory: PathBuf,
    /// The reading end of the container's standard output.
    output: File,
    /// Nobody reads it. containerd's shims want a place for it where there is one for output.
    _errors: File,
    /// Holds the FIFO of the shim's log open: the thread that copies it ends with the last writer.
    _log: File,
}

impl Image {
    /// Lays it out.
    pub fn make(victim: &Path) -> Result<Self> {
        let root = Path::new("/run/bench-image").to_owned();
        let bin = root.join("bin");
        fs::create_dir_all(&bin)?;
        copy("/usr/bin/busybox".as_ref(), &bin.join("busybox"))?;
        for applet in APPLETS {
            let _ = fs::remove_file(bin.join(applet));
            symlink("busybox", bin.join(applet))?;
        }
        copy(victim, &bin.join("victim"))?;
        for library in libraries(victim)? {
            let inside = root.join(library.strip_prefix("/")?);
            fs::create_dir_all(inside.parent().context("a library at the root")?)?;
            copy(&library, &inside)?;
        }
        let spec = command::run(&mut command::line("ctr oci spec"))?.ok()?;
        let spec = serde_json::from_str(&spec.stdout)?;
        Ok(Self { root, spec })
    }

    /// A bundle of this image.
    pub fn bundle(&self, id: &str, words: &[&str]) -> Result<Bundle> {
        let directory = Path::new("/run/bench-bundles").join(id);
        fs::create_dir_all(&directory)?;
        let rootfs = format!("{}/rootfs", directory.display());
        command::run(&mut command::line(&format!(
            "cp -a {} {rootfs}",
            self.root.display()
        )))?
        .ok()?;
        // Shims and engines may write there, and expect to be able to.
        let work = scratch()?.join(format!("work-{id}"));
        fs::create_dir_all(&work)?;
        symlink(&work, directory.join("work"))?;
        fs::write(
            directory.join("config.json"),
            self.config(id, words).to_string(),
        )?;
        for name in ["log", "stdout", "stderr"] {
            let fifo = directory.join(name);
            mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        let log = copying(&directory.join("log"), &work.join("shim.log"))?;
        let held = |name| {
            let fifo = directory.join(name);
            File::options().read(true).write(true).open(fifo)
        };
        Ok(Bundle {
            id: id.to_owned(),
            output: held("stdout")?,
            _errors: held("stderr")?,
            _log: log,
            directory,
        })
    }

    fn config(&self, id: &str, words: &[&str]) -> Value {
        let mut spec = self.spec.clone();
        spec["process"]["args"] = json!(words);
        spec["process"]["env"] = json!(["PATH=/bin"]);
        spec["root"] = json!({ "path": "rootfs" });
        spec["linux"]["cgroupsPath"] = json!(format!("/bench/{id}"));
        // crun masks with what it does not tell CRIU of: alone it could not restore.
        if let Some(linux) = spec["linux"].as_object_mut() {
            linux.remove("maskedPaths");
        }
        // See `Peer::ctr_options`.
        spec["annotations"] = json!({ "io.kubernetes.cri.container-type": "sandbox" });
        spec
    }
}

impl Bundle {
    /// The FIFO of the container's standard output or error.
    pub fn fifo(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// A descriptor for the same.
    pub fn output(&self) -> Result<File> {
        Ok(self.output.try_clone()?)
    }

    /// Waits until the victim has touched its memory and has nothing to do with its streams.
    pub fn await_ready(&self) -> Result<()> {
        let mut said = Vec::new();
        while !said.ends_with(b"ready\n") {
            self.read(&mut said, 64)?;
        }
        // It closes its streams after that word, and says no other.
        thread::sleep(std::time::Duration::from_millis(20));
        Ok(())
    }

    /// Reads and forgets so many bytes of the container's output.
    pub fn drain(&self, bytes: u64) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            self.await_output()?;
            left = left.saturating_sub((&self.output).read(&mut buffer)?.try_into()?);
        }
        Ok(())
    }

    fn read(&self, into: &mut Vec<u8>, most: usize) -> Result<()> {
        self.await_output()?;
        let mut buffer = vec![0; most];
        let count = (&self.output).read(&mut buffer)?;
        into.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    fn await_output(&self) -> Result<()> {
        let timeout = Timespec::try_from(DEADLINE)?;
        let mut readable = [PollFd::new(&self.output, PollFlags::IN)];
        let count = poll(&mut readable, Some(&timeout))?;
        ensure!(count == 1, "no output of {} within {DEADLINE:?}", self.id);
        Ok(())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // What is still mounted there stays: the lab takes it along.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Copies what is written into a FIFO to a file, for whoever looks for a failure's cause.
fn copying(fifo: &Path, file: &Path) -> Result<File> {
    let held = File::options().read(true).write(true).open(fifo)?;
    let mut reader = File::open(fifo)?;
    let mut log = File::options().create(true).append(true).open(file)?;
    thread::spawn(move || std::io::copy(&mut reader, &mut log));
    Ok(held)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// The dynamic loader and the libraries of a program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    ensure!(env::var_os("STASIS_LAB").is_some(), "this runs in the lab");
    let listed = command::run(command::line("ldd").arg(program))?.ok()?;
    let words = listed.stdout.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}
