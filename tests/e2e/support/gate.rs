//! An engine that stops at one verb until it is let go on: the test decides what happens
//! meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
};

use containerd_shim_protos::api::CreateTaskRequest;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use super::{
    engine::Engine,
    options::inline,
    script::write_script,
    shim::Shim,
    wait::{SOON, until},
};

/// The engine's gate.
#[derive(Debug)]
pub struct Gate {
    engine: Engine,
    directory: PathBuf,
}

impl Gate {
    /// A gate before `verb` of the engine.
    pub fn before(directory: &Path, engine: Engine, verb: &str) -> Self {
        let gate = Self {
            engine,
            directory: directory.join("gate"),
        };
        fs::create_dir(&gate.directory).expect("a new directory");
        mknodat(CWD, gate.fifo(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        write_script(
            &gate.binary(),
            &format!(
                "case \" $* \" in *' {verb} '*)\n\
                 touch {directory}/arrived\n\
                 [ -e {directory}/open ] || read -r _ < {fifo}\n\
                 touch {directory}/passed ;;\n\
                 esac\n\
                 exec {engine} \"$@\"",
                directory = gate.directory.display(),
                fifo = gate.fifo().display(),
                engine = engine.binary(),
            ),
        );
        gate
    }

    /// A Create with the gated engine.
    pub fn create_request(&self, shim: &Shim) -> CreateTaskRequest {
        CreateTaskRequest {
            options: Some(inline(&self.config(""))).into(),
            ..shim.create_request(self.engine)
        }
    }

    /// A configuration of the shim with the gated engine, and `more` lines at its top.
    pub fn config(&self, more: &str) -> String {
        let binary = self.binary().display().to_string();
        self.engine
            .config(more)
            .replacen(self.engine.binary(), &binary, 1)
    }

    /// Waits until the engine stands at the gate.
    pub fn await_arrival(&self) {
        let arrived = self.directory.join("arrived");
        until("the engine is called", SOON, || {
            arrived.exists().then_some(())
        });
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        fs::write(self.directory.join("open"), "").expect("a directory of our own");
        // The engine waits for a writer, or has just seen that the gate is open.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        until("the engine passes the gate", SOON, || {
            let _writer = open(self.fifo(), flags, Mode::empty());
            self.directory.join("passed").exists().then_some(())
        });
    }

    fn binary(&self) -> PathBuf {
        self.directory.join("engine")
    }

    fn fifo(&self) -> PathBuf {
        self.directory.join("fifo")
    }
}
