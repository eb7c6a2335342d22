//! Tests of [`super`], with a client of ttrpc and a task service that only answers Shutdown.

use async_trait::async_trait;
use containerd_shim::protos::{
    api::{ConnectRequest, Empty, ShutdownRequest, WaitRequest, WaitResponse},
    protobuf::Message,
    shim_async::{Client, TaskClient},
    ttrpc::{
        asynchronous::TtrpcContext,
        context,
        proto::{Code, Request, Status},
    },
};
use tokio::{net::UnixStream, task::JoinHandle};

use super::*;

struct Tasks {
    shutdown: Shutdown,
}

#[async_trait]
impl Task for Tasks {
    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.shutdown.trigger();
        // What follows a real one: the reply is made after the shim was told to end.
        tokio::task::yield_now().await;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, _: WaitRequest) -> ttrpc::Result<WaitResponse> {
        std::future::pending().await
    }
}

struct Shim {
    _dir: tempfile::TempDir,
    path: PathBuf,
    shutdown: Shutdown,
    served: JoinHandle<Result<(), Error>>,
}

impl Shim {
    fn serve() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s/socket");
        let listener = match socket::bind(path.to_str().unwrap()).unwrap() {
            socket::Socket::Bound(listener) => listener,
            socket::Socket::InUse => unreachable!("a new directory"),
        };
        let shutdown = Shutdown::new();
        let handle = shutdown.clone();
        let served = tokio::spawn(async move {
            let publisher = Publisher::spawn(None, "default");
            let tasks = Arc::new(Tasks {
                shutdown: handle.clone(),
            });
            until_shutdown(listener, tasks, &publisher, &handle).await
        });
        Self {
            _dir: dir,
            path,
            shutdown,
            served,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(&format!("unix://{}", self.path.display()))
            .await
            .unwrap()
    }

    /// Waits for its end, for longer than any machine stands still.
    async fn end(self) {
        timeout(Duration::from_secs(100), self.served)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

async fn call(client: &Client, service: &str, method: &str) -> Status {
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: ConnectRequest::new().write_to_bytes().unwrap(),
        ..Request::default()
    };
    match client.request(request).await {
        Err(ttrpc::Error::RpcStatus(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_names_of_the_task_service_are_served() {
    let shim = Shim::serve();
    let client = shim.client().await;

    for service in [TASK_V2, TASK_V3] {
        // The generated default of a method that is not implemented.
        let status = call(&client, service, "Connect").await;
        assert!(status.message().contains("is not supported"), "{status:?}");
    }
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented_and_named() {
    let shim = Shim::serve();
    let client = shim.client().await;

    for (service, method) in [
        ("containerd.services.streaming.v1.TTRPCStreaming", "Stream"),
        ("containerd.runtime.sandbox.v1.Sandbox", "CreateSandbox"),
        (TASK_V3, "NoSuchMethod"),
    ] {
        let status = call(&client, service, method).await;
        assert_eq!(status.code(), Code::UNIMPLEMENTED);
        assert!(status.message().contains(method), "{status:?}");
    }
}

#[tokio::test]
async fn shutdown_is_answered_and_ends_the_server_whatever_clients_hold() {
    let shim = Shim::serve();
    let other = TaskClient::new(shim.client().await);
    let client = TaskClient::new(shim.client().await);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move {
            client
                .wait(context::Context::default(), &WaitRequest::new())
                .await
        })
    };
    other
        .connect(context::Context::default(), &ConnectRequest::new())
        .await
        .unwrap_err();

    client
        .shutdown(context::Context::default(), &ShutdownRequest::new())
        .await
        .unwrap();

    let path = shim.path.clone();
    shim.end().await;
    assert!(!path.exists());
    drop((waiting, other));
}

#[tokio::test]
async fn a_trigger_without_a_call_ends_the_server_too() {
    let shim = Shim::serve();
    let _client = shim.client().await;

    shim.shutdown.trigger();
    shim.shutdown.trigger();

    shim.end().await;
}

#[tokio::test]
async fn nobody_is_accepted_once_the_shim_ends() {
    let shim = Shim::serve();
    let connected = shim.client().await;
    call(&connected, TASK_V3, "Connect").await;
    let path = shim.path.clone();

    shim.shutdown.trigger();
    shim.end().await;

    UnixStream::connect(&path).await.unwrap_err();
}
