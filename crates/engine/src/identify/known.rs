//! What runtimes said that they are, kept for the next shim: there is one for each container, and
//! each would start the binary once more to ask it.
//!
//! A small file for each path, in a directory that only root can read or write. What is not
//! there, belongs to somebody else, cannot be read or speaks of another file than the binary is
//! now counts as nothing, and the binary is asked again.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use stasis_linux::file::{self, Directory};

use crate::identity::{Identity, Stamp};

/// Where the files are. `/run` is root's, and empty after a boot.
const DIRECTORY: &str = "/run/stasis";

/// The longest path and version, several times.
const CAP: u64 = 16 << 10;

/// What binaries said.
#[derive(Debug)]
pub(super) struct Known {
    directory: PathBuf,
}

impl Default for Known {
    fn default() -> Self {
        Self::at(DIRECTORY)
    }
}

impl Known {
    pub(super) fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// What the binary at `path` said when it was the file that it is now.
    pub(super) fn recall(&self, path: &Path, now: &Stamp) -> Option<Identity> {
        self.check().ok()?;
        let name = Self::file(path);
        let file = Directory::from(&*self.directory)
            .open(Path::new(&name))
            .ok()?;
        is_ours(&file.metadata().ok()?).then_some(())?;
        let text = file::whole(file, CAP).ok()?;
        let identity: Identity = serde_json::from_slice(&text).ok()?;
        (identity.binary == path && identity.stamp.as_ref() == Some(now)).then_some(identity)
    }

    /// Keeps what a binary said.
    pub(super) fn keep(&self, identity: &Identity) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => self.check()?,
        }
        let path = self.directory.join(Self::file(&identity.binary));
        file::replace(&path, &serde_json::to_vec(identity)?, 0o600, false)
    }

    fn file(path: &Path) -> String {
        let digest = Sha256::digest(path.as_os_str().as_bytes());
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        name + ".json"
    }

    /// Whether nobody but us can have put something into the directory.
    fn check(&self) -> io::Result<()> {
        let metadata = fs::symlink_metadata(&self.directory)?;
        if metadata.is_dir() && is_ours(&metadata) {
            return Ok(());
        }
        let why = "it is not a directory that belongs to us alone";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0
}
