//! A shim that is driven by its own socket, as containerd drives it.
//!
//! The messages of the task service are the same in its versions 2 and 3; gVisor's shim knows the
//! former only.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow};
use containerd_shim_protos::{
    api,
    protobuf::{Message, well_known_types::any::Any},
    ttrpc::{
        self, Client,
        proto::{KeyValue, Request},
    },
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    bundle::Bundle,
    command::{self, DEADLINE, Ended},
    containerd::{Containerd, NAMESPACE, path_with},
    peer::{Engine, Peer},
};

/// How shims of one peer are started.
#[derive(Debug)]
pub struct Starter {
    binary: PathBuf,
    address: PathBuf,
    path: String,
}

/// A shim that serves.
pub struct Shim {
    client: Client,
    service: &'static str,
    id: String,
}

/// What the shim says of what it cannot do.
pub type Answer<T> = Result<T, String>;

impl Starter {
    /// Events go to that containerd; the engine is the one in PATH.
    pub fn new(containerd: &Containerd, peer: Peer) -> Result<Self> {
        Self::with_programs(containerd, peer, &programs(peer.engine)?)
    }

    /// The same with a directory first in PATH.
    pub fn with_programs(containerd: &Containerd, peer: Peer, first: &Path) -> Result<Self> {
        Ok(Self {
            binary: containerd.bin().join(peer.engine.shim_name()),
            address: containerd.address(),
            path: path_with(first)?,
        })
    }

    /// Starts a shim for a bundle.
    pub fn start(&self, bundle: &Bundle) -> Result<Shim> {
        let started = command::run(self.command(bundle).arg("start"))?.ok()?;
        let reply = started.stdout.trim();
        let address = match serde_json::from_str::<Value>(reply) {
            Ok(reply) => reply["address"].as_str().unwrap_or_default().to_owned(),
            Err(_) => reply.to_owned(),
        };
        let client = Client::connect(&address)
            .map_err(|error| anyhow!("cannot connect to {address}: {error}"))?;
        let mut shim = Shim {
            client,
            service: "containerd.task.v3.Task",
            id: bundle.id.clone(),
        };
        if shim.pid().is_err() {
            shim.service = "containerd.task.v2.Task";
        }
        Ok(shim)
    }

    /// The action `delete`, which containerd starts after the shim has gone.
    pub fn delete(&self, bundle: &Bundle) -> Result<Ended> {
        let mut command = self.command(bundle);
        command.arg("-bundle").arg(&bundle.directory).arg("delete");
        command::run(&mut command)?.ok()
    }

    fn command(&self, bundle: &Bundle) -> Command {
        let mut command = Command::new(&self.binary);
        let events = format!("{}.ttrpc", self.address.display());
        command
            .args(["-namespace", NAMESPACE, "-id", &bundle.id])
            .args(["-publish-binary", "containerd", "-address"])
            .arg(&self.address)
            .current_dir(&bundle.directory)
            // As containerd sets them.
            .env("TTRPC_ADDRESS", events)
            .env("GOMAXPROCS", "2")
            .env("PATH", &self.path);
        command
    }
}

impl Shim {
    /// Create, of a new container or from a checkpoint.
    pub fn create(&self, bundle: &Bundle, checkpoint: Option<&Path>) -> Answer<()> {
        let request = api::CreateTaskRequest {
            id: self.id.clone(),
            bundle: bundle.directory.display().to_string(),
            stdout: bundle.fifo("stdout"),
            stderr: bundle.fifo("stderr"),
            checkpoint: checkpoint
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            ..Default::default()
        };
        self.call::<api::CreateTaskResponse>("Create", &request)
            .map(drop)
    }

    /// Start, of the container or, with an id, of an exec.
    pub fn start(&self, exec_id: &str) -> Answer<()> {
        let request = api::StartRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        self.call::<api::StartResponse>("Start", &request).map(drop)
    }

    /// Exec, which is only taken note of.
    pub fn exec(&self, exec_id: &str, words: &[&str]) -> Answer<()> {
        let process = json!({
            "args": words, "env": ["PATH=/bin"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
        });
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: process.to_string().into_bytes(),
            ..Any::default()
        };
        let request = api::ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            spec: Some(spec).into(),
            ..Default::default()
        };
        self.call::<api::Empty>("Exec", &request).map(drop)
    }

    /// Wait, for the container or an exec.
    pub fn wait(&self, exec_id: &str) -> Answer<u32> {
        let request = api::WaitRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        self.call::<api::WaitResponse>("Wait", &request)
            .map(|answer| answer.exit_status)
    }

    /// Delete, of the container or an exec.
    pub fn delete(&self, exec_id: &str) -> Answer<()> {
        let request = api::DeleteRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        self.call::<api::DeleteResponse>("Delete", &request)
            .map(drop)
    }

    /// Kill of the container.
    pub fn kill(&self) -> Answer<()> {
        let request = api::KillRequest {
            id: self.id.clone(),
            signal: 9,
            ..Default::default()
        };
        self.call::<api::Empty>("Kill", &request).map(drop)
    }

    /// Create from a checkpoint and Start.
    pub fn restore(&self, bundle: &Bundle, checkpoint: &Path) -> Answer<()> {
        self.create(bundle, Some(checkpoint))?;
        self.start("")
    }

    /// Checkpoint into a directory, after which the container runs on.
    pub fn checkpoint(&self, image: &Path) -> Answer<()> {
        let request = api::CheckpointTaskRequest {
            id: self.id.clone(),
            path: image.display().to_string(),
            ..Default::default()
        };
        self.call::<api::Empty>("Checkpoint", &request).map(drop)
    }

    /// A call that asks with the container's id alone, and whose answer is of no interest.
    pub fn ask(&self, method: &str) -> Answer<()> {
        // Field 1 is the id in each of these requests; an answer may have any fields.
        let request = api::StateRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        self.call::<api::Empty>(method, &request).map(drop)
    }

    /// The shim's own pid.
    pub fn pid(&self) -> Answer<u32> {
        let request = api::ConnectRequest {
            id: self.id.clone(),
            ..Default::default()
        };
        self.call::<api::ConnectResponse>("Connect", &request)
            .map(|answer| answer.shim_pid)
    }

    /// Ends the container, if it has not ended, and deletes it.
    pub fn end_container(&self) -> Result<()> {
        // It may have ended.
        let _ = self.kill();
        self.wait("").map_err(|why| anyhow!("Wait: {why}"))?;
        self.delete("").map_err(|why| anyhow!("Delete: {why}"))
    }

    /// Asks the shim to end, and waits until it has.
    pub fn shut_down(self) -> Result<()> {
        let pid = self.pid().map_err(|why| anyhow!("Connect: {why}"))?;
        // Some end before they have answered.
        let _ = self.ask("Shutdown");
        command::gone(pid).context("the shim was asked to shut down")
    }

    /// Ends a shim whose container has come to nothing; the action `delete` does the rest.
    pub fn give_up(self) -> Result<()> {
        let pid = self.pid().map_err(|why| anyhow!("Connect: {why}"))?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        kill_process(raw.context("a shim with a pid")?, Signal::KILL)?;
        command::gone(pid)
    }

    fn call<A: Message>(&self, method: &str, request: &impl Message) -> Answer<A> {
        let payload = request
            .write_to_bytes()
            .map_err(|error| error.to_string())?;
        let namespace = KeyValue {
            key: "containerd-namespace-ttrpc".into(),
            value: NAMESPACE.into(),
            ..Default::default()
        };
        let request = Request {
            service: self.service.into(),
            method: method.into(),
            payload,
            timeout_nano: DEADLINE.as_nanos().try_into().unwrap_or(i64::MAX),
            metadata: vec![namespace],
            ..Default::default()
        };
        let response = self.client.request(request).map_err(complaint)?;
        A::parse_from_bytes(&response.payload).map_err(|error| error.to_string())
    }
}

/// A directory for PATH in which the engine has the name that shims start by default.
pub fn programs(engine: Engine) -> Result<PathBuf> {
    let directory = Path::new("/run/bench-programs").join(engine.program());
    let program = directory.join(engine.default_program());
    if !program.exists() {
        fs::create_dir_all(&directory)?;
        symlink(real(engine), program)?;
    }
    Ok(directory)
}

/// The engine's program itself.
pub fn real(engine: Engine) -> PathBuf {
    match engine {
        Engine::Runc | Engine::Crun => Path::new("/usr/bin").join(engine.program()),
        Engine::Runsc => "/opt/lab/runsc/runsc".into(),
    }
}

fn complaint(error: ttrpc::Error) -> String {
    match error {
        ttrpc::Error::RpcStatus(status) => status.message,
        other => other.to_string(),
    }
}
