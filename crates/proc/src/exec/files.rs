//! The files of one exec in the bundle.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    error::{Error, Result},
    init::remove_file,
};

/// The files by which the runtime and this shim speak of an exec. Removed when dropped.
pub(super) struct Files {
    pub(super) process: PathBuf,
    pub(super) pid: PathBuf,
}

impl Files {
    /// Writes the process document. Only root may read it: it has the environment.
    pub(super) fn write(bundle: &Path, number: u64, process: &Value) -> Result<Self> {
        let files = Self {
            process: bundle.join(format!("exec-{number}.json")),
            pid: bundle.join(format!("exec-{number}.pid")),
        };
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&files.process)?;
            file.write_all(process.to_string().as_bytes())
        };
        match write() {
            Ok(()) => Ok(files),
            Err(source) => Err(Error::Write {
                path: files.process.clone(),
                source,
            }),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        remove_file(&self.process);
        remove_file(&self.pid);
    }
}
