//! The option `shim_cgroup`: a cgroup for the shim itself.
//!
//! The path is below the root of every hierarchy: of each of cgroup v1 that has it, and of v2.
//! As for containerd's runc shim it must exist; it is the administrator's, with their limits.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use stasis_linux::cgroup::{self, CgroupError};

/// Why the shim is not in its cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path leads elsewhere.
    #[error("shim_cgroup {path:?} is not a path below the root of the cgroup hierarchies")]
    Path {
        /// The path.
        path: String,
    },
    /// No hierarchy has it.
    #[error("shim_cgroup {path:?} does not exist in any cgroup hierarchy: create it first")]
    Missing {
        /// The path.
        path: String,
    },
    /// A hierarchy refuses the process.
    #[error("cannot join shim_cgroup {directory}", directory = directory.display())]
    Join {
        /// The cgroup.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The hierarchies cannot be found.
    #[error("cannot find the hierarchies to join shim_cgroup in")]
    Hierarchies(#[from] CgroupError),
}

/// Moves this process into the cgroup `path` of every hierarchy that has it.
///
/// # Errors
/// If none has it, or one refuses.
pub fn join(path: &str) -> Result<(), Error> {
    let hierarchies = cgroup::hierarchies()?;
    join_below(hierarchies.into_iter().map(|one| one.mount), path)
}

fn join_below(hierarchies: impl Iterator<Item = PathBuf>, path: &str) -> Result<(), Error> {
    let relative = Path::new(path.trim_start_matches('/'));
    let is_plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || relative.as_os_str().is_empty() {
        return Err(Error::Path {
            path: path.to_owned(),
        });
    }
    let mut joined = false;
    for directory in hierarchies
        .map(|root| root.join(relative))
        .filter(|path| path.is_dir())
    {
        // Zero is the process that writes.
        fs::write(directory.join("cgroup.procs"), "0")
            .map_err(|source| Error::Join { directory, source })?;
        joined = true;
    }
    if joined {
        Ok(())
    } else {
        Err(Error::Missing {
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_that_has_the_cgroup_is_joined() {
        let dir = tempfile::tempdir().unwrap();
        let roots = ["cpu", "memory", "pids"].map(|name| dir.path().join(name));
        for root in &roots[..2] {
            fs::create_dir_all(root.join("shims/a")).unwrap();
        }

        join_below(roots.clone().into_iter(), "/shims/a").unwrap();

        for root in &roots[..2] {
            assert_eq!(fs::read(root.join("shims/a/cgroup.procs")).unwrap(), b"0");
        }
        assert!(!roots[2].join("shims").exists());
    }

    #[test]
    fn a_cgroup_that_no_hierarchy_has_is_named() {
        let dir = tempfile::tempdir().unwrap();

        let error = join_below([dir.path().into()].into_iter(), "/shims").unwrap_err();

        assert!(matches!(&error, Error::Missing { .. }));
        assert!(error.to_string().contains("/shims"), "{error}");
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["", "/", "/a/../../b", ".."] {
            let result = join_below([dir.path().into()].into_iter(), path);
            assert!(matches!(result, Err(Error::Path { .. })), "{path}");
        }
    }
}
