//! `runtime.json`: what the `delete` action must know of a container whose shim is gone.
//!
//! Written into the bundle before Create has any effect, so that there is nothing to clean up
//! that the file does not lead to. It is the counterpart of the `runtime` and `options.json`
//! files of containerd's runc shim.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use stasis_engine::{Engine, Identity};
use stasis_proc::ErrorKind;

use super::{read, write};
use crate::config::Config;

const NAME: &str = "runtime.json";

/// The most that is read. The flags of a long `runsc_config` take some kilobytes.
const MAX: u64 = 1 << 20;

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {path}", path = path.display())]
pub struct RecordError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl RecordError {
    fn new(step: &'static str, bundle: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = bundle.join(NAME);
        move |source| Self { step, path, source }
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        }
    }
}

/// How the container's runtime is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// The container.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The runtime binary, by its absolute path.
    pub binary: PathBuf,
    /// What it said that it is. Not in the record of an older shim, and another's may be of a kind
    /// that this one does not know.
    #[serde(default, deserialize_with = "if_known")]
    pub identity: Option<Identity>,
    /// The runtime's root, with the namespace.
    pub root: PathBuf,
    /// Flags for every call of runsc.
    pub runsc_config: BTreeMap<String, String>,
    /// Whether cgroups are left to systemd.
    pub systemd_cgroup: bool,
}

fn if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Identity>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

impl RuntimeRecord {
    /// The record of a container that is about to be made.
    #[must_use]
    pub fn new(config: &Config, engine: &dyn Engine, namespace: &str, id: &str) -> Self {
        Self {
            id: id.to_owned(),
            namespace: namespace.to_owned(),
            binary: engine.binary().to_owned(),
            identity: Some(engine.identity().clone()),
            root: config.runtime_root(namespace, engine.kind()),
            runsc_config: config.runsc_config.clone(),
            systemd_cgroup: config.systemd_cgroup,
        }
    }

    /// Writes the record into `bundle`, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, bundle: &Path) -> Result<(), RecordError> {
        serde_json::to_vec(self)
            .map_err(io::Error::from)
            .and_then(|text| write(bundle, NAME, &text))
            .map_err(RecordError::new("write", bundle))
    }

    /// Reads the record of `bundle`; `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read, is too long, or is no record.
    pub fn read(bundle: &Path) -> Result<Option<Self>, RecordError> {
        read(bundle, NAME, MAX)
            .and_then(|text| Ok(text.map(|text| serde_json::from_str(&text)).transpose()?))
            .map_err(RecordError::new("read", bundle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RuntimeRecord {
        RuntimeRecord {
            id: "c".to_owned(),
            namespace: "default".to_owned(),
            binary: "/usr/bin/runsc".into(),
            identity: None,
            root: "/run/containerd/runsc/default".into(),
            runsc_config: BTreeMap::from([("platform".to_owned(), "systrap".to_owned())]),
            systemd_cgroup: false,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bundle = tempfile::tempdir().unwrap();

        assert_eq!(RuntimeRecord::read(bundle.path()).unwrap(), None);
        record().write(bundle.path()).unwrap();
        assert_eq!(RuntimeRecord::read(bundle.path()).unwrap(), Some(record()));
    }

    #[test]
    fn a_binary_that_another_release_has_described_does_not_spoil_the_record() {
        let bundle = tempfile::tempdir().unwrap();
        let mut text = serde_json::to_value(record()).unwrap();
        for identity in [
            Value::Null,
            "strange".into(),
            serde_json::json!({"kind": "youki"}),
        ] {
            text["identity"] = identity;
            write(bundle.path(), NAME, text.to_string().as_bytes()).unwrap();
            assert_eq!(RuntimeRecord::read(bundle.path()).unwrap(), Some(record()));
        }
    }

    #[test]
    fn a_record_that_makes_no_sense_is_an_error() {
        let bundle = tempfile::tempdir().unwrap();
        write(bundle.path(), NAME, b"{\"id\":").unwrap();

        RuntimeRecord::read(bundle.path()).unwrap_err();
    }
}
