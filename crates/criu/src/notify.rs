//! CRIU's hooks: what it asks its client in the course of a dump or a restore.
//!
//! Names and order are those of `criu/action-scripts.c`, CRIU 4.2:
//!
//! ```text
//! dump     pre-dump · network-lock · query-ext-files · post-dump · [status-ready]
//!          · [network-unlock]
//! restore  pre-restore · setup-namespaces · post-setup-namespaces · [orphan-pts-master]
//!          · post-restore · network-unlock · pre-resume · post-resume
//! ```
//!
//! The hooks of the network come only where the network namespace is dumped too, those of
//! namespaces only where there are namespaces. `status-ready` comes of lazy dumps: that a page
//! server listens its reply says.

use std::{error, fmt, os::fd::OwnedFd};

use async_trait::async_trait;
use rustix::process::Pid;

/// Why a hook refuses.
pub type HookError = Box<dyn error::Error + Send + Sync>;

/// What a hook returns.
pub type HookResult<T = ()> = Result<T, HookError>;

/// One of CRIU's hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before anything is frozen.
    PreDump,
    /// Frozen; the network namespace's traffic is to be blocked.
    NetworkLock,
    /// Frozen; which external objects are there besides those of the options?
    QueryExternalFiles,
    /// The images are whole, the processes still frozen.
    PostDump,
    /// The network namespace's traffic may flow again.
    NetworkUnlock,
    /// Before anything is restored.
    PreRestore,
    /// The root process has its namespaces, which are empty.
    SetupNamespaces,
    /// The namespaces are filled.
    PostSetupNamespaces,
    /// All is restored and nothing runs yet.
    PostRestore,
    /// Just before the processes run.
    PreResume,
    /// The processes run.
    PostResume,
    /// The master of a terminal whose master was not dumped.
    OrphanPtsMaster,
    /// The server of a lazy dump listens.
    StatusReady,
}

impl Hook {
    /// Every hook, in the order of a dump and then a restore.
    pub const ALL: [Self; 13] = [
        Self::PreDump,
        Self::NetworkLock,
        Self::QueryExternalFiles,
        Self::PostDump,
        Self::NetworkUnlock,
        Self::PreRestore,
        Self::SetupNamespaces,
        Self::PostSetupNamespaces,
        Self::OrphanPtsMaster,
        Self::PostRestore,
        Self::PreResume,
        Self::PostResume,
        Self::StatusReady,
    ];

    /// CRIU's name for it.
    #[must_use]
    pub fn script(self) -> &'static str {
        match self {
            Self::PreDump => "pre-dump",
            Self::NetworkLock => "network-lock",
            Self::QueryExternalFiles => "query-ext-files",
            Self::PostDump => "post-dump",
            Self::NetworkUnlock => "network-unlock",
            Self::PreRestore => "pre-restore",
            Self::SetupNamespaces => "setup-namespaces",
            Self::PostSetupNamespaces => "post-setup-namespaces",
            Self::PostRestore => "post-restore",
            Self::PreResume => "pre-resume",
            Self::PostResume => "post-resume",
            Self::OrphanPtsMaster => "orphan-pts-master",
            Self::StatusReady => "status-ready",
        }
    }

    /// The hook that CRIU calls `script`.
    #[must_use]
    pub fn from_script(script: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.script() == script)
    }

    /// Whether CRIU gives up where it fails. Of the others' failures CRIU only writes a line to
    /// its log, and for `orphan-pts-master` takes its own standard input's terminal instead.
    #[must_use]
    pub fn aborts(self) -> bool {
        !matches!(
            self,
            Self::NetworkUnlock | Self::PreResume | Self::PostResume | Self::OrphanPtsMaster
        )
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.script())
    }
}

/// What is done at CRIU's hooks.
///
/// CRIU waits for each: the processes stay as they are meanwhile, frozen from `network-lock` to
/// `post-dump`. A hook that fails aborts the call where CRIU lets it ([`Hook::aborts`]); its error
/// is the call's. A hook may be dropped at any `await`, when the call is cancelled, its deadline
/// passes or CRIU dies, and none is called after that but [`network_unlock`](Self::network_unlock).
///
/// ```
/// use async_trait::async_trait;
/// use stasis_criu::{HookResult, Notify};
///
/// /// Copies the images while the processes are frozen.
/// struct Copy {
///     copied: bool,
/// }
///
/// #[async_trait]
/// impl Notify for Copy {
///     async fn post_dump(&mut self) -> HookResult {
///         self.copied = true;
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Notify: Send {
    /// Before anything is frozen.
    async fn pre_dump(&mut self) -> HookResult {
        Ok(())
    }

    /// The processes are frozen: block their network namespace's traffic.
    async fn network_lock(&mut self) -> HookResult {
        Ok(())
    }

    /// The processes are frozen: which external objects, in CRIU's notation (`file[1f:2a]`), are
    /// there besides those that the options name?
    async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
        Ok(Vec::new())
    }

    /// The images are whole and the processes still frozen. What fails here lets them run on.
    async fn post_dump(&mut self) -> HookResult {
        Ok(())
    }

    /// The network namespace's traffic may flow again: after a restore, after a dump that leaves the
    /// processes running, and after one that is given up, whatever the reason. So it is called also
    /// where the call has been cancelled or its deadline has passed, and where CRIU had to be
    /// killed. It has the grace for itself then ([`Criu::grace`](crate::Criu::grace)) until it is
    /// dropped.
    ///
    /// If it fails when a dump is given up, the error's [`Left`](crate::Left) has it
    /// ([`Leftover::NetworkLock`](crate::Leftover::NetworkLock)). Only where the call's future was
    /// dropped nobody is there to be asked, and the lock stays: cancel with
    /// [`Call::until`](crate::Call::until) a dump that has one.
    async fn network_unlock(&mut self) -> HookResult {
        Ok(())
    }

    /// Before anything is restored.
    async fn pre_restore(&mut self) -> HookResult {
        Ok(())
    }

    /// The root process, `pid`, has its namespaces, and they are empty: put network devices in.
    async fn setup_namespaces(&mut self, pid: Pid) -> HookResult {
        let _ = pid;
        Ok(())
    }

    /// The namespaces are filled; the tree is about to be forked.
    async fn post_setup_namespaces(&mut self) -> HookResult {
        Ok(())
    }

    /// All is restored and nothing runs yet. `pid` is the root process. What fails here kills it.
    async fn post_restore(&mut self, pid: Pid) -> HookResult {
        let _ = pid;
        Ok(())
    }

    /// Just before the processes run.
    async fn pre_resume(&mut self) -> HookResult {
        Ok(())
    }

    /// The processes run.
    async fn post_resume(&mut self) -> HookResult {
        Ok(())
    }

    /// `master` belongs to a terminal whose master was not dumped. Unless it is taken, CRIU uses
    /// the terminal that its own standard input is.
    async fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        drop(master);
        Err("nobody takes the master of an orphan terminal".into())
    }

    /// The server of a lazy dump listens: the pages can be fetched. What fails here lets the
    /// processes run on.
    async fn status_ready(&mut self) -> HookResult {
        Ok(())
    }

    /// A hook of a newer CRIU. It is acknowledged whatever happens here.
    async fn unknown(&mut self, script: &str) {
        tracing::warn!(
            script,
            "CRIU called a hook that is not known; it was acknowledged"
        );
    }
}

/// Nothing is done at any hook.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Notify for NoHooks {}

/// A hook as it came from CRIU.
#[derive(Debug)]
pub(crate) enum HookCall {
    /// One that carries nothing.
    Plain(Hook),
    /// One that names the root process.
    WithPid(Hook, Pid),
    /// `orphan-pts-master`.
    WithMaster(OwnedFd),
    /// One that we do not know.
    Unknown(String),
}

impl HookCall {
    /// Which one it is, if it is known.
    pub fn hook(&self) -> Option<Hook> {
        match self {
            Self::Plain(hook) | Self::WithPid(hook, _) => Some(*hook),
            Self::WithMaster(_) => Some(Hook::OrphanPtsMaster),
            Self::Unknown(_) => None,
        }
    }

    /// Runs the hook. What it returns are externals, which only `query-ext-files` has.
    pub async fn run(self, notify: &mut dyn Notify) -> HookResult<Vec<String>> {
        match self {
            Self::WithMaster(master) => notify.orphan_pts_master(master).await?,
            Self::Unknown(script) => notify.unknown(&script).await,
            Self::WithPid(Hook::SetupNamespaces, pid) => notify.setup_namespaces(pid).await?,
            Self::WithPid(Hook::PostRestore, pid) => notify.post_restore(pid).await?,
            Self::Plain(Hook::QueryExternalFiles) => return notify.query_external_files().await,
            Self::Plain(hook) | Self::WithPid(hook, _) => match hook {
                Hook::PreDump => notify.pre_dump().await?,
                Hook::NetworkLock => notify.network_lock().await?,
                Hook::PostDump => notify.post_dump().await?,
                Hook::NetworkUnlock => notify.network_unlock().await?,
                Hook::PreRestore => notify.pre_restore().await?,
                Hook::PostSetupNamespaces => notify.post_setup_namespaces().await?,
                Hook::PreResume => notify.pre_resume().await?,
                Hook::PostResume => notify.post_resume().await?,
                Hook::StatusReady => notify.status_ready().await?,
                Hook::SetupNamespaces | Hook::PostRestore => {
                    return Err("CRIU named no process".into());
                }
                Hook::OrphanPtsMaster => return Err("CRIU sent no terminal".into()),
                Hook::QueryExternalFiles => return notify.query_external_files().await,
            },
        }
        Ok(Vec::new())
    }
}
