//! `/proc/PID/status`: a heading and its values on each line.

use crate::lines::text;

/// The users and groups of a process: real, effective, saved and file system's, then the
/// supplementary groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// Users.
    pub users: Vec<u32>,
    /// Groups.
    pub groups: Vec<u32>,
    /// Supplementary groups.
    pub supplementary: Vec<u32>,
}

/// What is used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whom it runs as.
    pub ids: Ids,
    /// Its number in the innermost of its PID namespaces.
    pub inner_pid: u32,
    /// The signals that wait for the whole process, signal 1 the lowest bit.
    pending: u64,
}

impl Status {
    /// Understands the file, if it has all that is used of it.
    pub fn parse(status: &[u8]) -> Option<Self> {
        let words = |name: &str| {
            let line = status
                .split(|&byte| byte == b'\n')
                .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
            let words = line.split(u8::is_ascii_whitespace);
            Some(words.filter(|word| !word.is_empty()))
        };
        let numbers = |name| words(name)?.map(text).collect::<Option<Vec<u32>>>();
        let pending = std::str::from_utf8(words("ShdPnd")?.next()?).ok()?;
        Some(Self {
            ids: Ids {
                users: numbers("Uid")?,
                groups: numbers("Gid")?,
                supplementary: numbers("Groups")?,
            },
            inner_pid: *numbers("NSpid")?.last()?,
            pending: u64::from_str_radix(pending, 16).ok()?,
        })
    }

    /// Has it been killed? SIGKILL waits until the process is gone.
    pub fn is_killed(&self) -> bool {
        const KILL: u64 = 1 << (9 - 1);
        self.pending & KILL != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(groups: &str, numbers: &str, pending: &str) -> String {
        format!(
            "Name:\tGid: 7\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t7\t8\n\
             FDSize:\t256\nGroups:\t{groups}\nNStgid:\t9\nNSpid:\t{numbers}\nNSpgid:\t1\n\
             SigPnd:\t0000000000000100\nShdPnd:\t{pending}\n"
        )
    }

    fn parse(groups: &str, numbers: &str, pending: &str) -> Option<Status> {
        Status::parse(status(groups, numbers, pending).as_bytes())
    }

    #[test]
    fn users_and_groups_are_found() {
        let of = |groups| parse(groups, "9", "0").unwrap().ids;
        let ids = Ids {
            users: vec![1000, 0, 0, 0],
            groups: vec![5, 6, 7, 8],
            supplementary: vec![4, 24],
        };
        assert_eq!(of("4 24 "), ids);
        assert!(of(" ").supplementary.is_empty());
    }

    #[test]
    fn a_process_is_known_by_its_number_in_its_own_namespace() {
        let of = |numbers| parse("", numbers, "0").map(|status| status.inner_pid);
        assert_eq!(of("4711\t12\t1"), Some(1));
        assert_eq!(of("4711"), Some(4711));
        assert_eq!(of(""), None);
    }

    #[test]
    fn who_has_been_killed_is_found_by_what_waits_for_the_whole_process() {
        let of = |pending| parse("", "9", pending).map(|status| status.is_killed());
        assert_eq!(of("0000000000000000"), Some(false));
        assert_eq!(of("0000000000004000"), Some(false));
        assert_eq!(of("0000000000000100"), Some(true));
        assert_eq!(of("none"), None);
    }

    #[test]
    fn a_status_without_a_heading_is_none() {
        let whole = status("", "9", "0");
        assert!(Status::parse(whole.as_bytes()).is_some());
        for heading in ["\nUid", "\nGid", "\nGroups", "\nNSpid", "\nShdPnd"] {
            let without = whole.replace(heading, "\nX");
            assert_eq!(Status::parse(without.as_bytes()), None, "{heading}");
        }
    }
}
