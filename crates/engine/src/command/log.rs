//! The runtime's own log, which `--log` names: its last error is the reason of a failed call.
//!
//! All three append JSON objects with `level` and `msg`. The file outlives a call, and holds
//! more than that: crashes write stack traces, and an object need not end its line. So only what
//! was added since [`Mark::set`] is read, as a stream of objects with anything between them.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    path::PathBuf,
};

use serde::Deserialize;
use stasis_linux::file;

/// What is read of a log at most: its end is what counts.
const TAIL: u64 = 256 << 10;

/// The place in a log where a call begins.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    length: u64,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

impl Mark {
    pub(super) fn set(path: PathBuf) -> Self {
        // A log that is not there is made by the call.
        let length = path.metadata().map_or(0, |metadata| metadata.len());
        Self { path, length }
    }

    /// The last error that was logged since, if there is one.
    pub(super) fn last_error(&self) -> Option<String> {
        last_error(&self.read().ok()?)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        // Shorter than before: somebody rotated it.
        let new = if length < self.length { 0 } else { self.length };
        file.seek(SeekFrom::Start(new.max(length.saturating_sub(TAIL))))?;
        file::head(file, TAIL)
    }
}

fn last_error(mut log: &[u8]) -> Option<String> {
    let mut last = None;
    while let Some(start) = log.iter().position(|&byte| byte == b'{') {
        log = &log[start..];
        let mut objects = serde_json::Deserializer::from_slice(log).into_iter::<Entry>();
        let entry = objects.next();
        // After junk the search goes on behind its brace.
        let end = if matches!(entry, Some(Ok(_))) {
            objects.byte_offset()
        } else {
            1
        };
        if let Some(Ok(entry)) = entry
            && matches!(entry.level.as_str(), "error" | "fatal" | "panic")
            && !entry.msg.trim().is_empty()
        {
            last = Some(entry.msg.trim().to_owned());
        }
        log = &log[end..];
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_wins_over_later_warnings() {
        let log = br#"{"level":"error","msg":"first","time":"t"}
{"level":"error","msg":"second","time":"t"}
{"level":"warning","msg":"third","time":"t"}
"#;
        assert_eq!(last_error(log).as_deref(), Some("second"));
    }

    #[test]
    fn junk_around_and_between_objects_is_passed_over() {
        let log = b"panic: {oops\ngoroutine 1 {x}\n{\"msg\":\"one\",\"level\":\"error\"}{\"msg\":\
            \"two {braces}\",\"level\":\"error\"} trailing {\"msg\":\"cut off";
        assert_eq!(last_error(log).as_deref(), Some("two {braces}"));
        assert_eq!(last_error(b"no object at all"), None);
    }

    #[test]
    fn only_what_a_call_added_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log.json");
        assert_eq!(Mark::set(path.clone()).last_error(), None);
        std::fs::write(&path, "{\"level\":\"error\",\"msg\":\"of before\"}\n").expect("written");
        let mark = Mark::set(path.clone());
        assert_eq!(mark.last_error(), None);
        let more =
            "{\"level\":\"error\",\"msg\":\"of before\"}\n{\"level\":\"error\",\"msg\":\"new\"}";
        std::fs::write(&path, more).expect("written");
        assert_eq!(mark.last_error().as_deref(), Some("new"));
        std::fs::write(&path, "{\"level\":\"error\",\"msg\":\"rotated\"}").expect("written");
        assert_eq!(
            Mark { path, length: 1000 }.last_error().as_deref(),
            Some("rotated")
        );
    }
}
