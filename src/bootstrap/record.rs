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

use serde::{Deserialize, Serialize};

use super::bundle;

const NAME: &str = "runtime.json";

/// The most that is read. The flags of a long `runsc_config` take some kilobytes.
const MAX: u64 = 1 << 20;

/// How the container's runtime is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// The container.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The runtime binary, as configured.
    pub binary: String,
    /// The runtime's root, with the namespace.
    pub root: PathBuf,
    /// Flags for every call of runsc.
    pub runsc_config: BTreeMap<String, String>,
    /// Whether cgroups are left to systemd.
    pub systemd_cgroup: bool,
}

impl RuntimeRecord {
    /// Writes the record into `bundle`, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, bundle: &Path) -> io::Result<()> {
        bundle::write(bundle, NAME, &serde_json::to_vec(self)?)
    }

    /// Reads the record of `bundle`; `None` if there is none.
    ///
    /// # Errors
    /// If the file cannot be read, is too long, or is no record.
    pub fn read(bundle: &Path) -> io::Result<Option<Self>> {
        match bundle::read(bundle, NAME, MAX)? {
            Some(text) => Ok(Some(serde_json::from_str(&text)?)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RuntimeRecord {
        RuntimeRecord {
            id: "c".to_owned(),
            namespace: "default".to_owned(),
            binary: "runsc".to_owned(),
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
    fn a_record_that_makes_no_sense_is_an_error() {
        let bundle = tempfile::tempdir().unwrap();
        bundle::write(bundle.path(), NAME, b"{\"id\":").unwrap();

        assert!(RuntimeRecord::read(bundle.path()).is_err());
    }
}
