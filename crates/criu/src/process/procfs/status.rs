//! `/proc/PID/status`: whom a process runs as.

use super::text;

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

impl Ids {
    pub(crate) fn parse(status: &[u8]) -> Option<Self> {
        let field = |name: &str| {
            let line = status
                .split(|&byte| byte == b'\n')
                .find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))?;
            line.split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty())
                .map(text)
                .collect::<Option<Vec<u32>>>()
        };
        Some(Self {
            users: field("Uid")?,
            groups: field("Gid")?,
            supplementary: field("Groups")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found() {
        let text = b"Name:\tGid: 7\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t7\t8\n\
            FDSize:\t256\nGroups:\t4 24 \nNStgid:\t9\n";
        assert_eq!(
            Ids::parse(text).unwrap(),
            Ids {
                users: vec![1000, 0, 0, 0],
                groups: vec![5, 6, 7, 8],
                supplementary: vec![4, 24],
            }
        );
    }

    #[test]
    fn no_supplementary_groups_are_none() {
        let ids = Ids::parse(b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t \n").unwrap();
        assert!(ids.supplementary.is_empty());
        assert_eq!(Ids::parse(b"Uid:\t0\nGid:\t0\n"), None);
    }
}
