//! The mounts that CRIU leaves where it was killed in the middle of a restore.
//!
//! Seen of 4.1.1 and 4.2.1: the cgroup hierarchies below its work directory
//! (`.criu.cgyard.XXXXXX`), and a tmpfs for the new mount namespace in `/tmp`
//! (`.criu.mntns.XXXXXX`), whose name only its log tells. What else it makes under a name is on a
//! kernel before 5.2 (`/tmp/crtools-proc.XXXXXX`) or in the mount namespace that ends with it.
//!
//! We are in the host's mount namespace, and the work directory may be a file system of its own or
//! hold some: only what bears a name of CRIU's is detached.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use stasis_linux::{file, mountinfo::detach_below};

use crate::error::Result;

/// CRIU's log of a restore in its work directory, as both runtimes have it.
pub(crate) const RESTORE_LOG: &str = "restore.log";

const IN_WORK: &str = ".criu.cgyard.";
const IN_TMP: &str = "/tmp/.criu.mntns.";
/// What mkdtemp(3) puts in place of `XXXXXX`.
const SUFFIX: usize = 6;
/// The name is in the log before the first process is made.
const LOG_CAP: u64 = 1 << 20;

/// Unmounts and removes what a killed restore with this work directory left.
pub(crate) fn remove(work: &Path) -> Result<()> {
    // Mounts are told by paths without links. Where there is no such directory nothing was left.
    if let Ok(work) = work.canonicalize() {
        for entry in fs::read_dir(&work).into_iter().flatten().flatten() {
            if is_yard(&entry.file_name()) {
                detach_below(&entry.path())?;
                remove_empty(&entry.path());
            }
        }
    }
    if let Some(namespace) = mount_namespace(&work.join(RESTORE_LOG)) {
        detach_below(&namespace)?;
        remove_empty(&namespace);
    }
    Ok(())
}

fn is_yard(name: &OsStr) -> bool {
    let suffix = name.to_str().and_then(|name| name.strip_prefix(IN_WORK));
    suffix.is_some_and(|suffix| suffix.len() == SUFFIX && is_random(suffix))
}

/// Whether it has the characters that mkdtemp(3) takes.
fn is_random(suffix: &str) -> bool {
    suffix.chars().all(|one| one.is_ascii_alphanumeric())
}

fn remove_empty(directory: &Path) {
    if let Err(error) = fs::remove_dir(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove CRIU's {}: {error}", directory.display());
    }
}

fn mount_namespace(log: &Path) -> Option<PathBuf> {
    let bytes = file::head(file::open(log).ok()?, LOG_CAP).ok()?;
    mount_namespace_in(&String::from_utf8_lossy(&bytes))
}

fn mount_namespace_in(log: &str) -> Option<PathBuf> {
    let (_, rest) = log
        .lines()
        .filter(|line| line.contains("mnt: "))
        .find_map(|line| line.split_once(IN_TMP))?;
    let suffix = rest.get(..SUFFIX)?;
    let whole = rest[SUFFIX..].chars().next().is_none_or(|next| next == '/');
    // A name of this form and no other, since the paths in a log are the image's, too.
    (whole && is_random(suffix)).then(|| PathBuf::from(format!("{IN_TMP}{suffix}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_where_the_mount_namespace_was_made() {
        let log = "(00.0014) Parsing config file /tmp/x\n\
            (00.001485) mnt: \t\tWill mount 135 @ /tmp/.criu.mntns.p6vx2l/mnt-0000000135 /sys/firmware\n";
        assert_eq!(
            mount_namespace_in(log),
            Some(PathBuf::from("/tmp/.criu.mntns.p6vx2l"))
        );
        for other in [
            "",
            "(0) mnt: /tmp/.criu.mntns.p6",
            "(0) mnt: /tmp/.criu.mntns.p6vx2/x",
            "(0) mnt: /tmp/.criu.mntns.../../x",
        ] {
            assert_eq!(mount_namespace_in(other), None, "{other}");
        }
    }

    #[test]
    fn only_names_of_crius_are_taken_for_crius() {
        let work = tempfile::tempdir().expect("a directory");
        let ours = [".criu.cgyard.aB3dE6", ".criu.cgyard.000000"];
        let others = [
            ".criu.cgyard.",
            ".criu.cgyard.aB3dE6x",
            ".criu.cgyard.aB-dE6",
            "cgyard",
        ];
        for name in ours.iter().chain(&others) {
            fs::create_dir(work.path().join(name)).expect("made");
        }
        remove(work.path()).expect("removes them");
        for name in ours {
            assert!(!work.path().join(name).exists(), "{name}");
        }
        for name in others {
            assert!(work.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn nothing_left_is_nothing_to_do() {
        let work = tempfile::tempdir().expect("a directory");
        remove(work.path()).expect("does nothing");
        remove(Path::new("/no/such/directory")).expect("does nothing");
    }
}
