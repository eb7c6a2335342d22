//! Which CRIU it is.

use std::fmt;

use crate::rpc;

/// A release of CRIU, as it tells it over RPC.
///
/// Versions compare by number; what a build from git adds does not count.
///
/// ```
/// use stasis_criu::Version;
///
/// let version = Version::new(4, 2, 1);
/// assert_eq!(version.to_string(), "4.2.1");
/// assert_eq!(version.as_integer(), 40201);
/// assert!(version.is_at_least(3, 19));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number, 0 if there is none.
    pub sublevel: u32,
    /// The commit, if it was built from git and not from a release.
    pub gitid: Option<String>,
    /// What a maintenance release counts besides.
    pub extra: Option<u32>,
    /// The release's name, say "CRIUTIBILITY".
    pub name: Option<String>,
}

impl Version {
    /// A release.
    #[must_use]
    pub fn new(major: u32, minor: u32, sublevel: u32) -> Self {
        Self {
            major,
            minor,
            sublevel,
            gitid: None,
            extra: None,
            name: None,
        }
    }

    /// The version as one integer, `major * 10000 + minor * 100 + sublevel`, as go-criu has it: a
    /// build from git counts as the next minor release, whose features it may have.
    #[must_use]
    pub fn as_integer(&self) -> u32 {
        let release = self
            .major
            .saturating_mul(10_000)
            .saturating_add(self.minor.saturating_mul(100));
        match self.gitid {
            Some(_) => release.saturating_add(100),
            None => release.saturating_add(self.sublevel),
        }
    }

    /// Whether this is release `major.minor` or a later one.
    #[must_use]
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        self.as_integer() >= Self::new(major, minor, 0).as_integer()
    }

    /// `None` if a number is negative, which no CRIU sends.
    pub(crate) fn from_rpc(version: rpc::CriuVersion) -> Option<Self> {
        let number = |number: i32| u32::try_from(number).ok();
        Some(Self {
            major: number(version.major_number)?,
            minor: number(version.minor_number)?,
            sublevel: version.sublevel.map_or(Some(0), number)?,
            gitid: version.gitid.filter(|id| !id.is_empty()),
            extra: version.extra.map_or(Some(None), |n| number(n).map(Some))?,
            name: version.name.filter(|name| !name.is_empty()),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.sublevel > 0 {
            write!(f, ".{}", self.sublevel)?;
        }
        if let Some(gitid) = &self.gitid {
            write!(f, " ({gitid})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_from_git_counts_as_the_next_minor_release() {
        let mut version = Version::new(3, 17, 1);
        assert_eq!(version.as_integer(), 31_701);
        version.gitid = Some(String::from("v3.17.1-5-gabc"));
        assert_eq!(version.as_integer(), 31_800);
        assert!(version.is_at_least(3, 18));
    }

    #[test]
    fn a_version_with_a_negative_number_is_none() {
        let version = rpc::CriuVersion {
            major_number: -1,
            ..rpc::CriuVersion::default()
        };
        assert_eq!(Version::from_rpc(version), None);
    }
}
