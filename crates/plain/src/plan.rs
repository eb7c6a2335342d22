//! All adapters at once: what CRIU has to be told to dump a tree, and to bring it back.

use std::{collections::HashMap, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::process::Pid;
use stasis_linux::{pidfd::RELEASE, sys};
use tokio::time::{Instant, sleep};

use stasis_criu::{
    Options, Request,
    options::{Descriptor, External},
};

use super::{
    Attached, Choices, Managed, ProcessError, ProcessState, RestoreStdio, Tree,
    adapters::{
        Inheritance, Missing, Sockets, Terminals, external_files, external_mounts,
        has_external_mounts, refuse_io_uring, write_pid_file,
    },
};

/// What CRIU has to be told to dump a tree.
///
/// ```
/// use stasis_criu::Options;
/// use stasis_plain::{DumpPlan, Run};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let process = Run::new("sleep").arg("9").start()?;
/// let plan = DumpPlan::detect(process.pid())?;
/// assert_eq!(plan.apply(Options::new("/images")), Options::new("/images").pid(process.pid()));
/// # process.kill()?; process.exited().await?;
/// # Ok::<(), stasis_plain::ProcessError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct DumpPlan {
    terminals: Terminals,
    sockets: Sockets,
    files: Vec<External>,
    mounts: bool,
    /// What its caller chose without having to.
    chosen: Choices,
    state: ProcessState,
    /// Who they are: number and start.
    descendants: Vec<(u32, u64)>,
}

/// How often it is looked whether a process is gone of whose end no event tells.
const LOOK: Duration = Duration::from_millis(10);

impl DumpPlan {
    /// Looks at the tree under `pid`.
    ///
    /// # Errors
    /// If it is gone, or CRIU cannot dump it: it uses io_uring, or has terminals of too many
    /// sessions.
    pub fn detect(pid: u32) -> Result<Self, ProcessError> {
        let tree = Tree::read(pid)?;
        refuse_io_uring(&tree)?;
        let mut plan = Self {
            terminals: Terminals::detect(&tree)?,
            sockets: Sockets::detect(&tree),
            files: external_files(&tree),
            mounts: has_external_mounts(&tree)?,
            chosen: Choices::default(),
            state: ProcessState::fill(&tree)?,
            descendants: descendants(&tree),
        };
        plan.state.choices = Some(plan.choices());
        Ok(plan)
    }

    /// Keeps in the [state](Self::state) what `options` say besides, and a restore has to be told
    /// too: `shell_job`, `tcp_established`, `ext_unix_sk` and `file_locks`. Without the last CRIU
    /// restores processes and not their locks, and says nothing.
    ///
    /// ```
    /// use stasis_criu::Options;
    /// use stasis_plain::DumpPlan;
    ///
    /// let options = Options::new("/images").file_locks(true);
    /// let plan = DumpPlan::detect(std::process::id())?.chosen(&options);
    /// assert!(plan.state().choices.as_ref().is_some_and(|choices| choices.file_locks));
    /// # Ok::<(), stasis_plain::ProcessError>(())
    /// ```
    #[must_use]
    pub fn chosen(mut self, options: &Options) -> Self {
        self.chosen = Choices {
            shell_job: options.is_shell_job(),
            tcp_established: options.takes_tcp_established(),
            ext_unix_sk: options.takes_ext_unix_sk(),
            file_locks: options.takes_file_locks(),
            ..Choices::default()
        };
        self.state.choices = Some(self.choices());
        self
    }

    /// The state of the tree, to be saved beside the images.
    #[must_use]
    pub fn state(&self) -> &ProcessState {
        &self.state
    }

    /// What was found of its terminals.
    #[must_use]
    pub fn terminals(&self) -> &Terminals {
        &self.terminals
    }

    /// What was found of its sockets.
    #[must_use]
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Sets the process, and what its tree needs. What the tree does not need is left as it is, and
    /// so is an external resource that `options` name already.
    #[must_use]
    pub fn apply(&self, options: Options) -> Options {
        let options = options.pid(self.state.pid);
        let options = self.sockets.apply(self.terminals.apply(options));
        let files = self.files.iter().cloned();
        let options = files.fold(options, Options::external_unless_named);
        if self.mounts {
            external_mounts(options, Request::Dump)
        } else {
            options
        }
    }

    /// Looks again, and gives what is external and was not known to be: the answer to the hook
    /// `query-ext-files`, which comes when the tree is frozen, so that nothing can be opened
    /// behind it. The [state](Self::state) is that of the frozen tree afterwards, and is to be
    /// saved then.
    ///
    /// ```no_run
    /// use stasis_criu::{HookResult, Notify};
    /// use stasis_plain::DumpPlan;
    ///
    /// struct Hooks { plan: DumpPlan, images: std::path::PathBuf }
    ///
    /// #[async_trait::async_trait]
    /// impl Notify for Hooks {
    ///     async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
    ///         let external = self.plan.externals()?;
    ///         self.plan.state().save(&self.images)?;
    ///         Ok(external)
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// If the tree is gone, or has come to use io_uring.
    pub fn externals(&mut self) -> Result<Vec<String>, ProcessError> {
        let tree = Tree::read(self.state.pid)?;
        refuse_io_uring(&tree)?;
        let mut state = ProcessState::fill(&tree)?;
        // Frozen processes look stopped: what they did before is what is to be known of them.
        let did = self.state.processes().map(|process| {
            let name = (process.pid, process.start_time);
            (name, process.status.clone())
        });
        restore_status(&mut state, &did.collect());
        let known = self.choices().external;
        let known = |external: &External| known.contains(&external.to_string());
        let (mut files, mut sockets) = (external_files(&tree), Sockets::detect(&tree));
        let mut news: Vec<String> = files
            .iter()
            .chain(&sockets.externals())
            .filter(|external| !known(external))
            .map(ToString::to_string)
            .collect();
        news.dedup();
        // What was named stays named, though it be closed by now: CRIU does not mind.
        files.append(&mut self.files);
        files.sort_by_key(ToString::to_string);
        files.dedup();
        sockets.halves.append(&mut self.sockets.halves);
        self.files = files;
        self.sockets.halves = sockets.halves;
        self.state = state;
        self.descendants = descendants(&tree);
        self.state.choices = Some(self.choices());
        Ok(news)
    }

    /// Waits until nothing is left of those that descend from the root, after a dump that ended
    /// them. Those that have become our children are reaped.
    ///
    /// A restore needs this. The root is reaped by whoever manages it, but the others go to the
    /// next reaper above, and while one of them is a zombie its numbers are taken, that of the
    /// root as its session too: CRIU fails with "File exists". So it does in the moment for which
    /// the kernel keeps the number of a process that was reaped, which is waited for too, the
    /// root's as well. If they go to nobody who reaps this never ends, so a caller gives it a
    /// deadline.
    ///
    /// # Errors
    /// If a process cannot be waited for.
    pub async fn gone(&self) -> Result<(), ProcessError> {
        for &(pid, started) in &self.descendants {
            loop {
                match Managed::take_over(pid) {
                    Ok(process) if process.started() == started => process.exited().await?,
                    Ok(_) | Err(ProcessError::Gone { .. }) => break,
                    Err(error) => return Err(error),
                };
                sleep(LOOK).await;
            }
        }
        let descendants = self.descendants.iter().map(|&(pid, _)| pid);
        let numbers: Vec<_> = descendants
            .chain([self.state.pid])
            .filter_map(|pid| Pid::from_raw(pid.try_into().ok()?))
            .collect();
        let taken = |number: &Pid| sys::is_taken(*number).unwrap_or_default();
        let released = Instant::now() + RELEASE;
        while numbers.iter().any(taken) && Instant::now() < released {
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn choices(&self) -> Choices {
        let halves = self.sockets.externals();
        let external = self
            .files
            .iter()
            .chain(&self.terminals.external)
            .chain(&halves);
        Choices {
            shell_job: self.terminals.shell_job || self.chosen.shell_job,
            job_terminal: self.terminals.job_terminal,
            orphan_pts_master: self.terminals.orphan_pts_master,
            tcp_established: self.sockets.tcp_established || self.chosen.tcp_established,
            ext_unix_sk: self.sockets.ext_unix_sk || self.chosen.ext_unix_sk,
            file_locks: self.chosen.file_locks,
            external_mounts: self.mounts,
            external: external.map(ToString::to_string).collect(),
        }
    }
}

fn descendants(tree: &Tree) -> Vec<(u32, u64)> {
    let all = tree.processes().iter().skip(1);
    all.map(|process| (process.pid, process.started)).collect()
}

fn restore_status(state: &mut ProcessState, did: &HashMap<(u32, u64), String>) {
    if let Some(status) = did.get(&(state.pid, state.start_time)) {
        state.status.clone_from(status);
    }
    for child in &mut state.children {
        restore_status(child, did);
    }
}

/// What CRIU has to be told to bring a tree back, and what we hold of it.
///
/// ```no_run
/// use stasis_criu::Options;
/// use stasis_plain::{ProcessState, RestorePlan, RestoreStdio};
/// # fn restore(options: Options) -> u32 { 0 }
///
/// let images = std::path::Path::new("/var/lib/images/1");
/// let plan = RestorePlan::new(&ProcessState::reload(images)?, RestoreStdio::Attach)?;
/// assert_eq!(plan.missing().count(), 0);
/// let pid = restore(plan.apply(Options::new(images)));
/// let mut process = plan.take_over(pid)?;
/// let our_ends = process.take_attached();
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
#[derive(Debug)]
pub struct RestorePlan {
    terminals: Terminals,
    sockets: Sockets,
    file_locks: bool,
    mounts: bool,
    inheritance: Inheritance,
    attached: Option<Attached>,
}

impl RestorePlan {
    /// What the tree of a state needs. A state of Cedana's does not say what the dump was told;
    /// then it is what Cedana would have told it.
    ///
    /// # Errors
    /// As [`Inheritance::new`].
    pub fn new(state: &ProcessState, stdio: RestoreStdio) -> Result<Self, ProcessError> {
        let choices = match &state.choices {
            Some(choices) => choices.clone(),
            None => Choices::of_cedana(state),
        };
        let mut inheritance = Inheritance::new(state, stdio)?;
        Ok(Self {
            terminals: Terminals::from_choices(&choices),
            sockets: Sockets::from_choices(&choices),
            file_locks: choices.file_locks,
            mounts: choices.external_mounts,
            attached: inheritance.take_attached(),
            inheritance,
        })
    }

    /// External files and sockets for which there is nothing, and without which CRIU will fail: see
    /// [`Inheritance::missing`].
    pub fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.inheritance.missing()
    }

    /// Gives the tree a descriptor for what CRIU calls so, in place of what was chosen for it.
    pub fn inherit(&mut self, key: impl Into<String>, descriptor: impl Into<Descriptor>) {
        self.inheritance.inherit(key, descriptor);
    }

    /// Must CRIU's standard input be a terminal, to which the tree comes back?
    #[must_use]
    pub fn needs_terminal(&self) -> bool {
        self.terminals.job_terminal
    }

    /// Will the hook `orphan-pts-master` bring the master of a terminal? It is
    /// [ours](Self::attach_terminal) to take.
    #[must_use]
    pub fn awaits_terminal(&self) -> bool {
        self.terminals.orphan_pts_master
    }

    /// Takes what the hook `orphan-pts-master` brought.
    pub fn attach_terminal(&mut self, master: OwnedFd) {
        self.attached = Some(Attached::Terminal(master));
    }

    /// Sets what the tree needs, and that its root becomes our child. What it does not need is left
    /// as it is, and so are external resources and descriptors that `options` name already.
    #[must_use]
    pub fn apply(&self, options: Options) -> Options {
        let options = options.rst_sibling(true);
        let options = self.sockets.apply(self.terminals.apply(options));
        let mut options = self.inheritance.apply(options);
        if self.file_locks {
            options = options.file_locks(true);
        }
        if self.mounts {
            external_mounts(options, Request::Restore)
        } else {
            options
        }
    }

    /// Takes over the restored root, with our ends of its streams. Our copies of what it inherited
    /// are closed, so that the end of a stream is seen at our end.
    ///
    /// # Errors
    /// If it is gone.
    pub fn take_over(self, pid: u32) -> Result<Managed, ProcessError> {
        Ok(Managed::take_over(pid)?.attach(self.attached))
    }

    /// As [`RestorePlan::take_over`], and writes the number to a file. The process goes on if that
    /// fails; it is restored, and nobody asked for its end.
    ///
    /// # Errors
    /// If it is gone, or the file cannot be written.
    pub fn take_over_with_pid_file(self, pid: u32, file: &Path) -> Result<Managed, ProcessError> {
        let process = self.take_over(pid)?;
        write_pid_file(file, pid)?;
        Ok(process)
    }
}
