//! The command itself, and what comes of it.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// Says what is missing when a test is started outside of the lab.
const LAB: &str = "these tests need the lab: make test, or lab/lab run -- TEST --ignored";

/// `stasis`, which the lab's CRIU serves.
pub fn stasis<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    assert!(env::var_os("STASIS_LAB").is_some(), "{LAB}");
    let mut command = Command::new(built("stasis"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// One of the programs that are built beside the tests, wherever they were copied to together.
pub fn built(name: &str) -> PathBuf {
    let tests = env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join(name)
}

/// `stasis` with the words of `line`, when it has ended.
pub fn done(line: &str) -> Done {
    Done::from(stasis(line.split_whitespace()).output().unwrap())
}

/// What came of it.
#[derive(Debug)]
pub struct Done {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            status: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Done {
    /// What it said of its success, with nothing on standard error.
    pub fn success(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// What it said of its success as JSON.
    pub fn object(self) -> Value {
        object(&self.success())
    }

    /// The one line in which it said that it failed.
    pub fn failure(self) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (1, ""), "{self:?}");
        one_line(&self.stderr)
    }

    /// The kind and the text of a failure as JSON, which is the line on standard error too.
    pub fn failure_object(self) -> (String, String) {
        assert_eq!(self.status, 1, "{self:?}");
        let object = object(&self.stdout);
        let of = |key: &str| String::from(object[key].as_str().unwrap());
        let error = of("error");
        assert_eq!(one_line(&self.stderr), error);
        (of("kind"), error)
    }
}

/// The one line of a text, without who says it.
pub fn one_line(stderr: &str) -> String {
    let mut lines = stderr.lines();
    let line = lines.next().and_then(|line| line.strip_prefix("stasis: "));
    assert_eq!(lines.next(), None, "{stderr}");
    String::from(line.unwrap_or_else(|| panic!("{stderr}")))
}

fn object(stdout: &str) -> Value {
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(stdout).unwrap()
}

/// A directory for a test, on tmpfs.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As [`Scratch::path`], as a word of a command line.
    pub fn word(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }
}

/// The names in a directory.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
