//! An engine alone, by its command line, as someone would use it who has no containerd.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    bundle::Bundle,
    command::{self, Ended},
    peer::Engine,
    shim::real,
};

/// An engine and where it keeps its state.
#[derive(Debug, Clone)]
pub struct Alone {
    engine: Engine,
    root: PathBuf,
}

impl Alone {
    /// With a directory of its own.
    pub fn new(engine: Engine) -> Self {
        let root = Path::new("/run/bench-alone").join(engine.program());
        Self { engine, root }
    }

    /// Runs the bundle's container; its standard output is the bundle's FIFO.
    pub fn run(&self, bundle: &Bundle) -> Result<Ended> {
        self.call(bundle, &format!("run --detach {}", place(bundle)))
    }

    /// Checkpoints it into a directory, after which it runs on.
    pub fn checkpoint(&self, bundle: &Bundle, image: &Path) -> Result<Ended> {
        let images = self.images(bundle, image);
        self.call(bundle, &format!("checkpoint --leave-running {images}"))
    }

    /// Restores it.
    pub fn restore(&self, bundle: &Bundle, image: &Path) -> Result<Ended> {
        let images = self.images(bundle, image);
        self.call(
            bundle,
            &format!("restore --detach {images} {}", place(bundle)),
        )
    }

    /// Kills it, waits for its end and deletes it.
    pub fn end(&self, bundle: &Bundle) -> Result<()> {
        let pid = fs::read_to_string(pid_file(bundle))?.trim().parse()?;
        command::run(&mut self.command(&format!("kill {} KILL", bundle.id)))?;
        command::gone(pid)?;
        command::run(&mut self.command(&format!("delete --force {}", bundle.id)))?.ok()?;
        Ok(())
    }

    /// Flags.
    fn images(&self, bundle: &Bundle, image: &Path) -> String {
        let path = format!("--image-path {}", image.display());
        match self.engine {
            Engine::Runsc => path,
            // As our shim asks CRIU, and with a log of CRIU's that is found again.
            Engine::Runc | Engine::Crun => {
                // crun makes no such directory.
                let work = bundle.directory.join("work");
                format!(
                    "{path} --work-path {} --manage-cgroups-mode ignore",
                    work.display()
                )
            }
        }
    }

    fn call(&self, bundle: &Bundle, words: &str) -> Result<Ended> {
        let mut command = self.command(&format!("{words} {}", bundle.id));
        command::run_to(&mut command, bundle.output()?)?.ok()
    }

    fn command(&self, words: &str) -> std::process::Command {
        let (program, root) = (real(self.engine), self.root.display());
        command::line(&format!("{} --root {root} {words}", program.display()))
    }
}

fn place(bundle: &Bundle) -> String {
    let directory = bundle.directory.display();
    format!(
        "--bundle {directory} --pid-file {}",
        pid_file(bundle).display()
    )
}

fn pid_file(bundle: &Bundle) -> PathBuf {
    bundle.directory.join("alone.pid")
}
