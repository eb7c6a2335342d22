//! Which runtime a binary is, by what it says itself and not by its name.
//!
//! `--version` prints `NAME version VERSION` first: seen of runc 1.1.15 and 1.3.6, crun 1.21 and
//! 1.28, and runsc of 2024-07 and 2026-07. What a binary said is kept until it changes.

mod known;

use std::{
    env, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{AccessFlags, access};

use crate::{
    children::Children,
    command,
    error::{Error, Result},
    identify::known::Known,
    identity::{Identity, Kind, RuntimeVersion, Stamp},
};

/// A binary that has not said what it is by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks `binary`, a path or a name in `PATH`, up and says what it is: as it said before, where it
/// is the same file still, or else as it says when it is asked.
///
/// # Errors
/// [`Error::Binary`] if it is missing, not executable or silent, [`Error::UnknownRuntime`] if it
/// is something else, [`Error::Io`] if the system cannot run it now.
pub async fn identify(binary: &str, children: &Children) -> Result<Identity> {
    identify_by(&Known::default(), binary, children).await
}

async fn identify_by(known: &Known, binary: &str, children: &Children) -> Result<Identity> {
    let path = find(binary).map_err(|source| Error::Binary {
        binary: binary.to_owned(),
        source,
    })?;
    let stamp = Stamp::of(&path);
    if let Some(identity) = stamp.as_ref().and_then(|now| known.recall(&path, now)) {
        return Ok(identity);
    }
    let mut identity = ask(binary, path, children).await?;
    // One that was replaced meanwhile may have answered as either.
    identity.stamp = stamp.filter(|before| Stamp::of(&identity.binary).as_ref() == Some(before));
    if identity.stamp.is_some()
        && let Err(error) = known.keep(&identity)
    {
        tracing::debug!(%error, "what {binary} is has to be asked again");
    }
    Ok(identity)
}

async fn ask(binary: &str, path: PathBuf, children: &Children) -> Result<Identity> {
    let printed = command::output(binary, &path, "--version", children, PATIENCE).await?;
    match parse(&printed) {
        Some((kind, version)) => Ok(Identity {
            binary: path,
            kind,
            version,
            stamp: None,
        }),
        None => Err(Error::UnknownRuntime {
            binary: path,
            output: command::shortened(&printed),
        }),
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

fn parse(printed: &str) -> Option<(Kind, RuntimeVersion)> {
    let mut words = printed.lines().next()?.split_whitespace();
    let kind = Kind::from_name(words.next()?)?;
    let version = words.nth(1)?;
    Some((kind, RuntimeVersion::new(version)))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

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

    /// A compiled runtime that says this version, and adds a byte to the file `asked` with each
    /// call.
    fn compiled(directory: &Path, version: &str) -> String {
        let asked = directory.join("asked");
        let source = format!(
            "#include <stdio.h>\nint main(void) {{\n\
             FILE *asked = fopen(\"{}\", \"a\"); fputc('.', asked); fclose(asked);\n\
             puts(\"runc version {version}\"); return 0; }}\n",
            asked.display()
        );
        let (aside, path) = (directory.join("aside"), directory.join("runtime"));
        let c = directory.join("runtime.c");
        fs::write(&c, source).expect("written");
        // Rust's own linker.
        let made = Command::new("cc").arg("-o").args([&aside, &c]).status();
        assert!(made.expect("cc runs").success());
        fs::rename(aside, &path).expect("renamed");
        path.to_str().expect("a name").to_owned()
    }

    #[tokio::test]
    async fn a_binary_is_asked_once_and_again_when_it_was_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let known = Known::at(directory.path().join("known"));
        let asked = || {
            fs::read(directory.path().join("asked"))
                .expect("was asked")
                .len()
        };
        let children = Children::default();
        for (version, times) in [("1.3.6", 1), ("1.4.0", 2)] {
            let binary = compiled(directory.path(), version);
            for _ in 0..3 {
                let identity = identify_by(&known, &binary, &children)
                    .await
                    .expect("is a runtime");
                assert_eq!(identity.version.as_str(), version);
                assert!(identity.holds());
                assert_eq!(asked(), times);
            }
        }
        // As in the record of a bundle, which outlives the shim.
        let binary = directory.path().join("runtime");
        let record = identify_by(&known, binary.to_str().expect("a name"), &children).await;
        let record = serde_json::to_string(&record.expect("is known")).expect("is written");
        let read: Identity = serde_json::from_str(&record).expect("is read");
        assert!(read.holds());
        compiled(directory.path(), "1.4.1");
        assert!(!read.holds());
        assert_eq!(asked(), 2);
    }

    #[tokio::test]
    async fn a_script_is_asked_every_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let known = Known::at(directory.path().join("known"));
        let asked = directory.path().join("asked");
        let body = format!("echo >> {}; echo runc version 1.3.6", asked.display());
        let binary = script(directory.path(), "runtime", &body);
        for times in 1..=2 {
            let binary = binary.to_str().expect("a name");
            let identity = identify_by(&known, binary, &Children::default()).await;
            assert!(!identity.expect("is a runtime").holds());
            assert_eq!(fs::read(&asked).expect("was asked").len(), times);
        }
    }

    #[tokio::test]
    async fn what_others_could_have_written_is_not_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("known");
        let known = Known::at(&place);
        let binary = compiled(directory.path(), "1.3.6");
        let identify = async || {
            let found = identify_by(&known, &binary, &Children::default()).await;
            assert_eq!(found.expect("is a runtime").version.as_str(), "1.3.6");
            fs::read(directory.path().join("asked"))
                .expect("was asked")
                .len()
        };
        assert_eq!((identify().await, identify().await), (1, 1));
        let entry = fs::read_dir(&place).expect("is listed").flatten().next();
        let file = entry.expect("is kept").path();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        };
        set(&place, 0o770);
        assert_eq!((identify().await, identify().await), (2, 3));
        set(&place, 0o700);
        set(&file, 0o620);
        assert_eq!(
            (identify().await, identify().await),
            (4, 4),
            "it is written anew"
        );
        for broken in ["", "{", "[1]"] {
            let times = identify().await;
            fs::write(&file, broken).expect("written");
            assert_eq!((identify().await, identify().await), (times + 1, times + 1));
        }
        let elsewhere = directory.path().join("elsewhere");
        fs::rename(&place, &elsewhere).expect("renamed");
        std::os::unix::fs::symlink(&elsewhere, &place).expect("linked");
        let times = identify().await;
        assert_eq!(identify().await, times + 1);
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
