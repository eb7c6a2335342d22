//! containerd's task service: each handler decodes, asks the pod, and encodes. No decisions here.
//!
//! The messages are those of `containerd.task.v3.Task`; version 2 has the same ones, field by
//! field, and is served by the same methods (`bootstrap::serve`).

mod status;

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
        CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
        PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest,
        StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
        UpdateTaskRequest, WaitRequest, WaitResponse,
    },
    protobuf::{EnumOrUnknown, well_known_types::any::Any},
    shim_async::Task,
    ttrpc::{self, r#async::TtrpcContext},
};
use stasis_proc::{ExecConfig, StdioPaths};

use self::status::{status, unimplemented};
use crate::{
    chain::chain,
    container::{Error, Shared, pid_number},
    pod::Pod,
};

/// The task service of one shim.
#[derive(Debug, Clone)]
pub struct Service {
    pod: Arc<Pod>,
}

impl Service {
    /// Serves the containers of `pod`.
    pub fn new(pod: Arc<Pod>) -> Self {
        Self { pod }
    }
}

#[async_trait]
impl Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let container = self.pod.create(request).await.map_err(refused("create"))?;
        let pid = pid_number(container.shared().init().pid());
        Ok(CreateTaskResponse {
            pid,
            ..CreateTaskResponse::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let exec = request.exec_id;
        let pid = self
            .pod
            .ask(&request.id, |container| async move {
                container.start(&exec).await
            })
            .await
            .map_err(refused("start"))?;
        Ok(StartResponse {
            pid: pid_number(Some(pid)),
            ..StartResponse::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        match self.pod.get(&request.id) {
            Ok(container) => container
                .shared()
                .state(&request.exec_id)
                .map_err(refused("state")),
            Err(Error::Creating(id)) => Ok(being_created(id)),
            Err(error) => Err(refused("state")(error)),
        }
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let container = self
            .pod
            .created(&request.id)
            .await
            .map_err(refused("wait"))?;
        container
            .shared()
            .wait(&request.exec_id)
            .await
            .map_err(refused("wait"))
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let container = self.pod.get(&request.id).map_err(refused("kill"))?;
        container
            .shared()
            .kill(&request)
            .await
            .map_err(refused("kill"))?;
        Ok(Empty::new())
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        let exec = request.exec_id;
        let response = if exec.is_empty() {
            self.pod.delete(&request.id).await
        } else {
            self.pod.delete_exec(&request.id, exec).await
        };
        response.map_err(refused("delete"))
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let id = request.id.clone();
        self.pod
            .ask(&id, |container: Arc<Shared>| async move {
                container.exec(exec_config(&request)?).await
            })
            .await
            .map_err(refused("exec"))?;
        Ok(Empty::new())
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        match self.pod.get(&request.id) {
            Ok(container) => container.shared().pids().await.map_err(refused("pids")),
            Err(Error::Creating(_)) => Ok(the_shim_alone()),
            Err(error) => Err(refused("pids")(error)),
        }
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        self.pod
            .ask(
                &request.id,
                |container| async move { container.pause().await },
            )
            .await
            .map_err(refused("pause"))?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        self.pod
            .ask(
                &request.id,
                |container| async move { container.resume().await },
            )
            .await
            .map_err(refused("resume"))?;
        Ok(Empty::new())
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        request: CheckpointTaskRequest,
    ) -> ttrpc::Result<Empty> {
        let id = request.id.clone();
        let verb = |container: Arc<Shared>| async move { container.checkpoint(&request).await };
        self.pod
            .ask(&id, verb)
            .await
            .map_err(refused("checkpoint"))?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        let container = self.pod.get(&request.id).map_err(refused("close IO"))?;
        if request.stdin {
            container
                .shared()
                .close_stdin(&request.exec_id)
                .await
                .map_err(refused("close IO"))?;
        }
        Ok(Empty::new())
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: ConnectRequest,
    ) -> ttrpc::Result<ConnectResponse> {
        // Answered for any id: containerd asks for the shim's own pid, too.
        let task_pid = self
            .pod
            .get(&request.id)
            .map_or(0, |container| pid_number(container.shared().init().pid()));
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.pod.shutdown();
        Ok(Empty::new())
    }

    async fn stats(&self, _: &TtrpcContext, _: StatsRequest) -> ttrpc::Result<StatsResponse> {
        Err(unimplemented("Stats"))
    }

    async fn update(&self, _: &TtrpcContext, _: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("Update"))
    }

    async fn resize_pty(&self, _: &TtrpcContext, _: ResizePtyRequest) -> ttrpc::Result<Empty> {
        Err(unimplemented("ResizePty"))
    }
}

/// Logs a refused request, here and nowhere below, and gives its status.
fn refused(call: &'static str) -> impl Fn(Error) -> ttrpc::Error {
    move |error| {
        tracing::info!("{call} refused: {}", chain(&error));
        status(error.kind(), &error)
    }
}

/// The state of a container whose Create has not ended: the API has no word for it, and this one
/// makes no promise of a process.
fn being_created(id: String) -> StateResponse {
    use containerd_shim_protos::api::Status;
    StateResponse {
        id,
        status: EnumOrUnknown::new(Status::CREATED),
        ..StateResponse::default()
    }
}

/// The processes of a container that has none: see `Shared::pids`.
fn the_shim_alone() -> PidsResponse {
    use containerd_shim_protos::api::ProcessInfo;
    let pid = std::process::id();
    let processes = vec![ProcessInfo {
        pid,
        ..ProcessInfo::default()
    }];
    PidsResponse {
        processes,
        ..PidsResponse::default()
    }
}

fn exec_config(request: &ExecProcessRequest) -> Result<ExecConfig, Error> {
    let document = request
        .spec
        .as_ref()
        .map_or(&[][..], |Any { value, .. }| value);
    let process = serde_json::from_slice(document).map_err(|source| Error::Invalid {
        what: "process of an exec",
        value: source.to_string(),
        wanted: "the process document of the OCI runtime specification, as JSON",
    })?;
    Ok(ExecConfig {
        id: request.exec_id.clone(),
        stdio: StdioPaths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        },
        process,
    })
}
