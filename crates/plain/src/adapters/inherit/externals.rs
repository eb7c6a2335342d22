//! What of a state was dumped as external, whoever dumped it.

use std::collections::{HashMap, HashSet};

use stasis_criu::options::External;

use crate::{Choices, FileState, ProcessState};

/// What was dumped as external, with a file that it was.
#[derive(Debug)]
pub(super) struct Externals<'a>(Vec<(String, Option<&'a FileState>)>);

impl<'a> Externals<'a> {
    pub(super) fn of(state: &'a ProcessState) -> Self {
        let mut files = HashMap::new();
        for file in state.processes().flat_map(|process| &process.open_files) {
            let key = if file.is_tty {
                terminal(file)
            } else {
                external_file(file)
            };
            files.entry(key).or_insert(file);
        }
        let keys = match &state.choices {
            Some(choices) => choices.external.clone(),
            None => Choices::of_cedana(state).external,
        };
        Self(
            keys.into_iter()
                .map(|key| {
                    let file = files.get(&key).copied();
                    (key, file)
                })
                .collect(),
        )
    }

    pub(super) fn key(&self, key: &str) -> Option<String> {
        let found = self.0.iter().find(|(known, _)| known == key);
        found.map(|(known, _)| known.clone())
    }

    pub(super) fn terminals(&self) -> impl Iterator<Item = (&str, &'a FileState)> {
        self.begin("tty[")
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &'a FileState)> {
        self.begin("file[")
    }

    /// The inodes of the sockets among them.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &str> {
        let keys = self.0.iter().map(|(key, _)| key.as_str());
        keys.filter_map(|key| key.strip_prefix("unix[")?.strip_suffix(']'))
    }

    fn begin(&self, prefix: &'static str) -> impl Iterator<Item = (&str, &'a FileState)> {
        self.0
            .iter()
            .filter(move |(key, _)| key.starts_with(prefix))
            .filter_map(|(key, file)| Some((key.as_str(), (*file)?)))
    }
}

impl Choices {
    /// What Cedana tells a dump, which its state does not say.
    pub(crate) fn of_cedana(state: &ProcessState) -> Self {
        let mounts: HashSet<u64> = state
            .processes()
            .flat_map(|process| &process.mounts)
            .map(|mount| mount.id)
            .collect();
        let mut external = Vec::new();
        for file in state.processes().flat_map(|process| &process.open_files) {
            let has_no_path = ["pipe", "socket", "anon_inode", "/memfd:"]
                .iter()
                .any(|prefix| file.path.starts_with(prefix));
            let key = match (has_no_path || mounts.contains(&file.mount_id), file.is_tty) {
                (true, _) => continue,
                (false, true) => terminal(file),
                (false, false) => external_file(file),
            };
            if !external.contains(&key) {
                external.push(key);
            }
        }
        let streams = || {
            let all = state
                .processes()
                .flat_map(|process| &process.open_connections);
            all.filter(|connection| connection.kind == 1)
        };
        Self {
            shell_job: state.sid != state.pid,
            // All terminals are external.
            job_terminal: false,
            orphan_pts_master: false,
            tcp_established: streams().any(|connection| connection.family != 1),
            ext_unix_sk: streams().next().is_some(),
            file_locks: false,
            external_mounts: true,
            external,
        }
    }
}

pub(super) fn terminal(file: &FileState) -> String {
    let (rdev, dev) = (file.rdev, file.dev);
    External::Terminal { rdev, dev }.to_string()
}

pub(super) fn external_file(file: &FileState) -> String {
    // A mount's number has 32 bits; one that has not is nothing's, and so is all ones.
    let mount = u32::try_from(file.mount_id).unwrap_or(u32::MAX);
    let inode = file.inode;
    External::File { mount, inode }.to_string()
}
