//! Terminals whose master is outside the tree.
//!
//! CRIU dumps the terminal side of a pseudoterminal only if it is told where the master is to come
//! from. There are three ways, and each works for some trees only (tty.c of criu 4.2; tried on
//! 4.1.1 and 4.2.1):
//! - `shell_job`, for a tree in somebody else's session: the tree comes back into the session of
//!   whoever restores it, on the terminal that is CRIU's standard input then. One terminal only.
//! - `orphan_pts_master`, for a tree that has its session leader in it and the terminal as its
//!   controlling one: CRIU makes a new terminal and hands us the master (the hook
//!   `orphan-pts-master`). One terminal only.
//! - `external tty[..]`: the terminal comes back as a descriptor that is handed over on restore.

use std::collections::BTreeMap;

use rustix::fs::{major, minor};

use stasis_linux::procfs::{Entry, OpenFile};

use stasis_criu::{Options, options::External};

use crate::{Choices, FileKind, ProcessError, Tree};

/// How the terminals of a tree are taken along and brought back.
///
/// Cedana sets `shell_job` wherever the session of the root is not its own number. That is
/// necessary and not enough: a tree whose leader is inside but whose master is outside fails
/// without one of the other ways.
///
/// ```
/// use stasis_plain::{Run, Size, Stdio, adapters::Terminals};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let size = Size { rows: 24, columns: 80 };
/// let ours = Run::new("sleep").arg("9").stdio(Stdio::Terminal { size }).start()?;
/// let terminals = Terminals::detect(&ours.tree()?)?;
/// assert!(terminals.orphan_pts_master);
/// assert!(!terminals.shell_job && terminals.external.is_empty());
/// # ours.kill()?; ours.exited().await?;
/// # Ok::<(), stasis_plain::ProcessError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminals {
    /// `shell_job`: the leader of the root's session is outside. It comes back into the session of
    /// whoever restores it.
    pub shell_job: bool,
    /// A terminal is that of a session whose leader is outside. On restore CRIU's standard input
    /// has to be a terminal.
    pub job_terminal: bool,
    /// `orphan_pts_master`: we hold the master, and take the new one on restore.
    pub orphan_pts_master: bool,
    /// `external tty[..]`: all others.
    pub external: Vec<External>,
}

/// A terminal: its device, and the instance of devpts that it is in.
type Device = (u64, u64);

impl Terminals {
    /// Looks at the terminals of a tree, and at who holds their masters.
    ///
    /// # Errors
    /// If the descriptors of this process cannot be read, or the tree cannot be dumped with its
    /// terminals: two of them belong to sessions whose leaders are outside.
    pub fn detect(tree: &Tree) -> Result<Self, ProcessError> {
        let unpaired = unpaired(tree);
        let mut chosen = Self::default();
        if !unpaired.is_empty() {
            let ours = Entry::open(std::process::id())?.open_files()?;
            chosen = choose(tree, &unpaired, &ours)?;
        }
        // CRIU refuses it without, though it has no terminal.
        let root = tree.root();
        chosen.shell_job = chosen.job_terminal || root.session != root.pid;
        Ok(chosen)
    }

    /// What was chosen when the tree was dumped.
    #[must_use]
    pub fn from_choices(choices: &Choices) -> Self {
        Self {
            shell_job: choices.shell_job,
            job_terminal: choices.job_terminal,
            orphan_pts_master: choices.orphan_pts_master,
            external: Vec::new(),
        }
    }

    /// Sets the choice, for a dump or a restore alike. What was not chosen is left as it is.
    #[must_use]
    pub fn apply(&self, mut options: Options) -> Options {
        if self.shell_job {
            options = options.shell_job(true);
        }
        if self.orphan_pts_master {
            options = options.orphan_pts_master(true);
        }
        self.external
            .iter()
            .cloned()
            .fold(options, Options::external_unless_named)
    }
}

/// The pseudoterminals of a tree without their masters.
fn unpaired(tree: &Tree) -> BTreeMap<Device, &OpenFile> {
    // The number of a master says nothing of its instance of devpts; that of a tree is one, or
    // its terminals came from outside, and their masters did not.
    let masters: Vec<u32> = tree
        .files()
        .filter_map(|(_, file)| file.master_of)
        .collect();
    tree.files()
        .filter_map(|(_, file)| {
            let number = file.terminal_number()?;
            (!masters.contains(&number)).then_some(((file.rdev, file.device), file))
        })
        .collect()
}

fn choose(
    tree: &Tree,
    unpaired: &BTreeMap<Device, &OpenFile>,
    ours: &[OpenFile],
) -> Result<Terminals, ProcessError> {
    let mut chosen = Terminals::default();
    for (&(rdev, dev), file) in unpaired {
        match leader(tree, rdev) {
            Leader::Outside if chosen.job_terminal => {
                return Err(ProcessError::Terminal {
                    path: file.path.clone(),
                    why: "it is the second of a session whose leader is outside the tree, and \
                          CRIU takes one; dump from the leader of the session on",
                });
            }
            Leader::Outside => chosen.job_terminal = true,
            Leader::Inside | Leader::None => chosen.external.push(External::Terminal { rdev, dev }),
        }
    }
    if chosen.job_terminal {
        return Ok(chosen);
    }
    // Only a terminal that is somebody's controlling one comes back so, and only one of them.
    let orphan = unpaired.iter().find(|&(&(rdev, _), file)| {
        leader(tree, rdev) == Leader::Inside
            && ours.iter().any(|our| {
                our.kind == FileKind::Terminal && our.master_of == file.terminal_number()
            })
    });
    if let Some((&(rdev, dev), _)) = orphan {
        chosen.orphan_pts_master = true;
        let orphan = External::Terminal { rdev, dev };
        chosen.external.retain(|external| *external != orphan);
    }
    Ok(chosen)
}

/// Where the leader of the session is that a terminal controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    Inside,
    Outside,
    /// It controls no session of the tree.
    None,
}

fn leader(tree: &Tree, rdev: u64) -> Leader {
    let terminal = packed(rdev);
    let session = tree
        .processes()
        .iter()
        .find(|process| process.terminal == terminal)
        .map(|process| process.session);
    match session {
        Some(session) if tree.contains(session) => Leader::Inside,
        Some(_) => Leader::Outside,
        None => Leader::None,
    }
}

/// A device as `/proc/PID/stat` packs it (new_encode_dev in the kernel's kdev_t.h).
fn packed(rdev: u64) -> u32 {
    let (major, minor) = (major(rdev), minor(rdev));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use rustix::fs::makedev;

    use super::*;

    #[test]
    fn a_device_is_packed_as_stat_has_it() {
        assert_eq!(packed(makedev(136, 0)), 0x8800);
        assert_eq!(packed(makedev(136, 300)), (1 << 20) | 0x8800 | 44);
    }
}
