//! Namespaces that are left empty or joined, and their sysctls.

use std::path::PathBuf;

use super::{
    Options,
    check::{Context, absolute, there},
    error::OptionError,
    table::{By, DUMPS_AND_RESTORE, Given, Key, RESTORE, Release, Row, flag, rendered},
};
use crate::{rpc, setters::setters};

/// `CLONE_NEWNET` of `clone(2)`.
const CLONE_NEWNET: u32 = 0x4000_0000;

/// CRIU reads the IDs of a user namespace's root as no more than this.
const LARGEST_ID: u32 = 65_535;

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 38,
        name: "empty_ns",
        since: Release::new(2, 0, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::Named("empty-ns"),
        by: By::Setter {
            given: |o| Given::one(o.namespaces.empty.map(|EmptyNamespace::Network| "net")),
            put: |o, rpc| {
                rpc.empty_ns = o
                    .namespaces
                    .empty
                    .map(|EmptyNamespace::Network| CLONE_NEWNET);
            },
        },
    },
    Row {
        number: 39,
        name: "join_ns",
        since: Release::new(2, 3, 0),
        requests: RESTORE,
        key: Key::Named("join-ns"),
        by: By::Setter {
            given: |o| Given::all(o.namespaces.join.iter().map(JoinNamespace::value)),
            put: |o, rpc| rpc.join_ns = o.namespaces.join.iter().map(JoinNamespace::wire).collect(),
        },
    },
    flag!(
        47,
        weak_sysctls,
        Key::Named("weak-sysctls"),
        Release::new(2, 9, 0),
        RESTORE,
        namespaces.weak_sysctls
    ),
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Namespaces {
    pub(super) empty: Option<EmptyNamespace>,
    pub(super) join: Vec<JoinNamespace>,
    pub(super) weak_sysctls: bool,
}

/// Namespaces.
///
/// ```
/// use stasis_criu::{Options, options::{JoinNamespace, Joinable}};
///
/// let options = Options::new("/var/lib/images")
///     .join_ns(JoinNamespace::new(Joinable::Network, "/run/netns/blue"))
///     .weak_sysctls(true);
/// ```
impl Options {
    setters! {
        /// Neither dumps nor restores what is in this namespace, `empty_ns`.
        pub fn empty_ns(mut self, namespace: EmptyNamespace) {
            self.namespaces.empty = Some(namespace);
        }

        /// Restores into this namespace instead of a new one, `join_ns`.
        pub fn join_ns(mut self, namespace: JoinNamespace) { self.namespaces.join.push(namespace); }

        /// Passes over sysctls that this kernel does not have, `weak_sysctls`.
        pub fn weak_sysctls(mut self, set: bool) { self.namespaces.weak_sysctls = set; }
    }
}

/// A namespace that CRIU can leave empty: there is only this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyNamespace {
    /// The network namespace, say because a hook fills it.
    Network,
}

/// A kind of namespace that a restore can join: CRIU has no way into a PID namespace here
/// ([`External::PidNamespace`](super::External::PidNamespace) is one), nor into a cgroup
/// namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joinable {
    /// Network.
    Network,
    /// Host name.
    Uts,
    /// Clocks, from CRIU 3.14 on.
    Time,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Users; CRIU itself calls this dangerous.
    User,
    /// Mounts.
    Mount,
}

impl Joinable {
    fn key(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Uts => "uts",
            Self::Time => "time",
            Self::Ipc => "ipc",
            Self::User => "user",
            Self::Mount => "mnt",
        }
    }
}

/// A namespace to restore into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinNamespace {
    kind: Joinable,
    file: PathBuf,
    root: Option<(u32, u32)>,
}

impl JoinNamespace {
    /// The namespace that this file leads to.
    #[must_use]
    pub fn new(kind: Joinable, file: impl Into<PathBuf>) -> Self {
        Self {
            kind,
            file: file.into(),
            root: None,
        }
    }

    /// The namespace that this process is in.
    #[must_use]
    pub fn of_process(kind: Joinable, pid: u32) -> Self {
        // CRIU takes a number too, but none above 65535.
        Self::new(kind, format!("/proc/{pid}/ns/{}", kind.key()))
    }

    /// The user namespace that this file leads to, and who is root in it.
    #[must_use]
    pub fn user(file: impl Into<PathBuf>, uid: u32, gid: u32) -> Self {
        Self {
            kind: Joinable::User,
            file: file.into(),
            root: Some((uid, gid)),
        }
    }

    fn value(&self) -> std::ffi::OsString {
        let mut value = std::ffi::OsString::from(format!("{}:", self.kind.key()));
        value.push(&self.file);
        if let Some((uid, gid)) = self.root {
            value.push(format!(",{uid},{gid}"));
        }
        value
    }

    fn wire(&self) -> rpc::JoinNamespace {
        rpc::JoinNamespace {
            ns: self.kind.key().to_owned(),
            ns_file: rendered(&self.file),
            extra_opt: self.root.map(|(uid, gid)| format!("{uid},{gid}")),
        }
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    let namespaces = &options.namespaces;
    let network = |join: &JoinNamespace| join.kind == Joinable::Network;
    if namespaces.empty.is_some() && namespaces.join.iter().any(network) {
        return Err(OptionError::Conflict {
            option: "empty_ns",
            other: "join_ns",
            reason: "the network namespace is either left empty or joined",
        });
    }
    for (place, join) in namespaces.join.iter().enumerate() {
        let earlier = namespaces.join.iter().take(place);
        if earlier.into_iter().any(|other| other.kind == join.kind) {
            let reason = "only one namespace of a kind can be joined";
            return Err(OptionError::value("join_ns", join.kind.key(), reason));
        }
        absolute("join_ns", &join.file)?;
        there("join_ns", &join.file)?;
        let ids = join.root.into_iter().flat_map(|(uid, gid)| [uid, gid]);
        if let Some(id) = ids.into_iter().find(|id| *id > LARGEST_ID) {
            let reason = "CRIU reads no ID above 65535 here";
            return Err(OptionError::value("join_ns", id, reason));
        }
    }
    Ok(())
}

pub(super) fn check_version(options: &Options, context: Context<'_>) -> Result<(), OptionError> {
    let time = |join: &JoinNamespace| join.kind == Joinable::Time;
    if options.namespaces.join.iter().any(time) {
        context.since("join_ns time", Release::new(3, 14, 0))?;
    }
    Ok(())
}

/// A file has commas between the namespace's file and the IDs.
pub(super) fn check_for_file(options: &Options) -> Result<(), OptionError> {
    for join in &options.namespaces.join {
        let file = rendered(&join.file);
        if file.contains(',') {
            return Err(OptionError::Unwritable {
                option: "join_ns",
                value: file,
                reason: "CRIU takes what follows a comma for IDs",
            });
        }
    }
    Ok(())
}
