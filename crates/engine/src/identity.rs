//! What a runtime's binary is: its kind, its version, and the file that said so.

use std::{
    fmt,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stasis_linux::file;

/// How a compiled program begins (elf(5)).
const ELF: &[u8; 4] = b"\x7fELF";

/// The runtimes that this crate drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// gVisor's runsc.
    Runsc,
    /// Open Containers' runc.
    Runc,
    /// crun.
    Crun,
}

impl Kind {
    /// The runtime's own name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runsc => "runsc",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The runtime with that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Runsc, Self::Runc, Self::Crun]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A runtime's version, as it said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RuntimeVersion {
    raw: String,
    numbers: Option<(u64, u64)>,
}

impl RuntimeVersion {
    /// Takes the word that follows `version`.
    #[must_use]
    pub fn new(raw: &str) -> Self {
        let digits = raw.strip_prefix("release-").unwrap_or(raw);
        let mut parts = digits.split(|character: char| !character.is_ascii_digit());
        let mut next = || parts.next().and_then(|part| part.parse().ok());
        Self {
            raw: raw.to_owned(),
            numbers: next().map(|major| (major, next().unwrap_or(0))),
        }
    }

    /// The version as the runtime says it: `1.3.6+ds1`, or of runsc `release-20240729.0`,
    /// `0.0~20240729` and, where it was built as a Go module, always `VERSION_MISSING`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Its first two numbers, where it has any.
    #[must_use]
    pub fn numbers(&self) -> Option<(u64, u64)> {
        self.numbers
    }

    /// Whether the version is known and less than `MAJOR.MINOR`.
    #[must_use]
    pub fn is_before(&self, major: u64, minor: u64) -> bool {
        self.numbers.is_some_and(|numbers| numbers < (major, minor))
    }
}

impl From<String> for RuntimeVersion {
    fn from(raw: String) -> Self {
        Self::new(&raw)
    }
}

impl From<RuntimeVersion> for String {
    fn from(version: RuntimeVersion) -> Self {
        version.raw
    }
}

impl fmt::Display for RuntimeVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.raw)
    }
}

/// A binary that said what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The absolute path.
    pub binary: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Which release.
    pub version: RuntimeVersion,
    /// The file that said so. `None` where the answer is not the file's alone.
    pub(crate) stamp: Option<Stamp>,
}

impl Identity {
    /// Whether the binary is still the file that said so, and need not be asked again.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.stamp.is_some() && self.stamp == Stamp::of(&self.binary)
    }
}

/// A state of a file: one that was replaced or changed has another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// The inode's own time, which nobody can set.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the program at `path`. `None` for what cannot be read, and for a script: what
    /// it calls may change while it does not.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let mut file = file::open(path).ok()?;
        let mut beginning = [0; ELF.len()];
        file.read_exact(&mut beginning).ok()?;
        let metadata = file.metadata().ok()?;
        (beginning == *ELF).then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert!(RuntimeVersion::new("1.1.15+ds1").is_before(1, 2));
        assert!(!RuntimeVersion::new("1.10.0").is_before(1, 2));
        assert!(!RuntimeVersion::new("VERSION_MISSING").is_before(1, 2));
    }
}
