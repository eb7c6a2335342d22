//! A runtime for tests: a shell script that says which release it is and records how it is
//! called.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use stasis_linux::Pidfd;
use tempfile::TempDir;

use crate::{
    Afterwards, Checkpoint, CheckpointOptions, Children, Create, Engine, Error, Exec, Restore,
    Settings, Signal, Stdio, Target, Timeouts, command::tests::script, connect,
};

/// The pids that the script writes to the files that it is told.
pub(crate) const PID: i32 = 4242;
pub(crate) const INNER: i32 = 7;

/// The engine for the script, and what it was told so far.
pub(crate) struct Fake {
    directory: TempDir,
    pub(crate) engine: Arc<dyn Engine>,
    /// What the engine was connected with.
    pub(crate) settings: Settings,
}

impl Fake {
    /// A runtime that prints `version` for `--version`.
    pub(crate) async fn new(version: &str) -> Self {
        Self::with(version, |_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn with(version: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        for name in ["bundle", "root", "work", "image"] {
            fs::create_dir(path.join(name)).expect("made");
        }
        fs::write(path.join("bundle/config.json"), "{}").expect("written");
        let body = format!(
            r#"[ "$*" = --version ] && echo "{version}" && exit
cd {path}
echo "$*" >> calls
for argument; do
  case $before in
  --pid-file) echo {PID} > "$argument" ;;
  --internal-pid-file) echo {INNER} > "$argument" ;;
  esac
  before=$argument
done
for argument; do [ ! -f "on-$argument" ] || . "./on-$argument"; done"#,
            path = path.display()
        );
        let mut settings = Settings {
            binary: script(path, "runtime", &body).display().to_string(),
            root: path.join("root"),
            bundle: path.join("bundle"),
            systemd_cgroup: false,
            runsc_config: BTreeMap::new(),
            no_pivot_root: false,
            no_new_keyring: false,
            timeouts: Timeouts::default(),
            children: Children::default(),
        };
        change(&mut settings);
        let engine = connect(settings.clone()).await.expect("connects");
        Self {
            directory,
            engine,
            settings,
        }
    }

    /// Has the script do something more when it is called with this verb.
    pub(crate) fn on(&self, verb: &str, script: &str) {
        fs::write(self.path(&format!("on-{verb}")), script).expect("written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The calls so far, with `DIR` for the directory of all of this.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let directory = self.directory.path().to_str().expect("a name");
        calls
            .lines()
            .map(|call| call.replace(directory, "DIR"))
            .collect()
    }

    /// The last call, without the options before the verb.
    pub(crate) fn last(&self, globals: &str) -> String {
        let call = self.calls().pop().expect("was called");
        call.strip_prefix(globals)
            .unwrap_or_else(|| panic!("no {globals:?}: {call}"))
            .to_owned()
    }

    /// Signals the container; a target that is no process counts as one that has ended.
    pub(crate) async fn kill(&self, signal: Signal, target: Target) -> Result<(), Error> {
        let pid = match target {
            Target::Init(pid) | Target::All(pid) => pid,
            Target::Exec(pids) => pids.host,
        };
        let raw = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
        let pidfd = Pidfd::take(raw).unwrap_or_else(|_| {
            let mut child = std::process::Command::new("true").spawn().expect("starts");
            let ended = Pidfd::take(rustix::process::Pid::from_child(&child)).expect("is there");
            child.wait().expect("is reaped");
            ended
        });
        self.engine.kill("c", signal, target, pidfd.as_fd()).await
    }

    /// Why the container cannot be killed.
    pub(crate) async fn kill_fails(&self, signal: Signal, target: Target) -> Error {
        self.kill(signal, target)
            .await
            .expect_err("the signal is not sent")
    }

    pub(crate) fn create(&self) -> Create {
        Create {
            bundle: self.path("bundle"),
            pid_file: self.path("init.pid"),
            stdio: Stdio::default(),
        }
    }

    pub(crate) fn exec(&self) -> Exec {
        Exec {
            process_file: self.path("process.json"),
            pid_file: self.path("exec.pid"),
            stdio: Stdio::default(),
        }
    }

    pub(crate) fn checkpoint(&self, options: CheckpointOptions) -> Checkpoint {
        Checkpoint {
            image: self.path("image"),
            work: self.path("work"),
            bundle: self.path("bundle"),
            options,
            afterwards: Afterwards::GoesOn,
        }
    }

    pub(crate) fn restore(&self, options: CheckpointOptions) -> Restore {
        Restore {
            bundle: self.path("bundle"),
            pid_file: self.path("init.pid"),
            image: self.path("image"),
            work: self.path("work"),
            stdio: Stdio::default(),
            options,
            given_up: None,
        }
    }
}

/// What a file has, for an `assert_eq` that shows it.
pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}
