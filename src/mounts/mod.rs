//! The mounts that containerd hands over with Create, and taking them away again.
//!
//! Contract: [`RootfsMounts::mount`] mounts all or nothing; what it returns takes the mounts away
//! when dropped, until [`RootfsMounts::keep`] is called. [`unmount`] detaches whatever is mounted
//! at or below a directory, and is content if that is nothing. Both block, as mount(2) does.
//!
//! The options and their flags are those of fstab that containerd's own `mount` package takes
//! (`core/mount/mount_linux.go`). What that package or containerd's mount manager does beyond
//! mount(2) (loop devices, formatting, id-mapped mounts, templates) is refused by name, since the
//! kernel would ignore or misread it. containerd-shim 0.12 has these mounts too, but to shorten
//! an overlay's options it changes the directory of a pooled thread and leaves it so.

mod error;
mod options;

use std::{
    io,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, umount2},
    sched::{CloneFlags, unshare},
};
use stasis_linux::mountinfo;
use tracing::warn;

pub use self::error::Error;
use self::options::{MAX_DATA, Options};

/// A mount as containerd asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountRequest {
    /// The type of the file system, or "bind".
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where it goes inside the rootfs: nowhere but to its root.
    pub target: String,
    /// As in fstab.
    pub options: Vec<String>,
}

/// The mounted rootfs of a container that is being created. Dropping it unmounts.
#[derive(Debug)]
#[must_use = "dropping it unmounts the rootfs"]
pub struct RootfsMounts {
    /// `None` when there is nothing to take away.
    target: Option<PathBuf>,
}

impl RootfsMounts {
    /// Mounts `mounts` on `target`, one upon the other, in their order.
    ///
    /// # Errors
    /// If one is refused; those before it are gone again.
    pub fn mount(mounts: &[MountRequest], target: &Path) -> Result<Self, Error> {
        // All are looked at before the first is made.
        let plans = mounts
            .iter()
            .map(PlannedMount::new)
            .collect::<Result<Vec<_>, _>>()?;
        let mut mounted = Self { target: None };
        for plan in plans {
            plan.mount(target)?;
            mounted.target = Some(target.to_owned());
        }
        Ok(mounted)
    }

    /// Leaves the mounts where they are: from now on the container's delete takes them away.
    pub fn keep(mut self) {
        self.target = None;
    }
}

impl Drop for RootfsMounts {
    fn drop(&mut self) {
        if let Some(target) = &self.target
            && let Err(error) = unmount(target)
        {
            warn!(
                error = &error as &dyn std::error::Error,
                "a rootfs stays mounted"
            );
        }
    }
}

/// Detaches every mount at `target` and below it. What a process still uses stays for it alone.
///
/// # Errors
/// If the system refuses, for another reason than that nothing is mounted there.
pub fn unmount(target: &Path) -> Result<(), Error> {
    Ok(mountinfo::detach_below(target)?)
}

/// One mount, as it will be made.
struct PlannedMount {
    /// How errors call it.
    name: String,
    kind: String,
    source: String,
    options: Options,
    /// Where overlay's lower directories are relative to, if they had to be shortened.
    directory: Option<PathBuf>,
}

impl PlannedMount {
    fn new(mount: &MountRequest) -> Result<Self, Error> {
        let name = format!("{} (type {})", mount.source, mount.kind);
        let unsupported = |what| Error::Unsupported {
            mount: name.clone(),
            what,
        };
        if let Some(what) = foreign(mount) {
            return Err(unsupported(what));
        }
        let mut options = Options::parse(&mount.options).map_err(unsupported)?;
        let directory = if mount.kind == "overlay" && options.data.len() > MAX_DATA {
            options.shorten_lowerdir()
        } else {
            None
        };
        if options.data.len() > MAX_DATA {
            return Err(Error::TooLong {
                mount: name,
                length: options.data.len(),
            });
        }
        let (kind, source) = (mount.kind.clone(), mount.source.clone());
        Ok(Self {
            name,
            kind,
            source,
            options,
            directory,
        })
    }

    fn mount(&self, target: &Path) -> Result<(), Error> {
        let result = match &self.directory {
            None => self.mount_here(target),
            Some(directory) => self.mount_from(directory, target),
        };
        result.map_err(|source| Error::Mount {
            mount: self.name.clone(),
            target: target.to_owned(),
            source,
        })
    }

    fn mount_here(&self, target: &Path) -> io::Result<()> {
        let flags = self.options.flags;
        let data = (!self.options.data.is_empty()).then_some(self.options.data.as_str());
        let (source, kind) = (Some(self.source.as_str()), Some(self.kind.as_str()));
        nix::mount::mount(source, target, kind, flags, data)?;
        // The kernel ignores every other flag of a new bind mount; a second call sets them.
        if flags.contains(MsFlags::MS_BIND) && flags.intersects(options::PER_MOUNT) {
            let remount = MsFlags::MS_REMOUNT | (flags - MsFlags::MS_REC);
            nix::mount::mount(None::<&str>, target, None::<&str>, remount, None::<&str>)
                .inspect_err(|_| {
                    // The error that is told is that of the mount.
                    let _ = umount2(target, MntFlags::MNT_DETACH);
                })?;
        }
        Ok(())
    }

    /// Mounts with `directory` as the working directory, in a thread that ends with it: a
    /// directory of its own is what a thread cannot give back.
    fn mount_from(&self, directory: &Path, target: &Path) -> io::Result<()> {
        let target = std::path::absolute(target)?;
        thread::scope(|scope| {
            let mounter = thread::Builder::new()
                .name("rootfs-mount".to_owned())
                .spawn_scoped(scope, || {
                    unshare(CloneFlags::CLONE_FS)?;
                    std::env::set_current_dir(directory)?;
                    self.mount_here(&target)
                })?;
            mounter
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
        })
    }
}

/// What about a mount is not for mount(2) to do.
fn foreign(mount: &MountRequest) -> Option<String> {
    let MountRequest {
        kind,
        source,
        target,
        options,
    } = mount;
    if kind.contains('/') {
        return Some(format!("type {kind:?} is for containerd's mount manager"));
    }
    if !matches!(target.as_str(), "" | "/") {
        return Some(format!("it goes to {target:?} inside the rootfs"));
    }
    std::iter::once(source)
        .chain(options)
        .find(|text| text.contains("{{"))
        .map(|text| format!("{text:?} is a template for containerd's mount manager"))
}

#[cfg(test)]
mod tests;
