//! The freezer cgroup by which CRIU holds processes still until it traces them all
//! (`freeze_cgroup`). It thaws it then, and freezes it again in the end if it was frozen; a killed
//! CRIU leaves it either way. Source: `criu/seize.c`, CRIU 4.2.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::leftover::Leftover;

/// The file of a freezer, and its two states: thawed, and frozen. Version 1
/// (`cgroup-v1/freezer-subsystem.rst` of the kernel) and version 2 (`cgroup-v2.rst`).
const FREEZERS: [(&str, [&str; 2]); 2] = [
    ("freezer.state", ["THAWED", "FROZEN"]),
    ("cgroup.freeze", ["0", "1"]),
];

/// A freezer, as it was before the dump.
#[derive(Debug)]
pub(crate) struct Freezer {
    file: PathBuf,
    before: &'static str,
    thawed: &'static str,
}

impl Freezer {
    /// The freezer `directory`, if it is one.
    pub fn of(directory: &Path) -> Option<Self> {
        FREEZERS.into_iter().find_map(|(name, states)| {
            let file = directory.join(name);
            let is = fs::read_to_string(&file).ok()?;
            let before = states.into_iter().find(|state| is.trim() == *state)?;
            let [thawed, _] = states;
            Some(Self {
                file,
                before,
                thawed,
            })
        })
    }

    /// Thaws it: what is frozen cannot be set right.
    pub fn thaw(&self) {
        // Whether it could be tells the next step.
        let _ = fs::write(&self.file, self.thawed);
    }

    /// Makes it what it was.
    pub fn restore(self) -> Option<Leftover> {
        fs::write(&self.file, self.before)
            .is_err()
            .then(|| Leftover::Freezer {
                command: format!("echo {} > {}", self.before, self.file.display()),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freezer_becomes_what_it_was() {
        let cases = FREEZERS.map(|(name, states)| states.map(|state| (name, state)));
        for (name, state) in cases.concat() {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join(name);
            fs::write(&file, format!("{state}\n")).unwrap();
            let freezer = Freezer::of(directory.path()).unwrap();
            for other in ["FROZEN", "THAWED", "0", "1"] {
                fs::write(&file, other).unwrap();
            }
            freezer.thaw();
            let thawed = fs::read_to_string(&file).unwrap();
            assert!(["THAWED", "0"].contains(&&*thawed), "{thawed}");
            assert_eq!(freezer.restore(), None);
            assert_eq!(fs::read_to_string(&file).unwrap(), state);
        }
    }

    #[test]
    fn one_that_is_out_of_reach_is_named_with_what_sets_it_right() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cgroup.freeze");
        fs::write(&file, "0\n").unwrap();
        let freezer = Freezer::of(directory.path()).unwrap();
        drop(directory);
        let command = format!("echo 0 > {}", file.display());
        assert_eq!(freezer.restore(), Some(Leftover::Freezer { command }));
    }
}
