//! Which runtime a binary is, by what it says itself and not by its name.
//!
//! `--version` prints `NAME version VERSION` first: seen of runc 1.1.15 and 1.3.6, crun 1.21 and
//! 1.28, and runsc of 2024-07 and 2026-07.

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{AccessFlags, access};

use crate::{
    children::Children,
    command,
    error::{Error, Result},
};

/// A binary that has not said what it is by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// The runtimes that this crate drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// gVisor's runsc.
    Runsc,
    /// Open Containers' runc.
    Runc,
    /// crun.
    Crun,
}

impl Kind {
    /// The runtime's own name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runsc => "runsc",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The runtime with that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Runsc, Self::Runc, Self::Crun]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A runtime's version, as it said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    raw: String,
    numbers: Option<(u64, u64)>,
}

impl Version {
    /// Takes the word that follows `version`.
    #[must_use]
    pub fn new(raw: &str) -> Self {
        let digits = raw.strip_prefix("release-").unwrap_or(raw);
        let mut parts = digits.split(|character: char| !character.is_ascii_digit());
        let mut next = || parts.next().and_then(|part| part.parse().ok());
        Self {
            raw: raw.to_owned(),
            numbers: next().map(|major| (major, next().unwrap_or(0))),
        }
    }

    /// The version as the runtime says it: `1.3.6+ds1`, or of runsc `release-20240729.0`,
    /// `0.0~20240729` and, where it was built as a Go module, always `VERSION_MISSING`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Its first two numbers, where it has any.
    #[must_use]
    pub fn numbers(&self) -> Option<(u64, u64)> {
        self.numbers
    }

    /// Whether the version is known and less than `MAJOR.MINOR`.
    #[must_use]
    pub fn is_before(&self, major: u64, minor: u64) -> bool {
        self.numbers.is_some_and(|numbers| numbers < (major, minor))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.raw)
    }
}

/// A binary that said what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The absolute path.
    pub binary: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Which release.
    pub version: Version,
}

/// Looks `binary`, a path or a name in `PATH`, up and asks it what it is.
///
/// # Errors
/// [`Error::Binary`] if it is missing, not executable or silent, [`Error::UnknownRuntime`] if it
/// is something else, [`Error::Io`] if the system cannot run it now.
pub async fn identify(binary: &str, children: &Children) -> Result<Identity> {
    let path = find(binary).map_err(|source| Error::Binary {
        binary: binary.to_owned(),
        source,
    })?;
    let printed = command::output(binary, &path, "--version", children, PATIENCE).await?;
    match parse(&printed) {
        Some((kind, version)) => Ok(Identity {
            binary: path,
            kind,
            version,
        }),
        None => {
            let output = printed
                .lines()
                .next()
                .map(command::shortened)
                .unwrap_or_default();
            Err(Error::UnknownRuntime {
                binary: path,
                output,
            })
        }
    }
}

/// Makes `program` absolute, by `PATH` where it is a name only.
pub(crate) fn find(program: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        let path = std::path::absolute(program)?;
        return executable(&path).map(|()| path);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "there is none in PATH");
    for directory in env::split_paths(&path).filter(|directory| directory.is_absolute()) {
        let candidate = directory.join(program);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn executable(path: &Path) -> io::Result<()> {
    if path.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(access(path, AccessFlags::X_OK)?)
}

fn parse(printed: &str) -> Option<(Kind, Version)> {
    let mut words = printed.lines().next()?.split_whitespace();
    let kind = Kind::from_name(words.next()?)?;
    let version = words.nth(1)?;
    Some((kind, Version::new(version)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::script;

    #[test]
    fn every_runtime_is_known_by_what_it_prints() {
        for (printed, kind, version, numbers) in [
            (
                "runc version 1.3.6+ds1\ncommit: 1.3.6+ds1-1\n",
                Kind::Runc,
                "1.3.6+ds1",
                Some((1, 3)),
            ),
            (
                "runc version 1.1.15+ds1\nspec: 1.0.2-dev\n",
                Kind::Runc,
                "1.1.15+ds1",
                Some((1, 1)),
            ),
            (
                "crun version 1.28\ncommit: a\n+SYSTEMD +CRIU\n",
                Kind::Crun,
                "1.28",
                Some((1, 28)),
            ),
            (
                "runsc version 0.0~20240729\nspec: 1.1.0\n",
                Kind::Runsc,
                "0.0~20240729",
                Some((0, 0)),
            ),
            (
                "runsc version VERSION_MISSING\n",
                Kind::Runsc,
                "VERSION_MISSING",
                None,
            ),
            (
                "runsc version release-20240729.0\n",
                Kind::Runsc,
                "release-20240729.0",
                Some((20_240_729, 0)),
            ),
        ] {
            let (found, parsed) = parse(printed).expect(printed);
            assert_eq!(
                (found, parsed.as_str(), parsed.numbers()),
                (kind, version, numbers)
            );
        }
        assert_eq!(parse("youki version: 0.5.0\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert!(Version::new("1.1.15+ds1").is_before(1, 2));
        assert!(!Version::new("1.10.0").is_before(1, 2));
        assert!(!Version::new("VERSION_MISSING").is_before(1, 2));
    }

    #[tokio::test]
    async fn the_name_of_the_file_does_not_matter() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = script(directory.path(), "runc", "echo crun version 1.28");
        let name = path.to_str().expect("a name");
        let found = identify(name, &Children::default())
            .await
            .expect("is a runtime");
        assert_eq!((found.kind, found.binary), (Kind::Crun, path));
    }

    #[tokio::test]
    async fn what_is_no_runtime_is_refused_with_what_it_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = script(
            directory.path(),
            "runc",
            "echo busybox; echo runc version 1",
        );
        let error = identify(path.to_str().expect("a name"), &Children::default()).await;
        let message = error.expect_err("is none").to_string();
        assert!(
            message.contains("neither runsc, runc nor crun"),
            "{message}"
        );
        assert!(message.contains("busybox"), "{message}");
    }

    #[tokio::test]
    async fn a_missing_binary_is_named() {
        for binary in ["no-such-runtime", "/no/such/runtime", "/etc/passwd", "/usr"] {
            let error = identify(binary, &Children::default())
                .await
                .expect_err("is none");
            assert!(matches!(error, Error::Binary { .. }), "{error:?}");
            assert!(error.to_string().contains(binary), "{error}");
        }
    }
}
