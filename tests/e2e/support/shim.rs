//! A client of one shim: the task service as containerd calls it, and ways to call it wrongly.

use std::{
    os::{fd::IntoRawFd, unix::net::UnixStream},
    path::Path,
};

use containerd_shim_protos::{
    TaskClient, api,
    protobuf::well_known_types::any::Any,
    ttrpc::{self, Client, Code, context},
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{bundle::Bundle, command::DEADLINE, engine::Engine, options::inline, wait};

/// A shim that has been started, and a connection to it.
pub struct Shim {
    /// The bundle that it serves.
    pub bundle: Bundle,
    /// Its socket, as it was told.
    pub address: String,
    namespace: String,
    client: Client,
    task: TaskClient,
}

impl Shim {
    /// Connects to a shim.
    pub fn connect(namespace: &str, bundle: &Bundle, address: &str) -> Self {
        let client = Client::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        Self {
            bundle: bundle.clone(),
            address: address.to_owned(),
            namespace: namespace.to_owned(),
            task: TaskClient::new(client.clone()),
            client,
        }
    }

    /// The task service of the connection.
    pub fn task(&self) -> &TaskClient {
        &self.task
    }

    /// The connection itself, for services that the task client does not know.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A context with our deadline: a hung shim fails the test.
    pub fn context(&self) -> context::Context {
        let mut context = context::with_duration(DEADLINE);
        context.add("containerd-namespace-ttrpc".into(), self.namespace.clone());
        context
    }

    /// A Create of the bundle's container: its rootfs, no streams, the engine chosen inline.
    pub fn create_request(&self, engine: Engine) -> api::CreateTaskRequest {
        api::CreateTaskRequest {
            id: self.bundle.id.clone(),
            bundle: self.bundle.directory.display().to_string(),
            rootfs: vec![self.bundle.overlay()],
            options: Some(inline(&engine.config(""))).into(),
            ..api::CreateTaskRequest::default()
        }
    }

    /// Creates and starts the container. Its pid.
    pub fn run(&self, engine: Engine) -> u32 {
        self.create(&self.create_request(engine)).expect("Create");
        self.start().expect("Start")
    }

    /// Create.
    pub fn create(&self, request: &api::CreateTaskRequest) -> ttrpc::Result<u32> {
        self.task
            .create(self.context(), request)
            .map(|response| response.pid)
    }

    /// Start of the container.
    pub fn start(&self) -> ttrpc::Result<u32> {
        let request = api::StartRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task
            .start(self.context(), &request)
            .map(|response| response.pid)
    }

    /// State of the container.
    pub fn state(&self) -> ttrpc::Result<api::StateResponse> {
        let request = api::StateRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task.state(self.context(), &request)
    }

    /// The status that State tells.
    pub fn status(&self) -> api::Status {
        self.state()
            .expect("State")
            .status
            .enum_value()
            .expect("a known status")
    }

    /// Pause.
    pub fn pause(&self) -> ttrpc::Result<()> {
        let request = api::PauseRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task.pause(self.context(), &request).map(drop)
    }

    /// Resume.
    pub fn resume(&self) -> ttrpc::Result<()> {
        let request = api::ResumeRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task.resume(self.context(), &request).map(drop)
    }

    /// Kill of the container's init process.
    pub fn kill(&self, signal: u32) -> ttrpc::Result<()> {
        let request = api::KillRequest {
            id: self.id(),
            signal,
            ..Default::default()
        };
        self.task.kill(self.context(), &request).map(drop)
    }

    /// Wait for the container's end. Its exit status.
    pub fn wait(&self) -> ttrpc::Result<u32> {
        let request = api::WaitRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task
            .wait(self.context(), &request)
            .map(|response| response.exit_status)
    }

    /// Delete of the container. Its exit status.
    pub fn delete(&self) -> ttrpc::Result<u32> {
        let request = api::DeleteRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task
            .delete(self.context(), &request)
            .map(|response| response.exit_status)
    }

    /// Checkpoint into a directory.
    pub fn checkpoint(&self, image: &Path, options: Option<Any>) -> ttrpc::Result<()> {
        let request = self.checkpoint_request(image, options);
        self.task.checkpoint(self.context(), &request).map(drop)
    }

    /// What [`Shim::checkpoint`] sends.
    pub fn checkpoint_request(
        &self,
        image: &Path,
        options: Option<Any>,
    ) -> api::CheckpointTaskRequest {
        api::CheckpointTaskRequest {
            id: self.id(),
            path: image.display().to_string(),
            options: options.into(),
            ..Default::default()
        }
    }

    /// The shim's own pid, as Connect tells it whether or not there is a container.
    pub fn pid(&self) -> u32 {
        let request = api::ConnectRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task
            .connect(self.context(), &request)
            .expect("Connect")
            .shim_pid
    }

    /// Shutdown, which a shim with a container ignores.
    pub fn ask_to_shut_down(&self) {
        let request = api::ShutdownRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task
            .shutdown(self.context(), &request)
            .expect("Shutdown");
    }

    /// Asks the shim to end, once its container is deleted, and waits until it has.
    pub fn shut_down(self) {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a pid");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("the shim is running");
        let request = api::ShutdownRequest {
            id: self.id(),
            ..Default::default()
        };
        self.task
            .shutdown(self.context(), &request)
            .expect("Shutdown");
        // The connection stays open: the shim must end all the same.
        wait::for_end(&pidfd, "the shim");
        let socket = self.address.trim_start_matches("unix://");
        assert!(
            !Path::new(socket).exists(),
            "the shim left its socket {socket}"
        );
    }

    /// Ends the container by SIGKILL and deletes it.
    pub fn end_container(&self) {
        self.kill(9).expect("Kill");
        assert_eq!(self.wait().expect("Wait"), 137);
        assert_eq!(self.delete().expect("Delete"), 137);
    }

    /// The same, and ends the shim.
    pub fn end(self) {
        self.end_container();
        self.shut_down();
    }

    /// Runs `call` in a client of its own whose connection breaks while `cut` runs.
    pub fn cut_off<T: Send>(
        &self,
        call: impl FnOnce(&TaskClient) -> ttrpc::Result<T> + Send,
        cut: impl FnOnce(),
    ) {
        let path = self.address.trim_start_matches("unix://");
        let socket = UnixStream::connect(path).expect("the shim listens");
        let ours = socket.try_clone().expect("a descriptor");
        let client = Client::new(socket.into_raw_fd()).expect("a client");
        std::thread::scope(|threads| {
            let caller = threads.spawn(move || call(&TaskClient::new(client)).map(drop));
            cut();
            ours.shutdown(std::net::Shutdown::Both)
                .expect("the connection is open");
            let answer = caller.join().expect("the call does not panic");
            assert!(
                answer.is_err(),
                "the answer came before the connection was cut"
            );
        });
    }

    /// The container's id.
    pub(super) fn id(&self) -> String {
        self.bundle.id.clone()
    }
}

impl std::fmt::Debug for Shim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shim")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The message of a refusal, which must have come with this code.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: ttrpc::Result<T>, code: Code) -> String {
    match result {
        Err(ttrpc::Error::RpcStatus(status)) => {
            assert_eq!(status.code(), code, "the code of: {}", status.message());
            status.message().to_owned()
        }
        other => panic!("{code:?} was expected, not {other:?}"),
    }
}
