//! What the runtimes answer: state, pids, and how they refuse.
//!
//! All three print the OCI state with `state` and a list of pids with `ps --format json`, with
//! small differences: a process that has gone has pid 0 (runc, crun) or -1 (runsc), and no pids
//! at all are `null` (runc).

use std::{io, path::Path};

use nix::unistd::Pid;
use serde::{Deserialize, de::DeserializeOwned};
use stasis_linux::file;

use crate::{
    calls::{EngineState, EngineStatus},
    command::shortened,
    error::{Error, Result},
    identity::Kind,
};

#[derive(Deserialize)]
struct OciState {
    #[serde(default)]
    pid: i32,
    status: EngineStatus,
}

/// What `state` printed.
pub(crate) fn state(engine: Kind, printed: &[u8]) -> Result<EngineState> {
    let state: OciState = json(engine, "state", printed)?;
    Ok(EngineState {
        status: state.status,
        pid: (state.pid > 0).then(|| Pid::from_raw(state.pid)),
    })
}

/// What `ps --format json` printed.
pub(crate) fn pids(engine: Kind, printed: &[u8]) -> Result<Vec<i32>> {
    Ok(json::<Option<Vec<i32>>>(engine, "ps", printed)?.unwrap_or_default())
}

/// What `features` printed.
pub(crate) fn features(engine: Kind, printed: &[u8]) -> Result<serde_json::Value> {
    json(engine, "features", printed)
}

fn json<T: DeserializeOwned>(engine: Kind, verb: &'static str, printed: &[u8]) -> Result<T> {
    serde_json::from_slice(printed).map_err(|_| Error::Answer {
        engine,
        verb,
        output: shortened(&String::from_utf8_lossy(printed)),
    })
}

/// The pid in the file that a runtime was told to write.
pub(crate) fn pid_file(engine: Kind, verb: &'static str, path: &Path) -> Result<i32> {
    /// Ten digits, and what may surround them.
    const CAP: u64 = 32;
    let written = file::open(path).and_then(|file| file::head(file, CAP));
    let written = written.map_err(Error::io("read the pid file", path))?;
    let written = String::from_utf8_lossy(&written).into_owned();
    let pid = written.trim().parse().ok().filter(|&pid| pid > 0);
    pid.ok_or(Error::Answer {
        engine,
        verb,
        output: written,
    })
}

/// Whether a runtime refused a command because it has none of that name. They say so in words
/// only: runsc of 2024-07 prints its usage, runc and crun one line.
pub(crate) fn knows_no_such_command(error: &Error) -> bool {
    const WORDS: [&str; 3] = [
        "for a list of top-level flags",
        "No help topic for",
        "unknown command",
    ];
    let Error::Failed { message, .. } = error else {
        return false;
    };
    WORDS.iter().any(|words| message.contains(words))
}

/// The error of a restore that would take the place of another container.
pub(crate) fn known_already(engine: Kind, verb: &'static str) -> Error {
    let message = "there is a container with this id already: delete it first".to_owned();
    Error::Failed {
        engine,
        verb,
        message,
    }
}

/// Whether a path is there, whatever it is.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtimes_state_is_understood() {
        for (printed, status, pid) in [
            (
                r#"{"ociVersion": "1.2.1", "id": "a", "pid": 270, "status": "created"}"#,
                EngineStatus::Created,
                Some(270),
            ),
            (
                r#"{"pid": 0, "status": "stopped", "owner": ""}"#,
                EngineStatus::Stopped,
                None,
            ),
            (
                r#"{"status": "stopped", "pid": -1}"#,
                EngineStatus::Stopped,
                None,
            ),
            (
                r#"{"status": "paused", "pid": 5, "bundle": "\/b"}"#,
                EngineStatus::Paused,
                Some(5),
            ),
        ] {
            let state = state(Kind::Runc, printed.as_bytes()).expect(printed);
            assert_eq!(
                (state.status, state.pid.map(Pid::as_raw)),
                (status, pid),
                "{printed}"
            );
        }
        let error =
            state(Kind::Crun, b"{\"pid\": 1, \"status\": \"dancing\"}").expect_err("no status");
        assert!(error.to_string().contains("dancing"), "{error}");
    }

    #[test]
    fn no_pids_are_none_in_every_notation() {
        assert_eq!(pids(Kind::Runc, b"null").expect("parses"), [0_i32; 0]);
        assert_eq!(pids(Kind::Crun, b"[\n]\n").expect("parses"), [0_i32; 0]);
        assert_eq!(pids(Kind::Runsc, b"[1,6]\n").expect("parses"), [1, 6]);
        assert!(pids(Kind::Runsc, b"[1,").is_err_and(|error| error.to_string().contains("[1,")));
    }

    #[test]
    fn a_pid_file_holds_one_pid() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (written, pid) in [
            ("12", Some(12)),
            ("12\n", Some(12)),
            ("", None),
            ("0", None),
            ("-1", None),
        ] {
            std::fs::write(file.path(), written).expect("written");
            assert_eq!(
                pid_file(Kind::Runc, "create", file.path()).ok(),
                pid,
                "{written:?}"
            );
        }
    }
}
