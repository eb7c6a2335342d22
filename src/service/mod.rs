//! containerd's task service: each handler decodes, asks the pod, and encodes. No decisions here.
//!
//! The messages are those of `containerd.task.v3.Task`; version 2 has the same ones, field by
//! field, and is served by the same methods (`bootstrap::serve`).

mod decode;
mod encode;
mod error;
pub mod options;
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
    shim_async::Task,
    ttrpc::{self, r#async::TtrpcContext},
};
use stasis_linux::chain;

use self::{
    error::Error,
    status::{status, unimplemented},
};
use crate::{
    container::{self, Shared, pid_number, the_shim_alone},
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
        let request = decode::create(request).map_err(refused("create"))?;
        let container = self.pod.create(request).await.map_err(refused("create"))?;
        Ok(encode::create(pid_number(container.shared().init().pid())))
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let exec = request.exec_id;
        self.pod
            .ask(&request.id, |container| async move {
                container.start(&exec).await
            })
            .await
            .map(encode::start)
            .map_err(refused("start"))
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        match self.pod.get(&request.id) {
            Ok(container) => container
                .shared()
                .state(&request.exec_id)
                .map(encode::state)
                .map_err(refused("state")),
            Err(container::Error::Creating(id)) => Ok(encode::being_created(id)),
            Err(error) => Err(refused("state")(error)),
        }
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let container = self
            .pod
            .created(&request.id)
            .await
            .map_err(refused("wait"))?;
        let exit = container.shared().wait(&request.exec_id).await;
        exit.map(|exit| encode::wait(&exit))
            .map_err(refused("wait"))
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let container = self.pod.get(&request.id).map_err(refused("kill"))?;
        container
            .shared()
            .kill(&request.exec_id, request.signal, request.all)
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
        let ended = if exec.is_empty() {
            self.pod.delete(&request.id).await
        } else {
            self.pod.delete_exec(&request.id, exec).await
        };
        ended
            .map(|ended| encode::delete(&ended))
            .map_err(refused("delete"))
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let exec = async {
            let container = self.pod.created(&request.id).await?;
            let process = decode::exec(request)?;
            let verb = |container: Arc<Shared>| async move { container.exec(process).await };
            Ok::<_, Error>(container.ask(verb).await?)
        };
        exec.await.map_err(refused("exec"))?;
        Ok(Empty::new())
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        match self.pod.get(&request.id) {
            Ok(container) => container
                .shared()
                .pids()
                .await
                .map(encode::pids)
                .map_err(refused("pids")),
            Err(container::Error::Creating(_)) => Ok(encode::pids(the_shim_alone())),
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
        let checkpoint = async {
            let container = self.pod.created(&request.id).await?;
            let request = decode::checkpoint(request)?;
            let verb = |container: Arc<Shared>| async move { container.checkpoint(request).await };
            Ok::<_, Error>(container.ask(verb).await?)
        };
        checkpoint.await.map_err(refused("checkpoint"))?;
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
        Ok(encode::connect(task_pid))
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
fn refused<E: Into<Error>>(call: &'static str) -> impl Fn(E) -> ttrpc::Error {
    move |error| {
        let error = error.into();
        tracing::info!("{call} refused: {}", chain(&error));
        status(error.kind(), &error)
    }
}
