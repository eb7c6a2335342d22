//! CRIU's work directory, where its log and its statistics go.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::error::{Error, Result};

/// Images hold the memory of a container, and logs tell of it.
const PRIVATE: u32 = 0o700;

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkDir {
    /// The place that a request names, which is this call's alone: its client looks there for what
    /// CRIU left, as Kubernetes does for its archive.
    Requested(PathBuf),
    /// `NAMESPACE/ID`, as the bundle has it, below a place that the configuration names: it does
    /// for all containers, and CRIU's log has the same name for each of them.
    Configured(PathBuf),
    /// In the bundle.
    Bundle,
}

impl WorkDir {
    /// The one that the configuration has, for what a request does not say.
    pub fn configured(criu_work_path: Option<&Path>) -> Self {
        criu_work_path.map_or(Self::Bundle, |path| Self::Configured(path.to_owned()))
    }

    /// Makes it. `own` is the one in the bundle, which loses what the call before left.
    pub fn make(&self, own: &Path) -> Result<PathBuf> {
        let path = match self {
            Self::Requested(path) => path.clone(),
            Self::Configured(shared) => shared.join(place_of(own)),
            Self::Bundle => own.to_owned(),
        };
        let failed = |source| Error::WorkDirectory {
            work: path.clone(),
            source,
        };
        if *self == Self::Bundle {
            match fs::remove_dir_all(own) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        make(&path).map_err(failed)?;
        Ok(path)
    }
}

/// The `NAMESPACE/ID` in which our own directory is: the last names of the bundle.
fn place_of(own: &Path) -> PathBuf {
    let names = |path: &Path| path.file_name().map(PathBuf::from).unwrap_or_default();
    let bundle = own.parent().unwrap_or(own);
    names(bundle.parent().unwrap_or(bundle)).join(names(bundle))
}

/// Makes a directory with its parents; false if it was there.
pub(super) fn make(path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE)
        .create(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_do_not_share_the_directory_of_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let own = |bundle: &str| dir.path().join("tasks").join(bundle).join("criu-dump");
        let work = |bundle| {
            WorkDir::configured(Some(dir.path()))
                .make(&own(bundle))
                .unwrap()
        };
        for container in ["default/c", "default/d", "other/c"] {
            assert_eq!(work(container), dir.path().join(container));
            assert!(dir.path().join(container).is_dir());
            assert!(!own(container).exists());
        }
        fs::write(dir.path().join("default/c/dump.log"), "c's").unwrap();
        work("default/d");
        assert!(dir.path().join("default/c/dump.log").exists());
    }

    #[test]
    fn the_directory_of_a_request_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (asked, own) = (dir.path().join("asked"), dir.path().join("criu-dump"));
        fs::create_dir(&asked).unwrap();
        fs::write(asked.join("other"), "'s").unwrap();
        assert_eq!(WorkDir::Requested(asked.clone()).make(&own).unwrap(), asked);
        assert!(asked.join("other").exists() && !own.exists());
    }

    #[test]
    fn our_own_work_directory_loses_the_log_of_the_call_before() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("criu-dump");
        WorkDir::Bundle.make(&own).unwrap();
        fs::write(own.join("dump.log"), "old").unwrap();
        WorkDir::Bundle.make(&own).unwrap();
        assert!(!own.join("dump.log").exists());
    }
}
