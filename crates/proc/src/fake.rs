//! An engine for tests: its containers are shell scripts, and it records what it is asked.
//!
//! The script of a container is the file `init.sh` in its bundle; a created one waits until it is
//! started. An exec runs the script that is the last of its document's `args`. A verb can be made
//! to fail, or held up until the test lets it go. If `pid` is made to fail, the pids of containers
//! that it gives are nobody's; if `death` is, those that a checkpoint kills go on.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::Write as _,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio as StdStdio},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal as NixSignal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use stasis_engine::{
    Afterwards, Checkpoint, CheckpointOptions, CheckpointReport, Create, Engine, EngineState,
    Error, Exec, ExecPids, Identity, Kind, Restore, Result, Signal, Stdio, Target,
};
use tokio::sync::{Semaphore, watch};

/// The engine. Its containers' processes are children of the test, and reaped by who adopts them.
#[derive(Debug)]
pub struct FakeEngine {
    calls: watch::Sender<Vec<String>>,
    failing: Mutex<HashSet<&'static str>>,
    gates: Mutex<HashMap<&'static str, Arc<Semaphore>>>,
    containers: Mutex<HashMap<String, Container>>,
}

#[derive(Debug)]
struct Container {
    pid: Pid,
    /// The FIFO from which a created script waits for a line.
    go: Option<File>,
}

impl FakeEngine {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            calls: watch::Sender::new(Vec::new()),
            failing: Mutex::default(),
            gates: Mutex::default(),
            containers: Mutex::default(),
        })
    }

    /// Makes `verb`, or one call of it as it is recorded, fail from now on.
    pub fn fail(&self, verb: &'static str) {
        self.failing.lock().unwrap().insert(verb);
    }

    /// Lets `verb` work again.
    pub fn mend(&self, verb: &'static str) {
        self.failing.lock().unwrap().remove(verb);
    }

    /// Holds `verb` up, after it was recorded, until a permit is added to the semaphore.
    pub fn hold(&self, verb: &'static str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.gates.lock().unwrap().insert(verb, Arc::clone(&gate));
        gate
    }

    /// What it was asked so far.
    pub fn calls(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    /// Waits until it is asked for `call`.
    pub async fn called(&self, call: &str) {
        let mut calls = self.calls.subscribe();
        calls
            .wait_for(|calls| calls.iter().any(|one| one == call))
            .await
            .unwrap();
    }

    /// Records a call, waits at its gate, and fails if it was told to.
    async fn enter(&self, verb: &'static str, call: String) -> Result<()> {
        self.calls.send_modify(|calls| calls.push(call.clone()));
        let gate = self.gates.lock().unwrap().get(verb).cloned();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        let failing = self.failing.lock().unwrap();
        if failing.contains(verb) || failing.contains(&*call) {
            return Err(failure(verb));
        }
        Ok(())
    }

    fn pid(&self, id: &str) -> Option<Pid> {
        self.containers
            .lock()
            .unwrap()
            .get(id)
            .map(|container| container.pid)
    }

    /// Kills a container after its checkpoint.
    fn end(&self, pid: Pid) {
        if !self.failing.lock().unwrap().contains("death") {
            kill(pid, NixSignal::SIGKILL).unwrap();
        }
    }

    /// Remembers a container, and gives the pid to tell of it.
    fn keep(&self, id: &str, pid: Pid, go: Option<File>) -> Pid {
        self.containers
            .lock()
            .unwrap()
            .insert(id.to_owned(), Container { pid, go });
        let lost = self.failing.lock().unwrap().contains("pid");
        if lost { Pid::from_raw(i32::MAX) } else { pid }
    }
}

/// The error of a verb that was told to fail.
fn failure(verb: &'static str) -> Error {
    Error::Failed {
        engine: Kind::Runc,
        verb,
        message: "as the test wants it".to_owned(),
    }
}

/// Runs a shell script, with no more descriptors than a runtime would leave it.
#[expect(clippy::zombie_processes, reason = "who adopts it reaps it")]
fn shell(script: &str, stdio: Stdio) -> Pid {
    let or_null = |fd: Option<OwnedFd>| fd.map_or_else(StdStdio::null, StdStdio::from);
    let child = Command::new("sh")
        .args(["-c", script])
        .stdin(or_null(stdio.stdin))
        .stdout(or_null(stdio.stdout))
        .stderr(or_null(stdio.stderr))
        .spawn()
        .unwrap();
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn script(bundle: &Path) -> String {
    std::fs::read_to_string(bundle.join("init.sh")).unwrap()
}

fn io(path: PathBuf) -> impl FnOnce(std::io::Error) -> Error {
    Error::io("open", path)
}

#[async_trait]
impl Engine for FakeEngine {
    fn identity(&self) -> &Identity {
        unreachable!("no test asks for it")
    }

    fn prepare_spec(&self, _bundle: &Path, _spec: &mut serde_json::Value) -> Result<bool> {
        Ok(false)
    }

    fn check_options(&self, _options: &CheckpointOptions) -> Result<()> {
        Ok(())
    }

    async fn create(&self, id: &str, request: Create) -> Result<Pid> {
        self.enter("create", format!("create {id}")).await?;
        let path = request.bundle.join("go");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let go = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io(path.clone()))?;
        let script = format!(
            "read go < '{}'; {}",
            path.display(),
            script(&request.bundle)
        );
        let pid = shell(&script, request.stdio);
        std::fs::write(request.pid_file, pid.to_string()).unwrap();
        Ok(self.keep(id, pid, Some(go)))
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.enter("start", format!("start {id}")).await?;
        let mut containers = self.containers.lock().unwrap();
        let go = containers
            .get_mut(id)
            .and_then(|container| container.go.as_mut());
        go.unwrap().write_all(b"go\n").unwrap();
        Ok(())
    }

    async fn exec(&self, id: &str, request: Exec) -> Result<ExecPids> {
        let document = std::fs::read_to_string(&request.process_file).unwrap();
        self.enter("exec", format!("exec {id} {document}")).await?;
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        let script = document["args"]
            .as_array()
            .and_then(|args| args.last())
            .unwrap();
        let host = shell(script.as_str().unwrap(), request.stdio);
        std::fs::write(request.pid_file, host.to_string()).unwrap();
        Ok(ExecPids { host, inner: 7 })
    }

    async fn kill(
        &self,
        id: &str,
        signal: Signal,
        target: Target,
        _pidfd: BorrowedFd<'_>,
    ) -> Result<()> {
        let (whom, pid) = match target {
            Target::Init(pid) => ("init", pid),
            Target::All(pid) => ("all", pid),
            Target::Exec(pids) => ("exec", pids.host),
        };
        self.enter("kill", format!("kill {id} {} {whom}", signal.number()))
            .await?;
        let signal = NixSignal::try_from(signal.number()).unwrap();
        let sent = kill(pid, signal);
        if sent == Err(Errno::ESRCH) {
            return Err(Error::NoSuchProcess { id: id.to_owned() });
        }
        sent.unwrap();
        Ok(())
    }

    async fn delete(&self, id: &str, force: bool) -> Result<()> {
        self.enter("delete", format!("delete {id} {force}")).await?;
        if let Some(container) = self.containers.lock().unwrap().remove(id) {
            let _ = kill(container.pid, NixSignal::SIGKILL);
        }
        Ok(())
    }

    async fn state(&self, _id: &str) -> Result<EngineState> {
        unreachable!("no test asks for it")
    }

    async fn processes(&self, id: &str) -> Result<Vec<i32>> {
        self.enter("processes", format!("processes {id}")).await?;
        Ok(self.pid(id).map(Pid::as_raw).into_iter().collect())
    }

    async fn pause(&self, id: &str, _init: Pid) -> Result<()> {
        self.enter("pause", format!("pause {id}")).await
    }

    async fn resume(&self, id: &str) -> Result<()> {
        self.enter("resume", format!("resume {id}")).await
    }

    async fn checkpoint(&self, id: &str, request: &Checkpoint) -> Result<CheckpointReport> {
        self.enter(
            "checkpoint",
            format!("checkpoint {id} {}", request.image.display()),
        )
        .await?;
        if self.failing.lock().unwrap().contains("put back") {
            return Err(Error::Left {
                id: id.to_owned(),
                frozen: request.afterwards == Afterwards::GoesOn,
                source: Box::new(failure("checkpoint")),
            });
        }
        if request.afterwards.ends_by_criu() {
            self.end(self.pid(id).unwrap());
        }
        Ok(CheckpointReport::default())
    }

    async fn restore(&self, id: &str, request: Restore) -> Result<Pid> {
        let call = format!("restore {id} {}", request.image.display());
        tokio::select! {
            entered = self.enter("restore", call) => entered?,
            Ok(()) = request.given_up.unwrap() => return Err(failure("restore")),
        }
        let pid = shell(&script(&request.bundle), request.stdio);
        Ok(self.keep(id, pid, None))
    }

    async fn end_frozen(&self, id: &str, init: Pid, _pidfd: BorrowedFd<'_>) -> Result<()> {
        self.enter("end_frozen", format!("end_frozen {id}")).await?;
        self.end(init);
        Ok(())
    }

    async fn features(&self) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }
}
