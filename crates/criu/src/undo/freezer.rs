//! The freezer cgroup by which CRIU holds processes still until it traces them all
//! (`freeze_cgroup`). It thaws it then, and freezes it again in the end if it was frozen; a killed
//! CRIU leaves it either way. Source: `criu/seize.c`, CRIU 4.2.

use std::path::Path;

use stasis_linux::cgroup::Freezer;

use super::leftover::Leftover;

/// A freezer, as it was before the dump.
#[derive(Debug)]
pub(crate) struct FreezerRecovery {
    freezer: Freezer,
    was_frozen: bool,
}

impl FreezerRecovery {
    /// The freezer `directory`, if it is one and says how it is.
    pub fn of(directory: &Path) -> Option<Self> {
        let freezer = Freezer::at(directory)?;
        let was_frozen = freezer.is_told().ok()?;
        Some(Self {
            freezer,
            was_frozen,
        })
    }

    /// Thaws it: what is frozen cannot be set right.
    pub fn thaw(&self) {
        // Whether it could be tells the next step.
        let _ = self.freezer.thaw();
    }

    /// Makes it what it was.
    pub fn restore(self) -> Option<Leftover> {
        let restored = match self.was_frozen {
            true => self.freezer.freeze(),
            false => self.freezer.thaw(),
        };
        restored.is_err().then(|| {
            let (file, word) = self.freezer.word(self.was_frozen);
            let command = format!("echo {word} > {}", file.display());
            Leftover::Freezer { command }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The file of a freezer, what says that it is told to freeze, and its states, thawed and
    /// frozen.
    const FREEZERS: [(&str, &str, [&str; 2]); 2] = [
        (
            "freezer.state",
            "freezer.self_freezing",
            ["THAWED", "FROZEN"],
        ),
        ("cgroup.freeze", "cgroup.freeze", ["0", "1"]),
    ];

    #[test]
    fn a_freezer_becomes_what_it_was() {
        for (name, told, states) in FREEZERS {
            for (state, is_told) in states.into_iter().zip(["0", "1"]) {
                let directory = tempfile::tempdir().unwrap();
                let file = directory.path().join(name);
                fs::write(&file, format!("{state}\n")).unwrap();
                fs::write(directory.path().join(told), format!("{is_told}\n")).unwrap();
                let freezer = FreezerRecovery::of(directory.path()).unwrap();
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
    }

    #[test]
    fn one_that_is_out_of_reach_is_named_with_what_sets_it_right() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cgroup.freeze");
        fs::write(&file, "0\n").unwrap();
        let freezer = FreezerRecovery::of(directory.path()).unwrap();
        drop(directory);
        let command = format!("echo 0 > {}", file.display());
        assert_eq!(freezer.restore(), Some(Leftover::Freezer { command }));
    }
}
