//! Filling a process state from a tree.

use std::path::Path;

use stasis_linux::{
    mountinfo::Mount,
    procfs::{self, Family, FileKind, OpenFile},
};

use super::{
    super::{
        ProcessError, Tree,
        tree::{Process, TaskState},
    },
    Address, ConnectionState, FileState, Host, MountState, ProcessState,
};

impl ProcessState {
    /// What is to be known of a tree, the machine included.
    ///
    /// # Errors
    /// If the kernel does not tell when the machine started.
    pub fn fill(tree: &Tree) -> Result<Self, ProcessError> {
        let boot = procfs::boot_time()?;
        let mut state = fill(tree, tree.root(), None, boot);
        state.host = Some(Host::read());
        Ok(state)
    }
}

fn fill(tree: &Tree, process: &Process, parent: Option<&Process>, boot: u64) -> ProcessState {
    let seen_by_parent = parent.is_some_and(|parent| {
        parent.namespaces.map(|their| their.mount) == process.namespaces.map(|its| its.mount)
    });
    let mounts = if seen_by_parent {
        &[][..]
    } else {
        tree.mounts_of(process)
    };
    let connections = process
        .files
        .iter()
        .filter(|file| file.kind == FileKind::Socket)
        .filter_map(|file| connection(tree, process, file));
    ProcessState {
        pid: process.pid,
        cmdline: process.command_line.clone(),
        start_time: boot.saturating_add(process.started.saturating_mul(10)),
        open_files: process.files.iter().map(FileState::from).collect(),
        open_connections: connections.collect(),
        mounts: mounts.iter().map(MountState::from).collect(),
        working_dir: text(&process.working_directory),
        status: status(process.letter).to_owned(),
        is_running: process.state() != TaskState::Zombie,
        uids: process.ids.users.clone(),
        gids: process.ids.groups.clone(),
        groups: process.ids.supplementary.clone(),
        sid: process.session,
        children: tree
            .children_of(process.pid)
            .map(|child| fill(tree, child, Some(process), boot))
            .collect(),
        ..ProcessState::default()
    }
}

impl From<&OpenFile> for FileState {
    fn from(file: &OpenFile) -> Self {
        Self {
            path: text(&file.path),
            fd: u64::from(file.fd),
            mode: format!("0{:o}", file.flags),
            mount_id: u64::from(file.mount_id.unwrap_or(0)),
            inode: file.inode,
            is_tty: file.kind == FileKind::Terminal,
            dev: file.device,
            rdev: file.rdev,
        }
    }
}

impl From<&Mount> for MountState {
    fn from(mount: &Mount) -> Self {
        Self {
            id: u64::from(mount.id),
            parent: u64::from(mount.parent),
            major: mount.major,
            minor: mount.minor,
            root: text(&mount.root),
            mount_point: text(&mount.mount_point),
            options: mount.options.clone(),
            fs_type: mount.fs_type.clone(),
            source: text(&mount.source),
        }
    }
}

fn connection(tree: &Tree, process: &Process, file: &OpenFile) -> Option<ConnectionState> {
    let common = ConnectionState {
        fd: file.fd,
        uids: process.ids.users.clone(),
        pid: process.pid,
        ..ConnectionState::default()
    };
    if let Some(socket) = tree.internet_socket(file.inode) {
        let address = |address: std::net::SocketAddr| Address {
            ip: address.ip().to_string(),
            port: u32::from(address.port()),
        };
        return Some(ConnectionState {
            family: socket.family.number(),
            kind: socket.kind.number(),
            local: Some(address(socket.local)),
            remote: Some(address(socket.remote)),
            status: socket.state.name().to_owned(),
            ..common
        });
    }
    let socket = tree.unix_socket(file.inode)?;
    let name = |path: &Path| Address {
        ip: text(path),
        port: 0,
    };
    Some(ConnectionState {
        family: Family::Unix.number(),
        kind: socket.kind.number(),
        local: socket.path.as_deref().map(name),
        remote: tree.unix_peer_name(file.inode).map(name),
        status: String::from("NONE"),
        ..common
    })
}

/// The words that gopsutil has for the letters of the kernel.
fn status(letter: u8) -> &'static str {
    match letter {
        b'R' => "running",
        b'S' => "sleep",
        b'D' | b'U' => "blocked",
        b'I' => "idle",
        b'T' | b't' => "stop",
        b'W' => "wait",
        b'Z' | b'X' => "zombie",
        _ => "",
    }
}

/// JSON is UTF-8, and paths need not be: what is not becomes U+FFFD.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
