//! The files that CRIU writes into its directories.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
    sync::Arc,
};

use rustix::fs::{AtFlags, Dir};
use stasis_linux::file::{self, Directory};

use super::leftover::Leftover;

/// Names that CRIU gives to what is no image (`criu/include/image-desc.h`, `criu/stats.c`,
/// `criu/irmap.c`, CRIU 4.2): statistics, a cache, the link to the parent's images, the socket of
/// lazy pages.
const NAMES: &[&str] = &[
    "stats-dump",
    "stats-restore",
    "irmap-cache",
    "parent",
    "lazy-pages.socket",
];
/// What the names of images end in.
const IMAGE: &[u8] = b".img";
/// The name of CRIU's run is among the first lines of its log.
const HEAD: u64 = 16 << 10;

/// A call's directories as they were before it.
#[derive(Debug)]
pub(crate) struct CreatedFiles {
    directories: Vec<(Arc<OwnedFd>, HashSet<OsString>)>,
    log: OsString,
}

impl CreatedFiles {
    /// Looks at `directories`, which are open. `log` is the name of the log that CRIU will write.
    pub fn look(directories: &[Arc<OwnedFd>], log: impl Into<OsString>) -> io::Result<Self> {
        let directories = directories
            .iter()
            .map(|directory| Ok((Arc::clone(directory), names(directory)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            directories,
            log: log.into(),
        })
    }

    /// What CRIU called its run, by which its nftables are named: in its log.
    pub fn run(&self) -> Option<String> {
        let name = Path::new(&self.log);
        let mut directories = self.directories.iter().rev();
        let log = directories
            .find_map(|(directory, _)| Directory::Descriptor(directory.as_fd()).open(name).ok())?;
        let head = file::head(log, HEAD).ok()?;
        let head = String::from_utf8_lossy(&head);
        let (_, run) = head.split_once("CRIU run id = ")?;
        let run = run.lines().next()?.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (!run.is_empty() && run.bytes().all(plain)).then(|| String::from(run))
    }

    /// Is there no room left in one of the directories?
    pub fn disk_is_full(&self) -> bool {
        let mut directories = self.directories.iter();
        directories.any(|(directory, _)| file::is_full(directory))
    }

    /// Removes what CRIU has written since, the log only if it is not to be kept.
    pub fn remove(self, keep_log: bool) -> Vec<Leftover> {
        let mut left = Vec::new();
        for (directory, before) in &self.directories {
            let now = names(directory).unwrap_or_default();
            let written = now.difference(before).filter(|name| {
                let log = **name == self.log;
                is_criu(name) || (log && !keep_log)
            });
            for name in written {
                if rustix::fs::unlinkat(directory, name.as_os_str(), AtFlags::empty()).is_err() {
                    let path = file::path_of(directory.as_fd()).join(name);
                    left.push(Leftover::File { path });
                }
            }
        }
        left
    }
}

fn is_criu(name: &OsStr) -> bool {
    name.as_bytes().ends_with(IMAGE) || NAMES.iter().any(|known| name == *known)
}

fn names(directory: &impl AsFd) -> io::Result<HashSet<OsString>> {
    Dir::read_from(directory)?
        .map(|entry| Ok(OsString::from_vec(entry?.file_name().to_bytes().to_vec())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    fn open(path: &std::path::Path) -> Arc<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Arc::new(rustix::fs::open(path, flags, Mode::empty()).unwrap())
    }

    fn listed(path: &std::path::Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_criu_has_written_goes_and_all_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("old.img"), "").unwrap();
        let written = CreatedFiles::look(&[open(path)], "dump.log").unwrap();
        for name in ["new.img", "stats-dump", "dump.log", "notes.txt"] {
            fs::write(path.join(name), "").unwrap();
        }
        assert_eq!(written.remove(true), []);
        assert_eq!(listed(path), ["dump.log", "notes.txt", "old.img"]);
    }

    #[test]
    fn what_cannot_be_removed_is_named_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let written = CreatedFiles::look(&[open(directory.path())], "dump.log").unwrap();
        // It is no file.
        let path = directory.path().canonicalize().unwrap().join("new.img");
        fs::create_dir(&path).unwrap();
        assert_eq!(written.remove(true), [Leftover::File { path }]);
    }

    #[test]
    fn the_log_goes_where_there_is_nothing_to_tell() {
        let directory = tempfile::tempdir().unwrap();
        let written = CreatedFiles::look(&[open(directory.path())], "dump.log").unwrap();
        fs::write(directory.path().join("dump.log"), "").unwrap();
        assert_eq!(written.remove(false), []);
        assert_eq!(listed(directory.path()), [""; 0]);
    }
}
