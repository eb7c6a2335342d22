//! What is undone after a call that did not succeed: files that CRIU wrote, processes that a
//! restore left, and what a dump left in the processes where CRIU had to be killed.
//!
//! CRIU undoes what it can itself when it fails in order. Of that only files remain, and the
//! zombies of a restore, whose ids the next try needs.

mod dumped;
mod files;
mod freezer;
mod leftover;
mod restored;
mod rules;

use rustix::process::Pid;

use crate::chain::Chain;

pub(crate) use dumped::DumpRecovery;
pub(crate) use files::CreatedFiles;
pub(crate) use freezer::FreezerRecovery;
pub use leftover::{Left, Leftover};
pub(crate) use restored::RestoreRecovery;

/// What there was before a call, so that what it adds can be taken away.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    /// The files that it may write.
    pub created: Option<CreatedFiles>,
    /// What it freezes the processes by.
    pub freezer: Option<FreezerRecovery>,
    /// The processes that it dumps.
    pub dumped: Option<DumpRecovery>,
    /// The images that it follows, if it has the kernel track anew what changes.
    pub chain: Option<Chain>,
    /// Whether CRIU lets go of their connections only when a restore has fetched their memory.
    pub lazy: bool,
    /// Whether a restore may fetch it.
    pub serving: bool,
    /// The processes that it may make.
    pub restored: Option<RestoreRecovery>,
}

impl Undo {
    /// CRIU has told the root process of a restore.
    pub fn saw_root(&mut self, pid: Pid) {
        if let Some(restored) = &mut self.restored {
            restored.saw_root(pid);
        }
    }

    /// Takes down what the restore by `swrk` has made so far.
    pub fn look(&mut self, swrk: Pid) {
        if let Some(restored) = &mut self.restored {
            restored.look(swrk);
        }
    }

    /// Kills what the restore by `swrk` has made so far.
    pub fn kill_restored(&mut self, swrk: Pid) {
        if let Some(restored) = &mut self.restored {
            restored.kill(swrk);
        }
    }

    /// Stops the processes of a lazy dump that is about to serve their memory. Where nobody fetches
    /// it CRIU lets the processes go, but not their connections (`cr_dump_finish` in
    /// `criu/cr-dump.c`, 4.2).
    pub fn before_serving(&mut self) {
        self.serving = self.lazy;
        if self.serving {
            self.before_kill();
        }
    }

    /// Stops the processes that are dumped, since CRIU is about to be killed.
    pub fn before_kill(&self) {
        if let Some(dumped) = &self.dumped {
            dumped.stop();
        }
    }

    /// Is there no room left for what it writes?
    pub fn disk_is_full(&self) -> bool {
        self.created
            .as_ref()
            .is_some_and(CreatedFiles::disk_is_full)
    }

    /// The call succeeded: there is nothing to undo.
    pub fn succeeded(&self) {
        if let Some(chain) = &self.chain {
            chain.succeeded();
        }
    }

    /// Undoes what is left, after CRIU has ended. `killed`: it did not end by itself. `swrk` is
    /// `None` for a service.
    pub fn undo(mut self, swrk: Option<Pid>, killed: bool, keep_log: bool) -> Vec<Leftover> {
        let mut left = Vec::new();
        if killed && swrk.is_none() {
            left.push(Leftover::Worker);
        }
        let found = self.dumped.as_ref().is_some_and(|tree| !tree.is_empty());
        let chain = self.chain.filter(|_| found);
        left.extend(chain.as_ref().map(|_| Leftover::Untracked));
        if let (Some(restored), Some(swrk)) = (&mut self.restored, swrk) {
            left.extend(restored.reap(swrk));
        }
        let undone_here = (killed || self.serving) && swrk.is_some();
        if let Some(dumped) = self.dumped.filter(|_| undone_here) {
            if let Some(freezer) = &self.freezer {
                freezer.thaw();
            }
            let run = self.created.as_ref().and_then(CreatedFiles::run);
            left.extend(dumped.undo(run));
            left.extend(self.freezer.and_then(FreezerRecovery::restore));
        }
        if let Some(created) = self.created {
            left.extend(created.remove(keep_log));
        }
        // What is there still was there before.
        if let Some(chain) = chain {
            chain.end();
        }
        left
    }
}
