//! Files that both the tree and this process have open.

use std::{collections::HashSet, os::fd::OwnedFd};

use rustix::fs::fstat;

use crate::Tree;

/// Closes those of our descriptors that are of a file which the tree has open as well, and gives
/// the others back: a pid file or a lock that a program inherited from us, say, and which it
/// could not get back on restore while we hold it.
///
/// Only what is handed over is closed, under the number that it has here. Cedana compared paths,
/// and closed the number that the file had in the *other* process here, whatever that was; it has
/// since removed this. A program that is [run](crate::Run) here inherits nothing, so that
/// there is nothing to close.
///
/// ```
/// use std::{fs::File, os::fd::OwnedFd};
/// use stasis_plain::{Tree, adapters::close_common_files};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("pid");
/// let pid_file = OwnedFd::from(File::create(path).unwrap());
/// # let nobody_has_it = Tree::read(std::process::Command::new("sleep").arg("9").spawn().unwrap().id())?;
/// let left = close_common_files(vec![pid_file], &nobody_has_it);
/// assert_eq!(left.len(), 1);
/// # rustix::process::kill_process(rustix::process::Pid::from_raw(nobody_has_it.root().pid.cast_signed()).unwrap(), rustix::process::Signal::KILL).unwrap();
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
#[must_use = "what is not common is given back, and closed when it is dropped"]
pub fn close_common_files(ours: Vec<OwnedFd>, tree: &Tree) -> Vec<OwnedFd> {
    let theirs: HashSet<(u64, u64)> = tree
        .files()
        .map(|(_, file)| (file.device, file.inode))
        .collect();
    ours.into_iter()
        .filter(|descriptor| match fstat(descriptor) {
            Ok(stat) => !theirs.contains(&(stat.st_dev, stat.st_ino)),
            // What cannot be looked at is not known to be common.
            Err(_) => true,
        })
        .collect()
}
