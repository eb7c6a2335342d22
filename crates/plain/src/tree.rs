//! A tree of processes: a process, all that descend from it, and what they hold.
//!
//! One pass over `/proc` gives every process's parent, and from those the tree grows, breadth
//! first. It is a snapshot of something that moves: what exits meanwhile is left out, and a child
//! born behind the pass is missed. Read again when CRIU has frozen the tree (the hook
//! `query-ext-files`), it is exact.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
};

use stasis_linux::{
    mountinfo::Mount,
    procfs::{self, Entry, IO_URING, Ids, InternetSocket, OpenFile, Stat, UnixSocket},
};

use super::{ProcessError, unix_peers};

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// It runs, sleeps, or waits for a disk: it goes on by itself.
    Running,
    /// It was stopped by a signal or a debugger.
    Stopped,
    /// It has exited, and its parent has not taken its status yet.
    Zombie,
}

impl TaskState {
    pub(super) fn of(letter: u8) -> Self {
        match letter {
            b'T' | b't' => Self::Stopped,
            b'Z' | b'X' => Self::Zombie,
            _ => Self::Running,
        }
    }
}

/// The namespaces that matter to what is in a tree, by inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Namespaces {
    /// Its mounts.
    pub mount: u64,
    /// Its network.
    pub network: u64,
    /// Its processes.
    pub pid: u64,
}

impl Namespaces {
    /// Those of this process.
    pub(super) fn ours() -> Result<Self, procfs::Error> {
        Self::of(&Entry::open(std::process::id())?)
    }

    fn of(entry: &Entry) -> Result<Self, procfs::Error> {
        Ok(Self {
            mount: entry.namespace("mnt")?,
            network: entry.namespace("net")?,
            pid: entry.namespace("pid")?,
        })
    }
}

/// One process of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number, as this `/proc` counts.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session: the number of the leader, zero for one that no namespace of ours has.
    pub session: u32,
    /// The device of its controlling terminal, as `stat` packs it, zero for none.
    pub terminal: u32,
    /// The letter that `ps` shows: R, S, D, T, t, Z, I ...
    pub letter: u8,
    /// When it started, in hundredths of a second since the machine did: with the number, this
    /// names one process and no other.
    pub started: u64,
    /// Its command line, the words separated by spaces.
    pub command_line: String,
    /// Where it works.
    pub working_directory: PathBuf,
    /// Whom it runs as.
    pub ids: Ids,
    /// Its namespaces; a zombie has none any more.
    pub namespaces: Option<Namespaces>,
    /// What it has open.
    pub files: Vec<OpenFile>,
    /// Is an instance of io_uring mapped into its memory?
    pub maps_io_uring: bool,
}

impl Process {
    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> TaskState {
        TaskState::of(self.letter)
    }

    fn read(entry: &Entry, stat: &Stat) -> Result<Self, procfs::Error> {
        let zombie = TaskState::of(stat.state) == TaskState::Zombie;
        let mut process = Self {
            pid: stat.pid,
            parent: stat.parent,
            group: stat.group,
            session: stat.session,
            terminal: stat.terminal,
            letter: stat.state,
            started: stat.started,
            command_line: entry.command_line()?,
            working_directory: PathBuf::new(),
            ids: entry.status()?.ids,
            namespaces: None,
            files: Vec::new(),
            maps_io_uring: false,
        };
        if !zombie {
            process.working_directory = entry.working_directory()?;
            process.namespaces = Some(Namespaces::of(entry)?);
            process.files = entry.open_files()?;
            process.maps_io_uring = entry.maps(IO_URING)?;
        }
        Ok(process)
    }
}

/// A process and all that descend from it.
///
/// ```
/// use stasis_plain::Tree;
///
/// let tree = Tree::read(std::process::id())?;
/// assert_eq!(tree.root().pid, std::process::id());
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Never empty: the root is the first.
    processes: Vec<Process>,
    mounts: BTreeMap<u64, Vec<Mount>>,
    internet_sockets: HashMap<u64, InternetSocket>,
    unix_sockets: HashMap<u64, UnixSocket>,
    unix_peers: HashMap<u64, u64>,
    /// The names of those peers that are not in the tree.
    unix_names: HashMap<u64, PathBuf>,
}

impl Tree {
    /// Reads the tree under `pid` as it is now. It takes system calls by the descriptor; a caller
    /// with a runtime to keep going gives it a thread.
    ///
    /// # Errors
    /// If there is no such process, or `/proc` may not be read.
    pub fn read(pid: u32) -> Result<Self, ProcessError> {
        let entry = Entry::open(pid)?;
        let stat = entry.stat()?;
        let root = entry.while_it_lives(|entry| Process::read(entry, &stat))?;
        let mut tree = Self {
            processes: vec![root],
            mounts: BTreeMap::new(),
            internet_sockets: HashMap::new(),
            unix_sockets: HashMap::new(),
            unix_peers: HashMap::new(),
            unix_names: HashMap::new(),
        };
        tree.grow(&entry)?;
        tree.look_around()?;
        Ok(tree)
    }

    /// The process that the tree grows from.
    #[must_use]
    pub fn root(&self) -> &Process {
        // Made with a root, and nothing is ever taken out.
        &self.processes[0]
    }

    /// Every process, parents before their children.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The children of a process in the tree.
    pub fn children_of(&self, pid: u32) -> impl Iterator<Item = &Process> {
        // Not the root, whose parent may have the number of one of its descendants in no world.
        self.processes
            .iter()
            .skip(1)
            .filter(move |process| process.parent == pid)
    }

    /// Is a process of this number in the tree?
    #[must_use]
    pub fn contains(&self, pid: u32) -> bool {
        self.processes.iter().any(|process| process.pid == pid)
    }

    /// Every open file, with its process.
    pub fn files(&self) -> impl Iterator<Item = (&Process, &OpenFile)> {
        self.processes
            .iter()
            .flat_map(|process| process.files.iter().map(move |file| (process, file)))
    }

    /// The mounts that a process sees.
    #[must_use]
    pub fn mounts_of(&self, process: &Process) -> &[Mount] {
        process
            .namespaces
            .and_then(|namespaces| self.mounts.get(&namespaces.mount))
            .map_or(&[], Vec::as_slice)
    }

    /// Is this the number of a mount in any mount namespace of the tree?
    #[must_use]
    pub fn has_mount(&self, id: u32) -> bool {
        self.mounts.values().flatten().any(|mount| mount.id == id)
    }

    /// The socket of TCP or UDP with this inode, if the tree holds it.
    #[must_use]
    pub fn internet_socket(&self, inode: u64) -> Option<&InternetSocket> {
        self.internet_sockets.get(&inode)
    }

    /// The Unix socket with this inode, if the tree holds it.
    #[must_use]
    pub fn unix_socket(&self, inode: u64) -> Option<&UnixSocket> {
        self.unix_sockets.get(&inode)
    }

    /// The inode of the socket that a Unix socket of the tree is connected to.
    #[must_use]
    pub fn unix_peer(&self, inode: u64) -> Option<u64> {
        self.unix_peers.get(&inode).copied()
    }

    /// The name of the socket outside that a Unix socket of the tree is connected to, if it has one.
    #[must_use]
    pub fn unix_peer_name(&self, inode: u64) -> Option<&Path> {
        let name = self.unix_names.get(&self.unix_peer(inode)?)?;
        Some(name)
    }

    fn grow(&mut self, root: &Entry) -> Result<(), procfs::Error> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in procfs::all()? {
            match Entry::open(pid).and_then(|entry| entry.stat()) {
                Ok(stat) => children.entry(stat.parent).or_default().push(pid),
                Err(procfs::Error::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut waiting = VecDeque::from([root.pid()]);
        while let Some(parent) = waiting.pop_front() {
            for pid in children.remove(&parent).unwrap_or_default() {
                match Self::child(pid, parent) {
                    Ok(Some(child)) => {
                        self.processes.push(child);
                        waiting.push_back(pid);
                    }
                    Ok(None) | Err(procfs::Error::Gone { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Reads a process if it is still what the pass over `/proc` took it for.
    fn child(pid: u32, parent: u32) -> Result<Option<Process>, procfs::Error> {
        let entry = Entry::open(pid)?;
        let stat = entry.stat()?;
        if stat.parent != parent {
            // The number is another's by now, or its parent died and it was given to a reaper.
            return Ok(None);
        }
        entry
            .while_it_lives(|entry| Process::read(entry, &stat))
            .map(Some)
    }

    /// Reads what belongs to namespaces: mounts and sockets, once for each.
    fn look_around(&mut self) -> Result<(), procfs::Error> {
        let of = |process: &Process| process.namespaces;
        let all = || self.processes.iter().filter_map(of);
        let mounts: BTreeSet<_> = all().map(|all| all.mount).collect();
        let networks: BTreeSet<_> = all().map(|all| all.network).collect();
        for namespace in mounts {
            let here = |process: &&Process| of(process).is_some_and(|all| all.mount == namespace);
            let mounts = self.in_one_of(here, Entry::mounts)?;
            self.mounts.extend(mounts.map(|mounts| (namespace, mounts)));
        }
        let inodes: HashSet<u64> = self
            .files()
            .filter(|(_, file)| file.kind == procfs::FileKind::Socket)
            .map(|(_, file)| file.inode)
            .collect();
        if inodes.is_empty() {
            return Ok(());
        }
        let ours = Namespaces::ours()?.network;
        for namespace in networks {
            let here = |process: &&Process| of(process).is_some_and(|all| all.network == namespace);
            let read = |entry: &Entry| Network::read(entry, namespace != ours, &inodes);
            let Some(network) = self.in_one_of(here, read)? else {
                continue;
            };
            let of_inode = |socket: InternetSocket| (socket.inode, socket);
            self.internet_sockets
                .extend(network.internet.into_iter().map(of_inode));
            let of_inode = |socket: UnixSocket| (socket.inode, socket);
            self.unix_sockets
                .extend(network.unix.into_iter().map(of_inode));
            self.unix_peers.extend(network.peers);
            self.unix_names.extend(network.names);
        }
        Ok(())
    }

    /// What `read` gives of the first of the processes that `wanted` picks which does not end
    /// meanwhile.
    fn in_one_of<T>(
        &self,
        wanted: impl FnMut(&&Process) -> bool,
        read: impl Fn(&Entry) -> Result<T, procfs::Error>,
    ) -> Result<Option<T>, procfs::Error> {
        for process in self.processes.iter().filter(wanted) {
            let pid = process.pid;
            match Entry::open(pid).and_then(|entry| entry.while_it_lives(&read)) {
                Ok(read) => return Ok(Some(read)),
                Err(procfs::Error::Gone { .. }) if pid != self.root().pid => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// The sockets of one network namespace that a tree holds.
struct Network {
    internet: Vec<InternetSocket>,
    unix: Vec<UnixSocket>,
    peers: HashMap<u64, u64>,
    names: Vec<(u64, PathBuf)>,
}

impl Network {
    /// That of `entry`, which is ours or not, with the sockets of these inodes.
    fn read(entry: &Entry, foreign: bool, inodes: &HashSet<u64>) -> Result<Self, procfs::Error> {
        let wanted = |inode: u64| inodes.contains(&inode);
        let mut network = Self {
            internet: entry.internet_sockets(&wanted)?,
            unix: entry.unix_sockets(&wanted)?,
            peers: HashMap::new(),
            names: Vec::new(),
        };
        if network.unix.iter().any(|socket| socket.connected) {
            let other = foreign.then(|| entry.open_namespace("net")).transpose()?;
            network.peers =
                unix_peers::peers(other, &wanted).map_err(|source| procfs::Error::Kernel {
                    what: "the peers of Unix sockets",
                    source,
                })?;
            let outside = |inode: u64| network.peers.values().any(|peer| *peer == inode);
            let outside = entry.unix_sockets(&|inode| !wanted(inode) && outside(inode))?;
            let names = outside.into_iter();
            network.names = names
                .filter_map(|socket| Some((socket.inode, socket.path?)))
                .collect();
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::Duration,
    };

    use rustix::process::Pid;

    use super::*;
    use stasis_linux::Pidfd;

    #[test]
    fn what_a_process_that_ends_cannot_tell_another_does() {
        let ours = Tree::read(std::process::id()).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut tree = Tree::read(child.id()).unwrap();
        child.kill().unwrap();
        let held = Pidfd::take(Pid::from_child(&child)).unwrap();
        assert!(held.ends_within(Duration::from_secs(60)));
        let all = |_: &&Process| true;
        // Of a zombie the kernel says "Invalid argument". The root is the one that is asked for.
        let error = tree.in_one_of(all, Entry::mounts).unwrap_err();
        assert!(matches!(error, procfs::Error::Gone { pid } if pid == child.id()));
        tree.processes.push(ours.root().clone());
        tree.processes.reverse();
        let ended = |process: &&Process| process.pid == child.id();
        assert_eq!(tree.in_one_of(ended, Entry::mounts).unwrap(), None);
        tree.processes.push(ours.root().clone());
        let last = |process: &&Process| !std::ptr::eq(*process, tree.root());
        assert!(tree.in_one_of(last, Entry::mounts).unwrap().is_some());
        child.wait().unwrap();
    }
}
