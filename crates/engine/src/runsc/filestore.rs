//! Where runsc keeps what a container changes in its root file system.
//!
//! By default it makes a file `.gvisor.filestore.ID` in the root file system itself, which then
//! goes into snapshots and images and stops the next create of that id. We place it in the task's
//! `work` directory, which containerd makes on disk and removes. The file there is unlinked as
//! soon as it is open (seen of both releases: nothing is left in the directory at any time), and
//! one that another shim left in the root file system is no obstacle.

use std::{ffi::OsString, path::Path};

use rustix::fs::statfs;

/// tmpfs and ramfs, from linux/magic.h.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// The flag for a container of `bundle`.
pub(super) fn flag(bundle: &Path) -> OsString {
    // The bundle is on a tmpfs; its `work` is a link to a directory that is not.
    let directory = bundle
        .join("work")
        .canonicalize()
        .ok()
        .filter(|directory| on_disk(directory));
    let mut flag = OsString::from("--overlay2=root:");
    match directory {
        Some(directory) => {
            flag.push("dir=");
            flag.push(directory);
        }
        // What is on a tmpfs is in memory in any case, and counts to nobody's limit there.
        None => flag.push("memory"),
    }
    flag
}

fn on_disk(directory: &Path) -> bool {
    directory.is_dir()
        && statfs(directory).is_ok_and(|statfs| !IN_MEMORY.contains(&statfs.f_type.cast_unsigned()))
}
