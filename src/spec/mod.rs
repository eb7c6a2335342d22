//! The bundle's `config.json`: read, asked and written as JSON values.
//!
//! Never through typed structures: a typed round trip drops the fields that the types do not
//! know, and a newer spec would lose part of what its author asked for.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use stasis_linux::file;
use stasis_proc::ErrorKind;

/// The name of the spec in a bundle (OCI runtime specification, bundle.md).
const FILE: &str = "config.json";

/// The largest spec that is read. Kubernetes' largest are some hundred KiB.
const MAX_SIZE: u64 = 16 << 20;

/// Why a bundle's spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or cannot be read.
    #[error("cannot read {path} of the bundle", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// The file is larger than any spec.
    #[error("{path} is larger than {MAX_SIZE} bytes: this is no OCI spec", path = .0.display())]
    TooLarge(PathBuf),
    /// The file is not JSON.
    #[error("{path} is not valid JSON", path = .0.display())]
    Parse(PathBuf, #[source] serde_json::Error),
    /// The edited file cannot be written.
    #[error("cannot write {path}", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
}

impl Error {
    /// What kind of answer this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(_, source) if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::TooLarge(_) | Self::Parse(..) => ErrorKind::InvalidArgument,
            Self::Read(..) | Self::Write(..) => ErrorKind::Unknown,
        }
    }
}

/// Reads the spec of a bundle.
///
/// # Errors
/// If there is none, or it is not JSON.
pub fn read(bundle: &Path) -> Result<Value, Error> {
    let path = bundle.join(FILE);
    let text = match file::read(&path, MAX_SIZE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(Error::TooLarge(path));
        }
        Err(source) => return Err(Error::Read(path, source)),
    };
    serde_json::from_slice(&text).map_err(|source| Error::Parse(path, source))
}

/// Replaces the spec of a bundle: written aside and renamed, so that a runtime never sees half.
///
/// # Errors
/// If the bundle cannot be written.
pub fn write(bundle: &Path, spec: &Value) -> Result<(), Error> {
    let path = bundle.join(FILE);
    let text = spec.to_string();
    file::replace(&path, text.as_bytes(), 0o644, false).map_err(|source| Error::Write(path, source))
}

/// Whether the container has a PID namespace of its own, so that the kernel ends all its
/// processes when init ends. A namespace with a path is somebody else's.
pub fn has_private_pid_namespace(spec: &Value) -> bool {
    spec.pointer("/linux/namespaces")
        .and_then(Value::as_array)
        .is_some_and(|namespaces| {
            namespaces.iter().any(|namespace| {
                namespace["type"] == "pid"
                    && namespace["path"].as_str().unwrap_or_default().is_empty()
            })
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_bundle_without_a_spec_names_the_file() {
        let bundle = tempfile::tempdir().unwrap();
        let error = read(bundle.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("config.json"), "{error}");
    }

    #[test]
    fn fields_that_nobody_knows_survive_an_edit_in_their_order() {
        let bundle = tempfile::tempdir().unwrap();
        let text = r#"{"zeta":{"new":[1.5,null]},"alpha":1,"linux":{"future":true}}"#;
        fs::write(bundle.path().join(FILE), text).unwrap();
        let spec = read(bundle.path()).unwrap();
        write(bundle.path(), &spec).unwrap();
        assert_eq!(fs::read_to_string(bundle.path().join(FILE)).unwrap(), text);
    }

    #[test]
    fn a_pid_namespace_with_a_path_is_not_private() {
        let namespaces = |list: Value| json!({"linux": {"namespaces": list}});
        assert!(has_private_pid_namespace(&namespaces(
            json!([{"type": "pid"}])
        )));
        assert!(!has_private_pid_namespace(&namespaces(
            json!([{"type": "pid", "path": "/proc/1/ns/pid"}])
        )));
        assert!(!has_private_pid_namespace(&namespaces(
            json!([{"type": "mount"}])
        )));
        assert!(!has_private_pid_namespace(&json!({})));
    }
}
