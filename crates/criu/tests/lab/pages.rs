//! Page servers and lazy pages with the real CRIU, and the other ends of their connections: there,
//! not there, killed and silent.
//!
//! The lab's network is its own (`--private-network`), with nothing but a loopback device.

mod lazy;
mod server;
mod tls;

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    net::{Ipv4Addr, SocketAddr},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags},
};
use stasis_criu::{Error, KnownCause, Options};
use tempfile::TempDir;

use crate::{
    exerciser,
    victim::{self, Victim},
};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A free port of the loopback.
fn any_port() -> SocketAddr {
    (LOOPBACK, 0).into()
}

/// Two directories: of a dump and of its page server, or of a restore's images and its work.
struct Directories {
    images: PathBuf,
    other: PathBuf,
    _both: TempDir,
}

impl Directories {
    fn new() -> Self {
        let both = tempfile::tempdir().unwrap();
        let of = |name| {
            let path = both.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        Self {
            images: of("images"),
            other: of("other"),
            _both: both,
        }
    }

    /// Brings the images to the pages, as to another machine. None is there twice.
    fn unite(&self) {
        for name in names(&self.images) {
            let to = self.other.join(&name);
            assert!(
                !name.ends_with(".img") || !to.exists(),
                "{name} is there twice"
            );
            fs::rename(self.images.join(&name), to).unwrap();
        }
    }
}

/// The tree of a victim, and its memory.
struct Before {
    tree: Vec<u32>,
    memory: u64,
}

impl Before {
    fn of(victim: &Victim) -> Self {
        Self {
            tree: victim.tree(),
            memory: memory(victim.pid(), 64),
        }
    }

    /// It comes back from the two directories as it was.
    async fn comes_back(self, victim: &mut Victim, directories: &Directories) {
        directories.unite();
        let options = victim::options(&directories.other);
        victim::criu().restore(&options).await.unwrap();
        victim.is_well(&self.tree);
        assert_eq!(memory(victim.pid(), 64), self.memory);
    }
}

/// What is in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// A process to dump, and how everything was before.
struct Subject {
    victim: Victim,
    tree: Vec<u32>,
    with_tcp: bool,
    rules: String,
    children: Vec<u32>,
    descriptors: usize,
}

impl Subject {
    /// One of 64 MiB and two more threads, with a connection where this CRIU can dump one.
    async fn start() -> Self {
        let with_tcp = victim::criu().is_at_least(4, 2).await.unwrap();
        victim::forget_rules();
        let arguments = ["--memory", "64", "--threads", "2", "--children", "1"];
        let victim = match with_tcp {
            true => Victim::connected(&arguments),
            false => Victim::start(&arguments),
        };
        Self {
            tree: victim.tree(),
            victim,
            with_tcp,
            rules: victim::rules(),
            children: victim::children(),
            descriptors: victim::descriptors(),
        }
    }

    fn dump_to(&self, images: &Path) -> Options {
        victim::options(images)
            .pid(self.victim.pid())
            .tcp_established(self.with_tcp)
    }

    /// It runs on, and nothing of the dump's is left in it or around it.
    fn runs_as_before(&mut self) {
        self.victim.is_well(&self.tree);
        assert_eq!(victim::rules(), self.rules);
        assert_eq!(victim::children(), self.children);
        assert_eq!(victim::descriptors(), self.descriptors);
    }
}

/// The known cause of what CRIU could not do.
fn cause(error: &Error) -> Option<KnownCause> {
    match error {
        Error::Failed { diagnosis, .. } | Error::NoReply { diagnosis, .. } => diagnosis.known,
        other => panic!("{other:?}"),
    }
}

/// Waits for the end of a tree that was dumped, so that its ids are free. Its root is a child of this
/// process.
fn reap(tree: &[u32]) {
    let root = Pid::from_raw(tree[0].cast_signed());
    rustix::process::waitpid(root, rustix::process::WaitOptions::empty()).unwrap();
    exerciser::await_end(tree);
}

/// A process that ends soon, held so that its end can be awaited whoever reaps it.
struct Ending(OwnedFd);

impl Ending {
    fn of(pid: Pid) -> Self {
        Self(rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    fn wait(self) {
        let patience = Timespec::try_from(victim::PATIENCE).unwrap();
        let mut poll = [PollFd::new(&self.0, PollFlags::IN)];
        let ended = rustix::event::poll(&mut poll, Some(&patience)).unwrap();
        assert_eq!(ended, 1, "it goes on");
    }
}

/// The largest piece of a process's memory, `mib` at least, hashed.
fn memory(pid: u32, mib: u64) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let pieces = maps.lines().map(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let of = |hex| u64::from_str_radix(hex, 16).unwrap();
        of(start)..of(end)
    });
    let piece = pieces.max_by_key(|piece| piece.end - piece.start).unwrap();
    assert!(piece.end - piece.start >= mib << 20, "{piece:x?}");
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut hasher = DefaultHasher::new();
    let mut page = [0; 4096];
    for at in piece.step_by(page.len()) {
        memory.read_exact_at(&mut page, at).unwrap();
        hasher.write(&page);
    }
    hasher.finish()
}
