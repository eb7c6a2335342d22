//! Tests of [`super`], against a server that stands for containerd.

use std::path::Path;

use async_trait::async_trait;
use containerd_shim::protos::{
    api::Empty,
    events::task::TaskStart,
    protobuf::Message,
    shim::events::ForwardRequest,
    shim_async::{Events, create_events},
    ttrpc::{
        self,
        asynchronous::{Server, TtrpcContext, transport::Listener},
        error::get_rpc_status,
        proto::Code,
    },
};
use stasis_proc::Exit;
use tokio::{sync::mpsc, time::Instant};

use super::{
    queue::{KEEP, QUEUE},
    sender::LONGEST_PAUSE,
    *,
};

/// What stands for containerd: it passes on every event that it takes.
struct Containerd {
    taken: mpsc::UnboundedSender<Envelope>,
}

#[async_trait]
impl Events for Containerd {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap_or_default();
        if envelope.topic == "/tasks/exit" {
            return Err(get_rpc_status(Code::INVALID_ARGUMENT, "no exits please"));
        }
        self.taken.send(envelope).map_err(|_| ttrpc::Error::Eof)?;
        Ok(Empty::new())
    }
}

async fn containerd(path: &Path) -> (Server, mpsc::UnboundedReceiver<Envelope>) {
    let (taken, events) = mpsc::unbounded_channel();
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let mut server = Server::new()
        .register_service(create_events(Arc::new(Containerd { taken })))
        .add_listener(Listener::try_from(listener).unwrap());
    server.start().await.unwrap();
    (server, events)
}

async fn stop(mut server: Server, path: &Path) {
    server.shutdown().await.unwrap();
    std::fs::remove_file(path).unwrap();
}

fn started(pid: usize) -> Event {
    let pid = u32::try_from(pid).unwrap();
    Event::Started { pid }
}

fn exited() -> Event {
    let exit = Exit {
        timestamp: SystemTime::UNIX_EPOCH,
        id: "c".to_owned(),
        status: 0,
    };
    Event::Exited { pid: 1, exit }
}

fn pid(envelope: &Envelope) -> usize {
    TaskStart::parse_from_bytes(&envelope.event.value)
        .unwrap()
        .pid as usize
}

async fn pids(events: &mut mpsc::UnboundedReceiver<Envelope>, count: usize) -> Vec<usize> {
    let mut pids = Vec::new();
    for _ in 0..count {
        pids.push(pid(&events.recv().await.unwrap()));
    }
    pids
}

fn socket() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("containerd.sock.ttrpc");
    (dir, path)
}

#[tokio::test]
async fn an_event_arrives_as_containerd_writes_them_itself() {
    let (_dir, path) = socket();
    let (_server, mut events) = containerd(&path).await;
    let publisher = Publisher::spawn(Some(&format!("unix://{}", path.display())), "k8s.io");

    publisher.publish("c", started(7));

    let envelope = events.recv().await.unwrap();
    assert_eq!(envelope.namespace, "k8s.io");
    assert_eq!(envelope.topic, "/tasks/start");
    assert_eq!(envelope.event.type_url, "containerd.events.TaskStart");
    assert!(envelope.timestamp.seconds > 0);
    assert_eq!(pid(&envelope), 7);
}

#[tokio::test]
async fn order_is_kept_over_a_containerd_that_goes_away_and_comes_back() {
    let (_dir, path) = socket();
    let (server, mut events) = containerd(&path).await;
    let publisher = Publisher::spawn(path.to_str(), "default");
    (0..3).for_each(|pid| publisher.publish("c", started(pid)));
    assert_eq!(pids(&mut events, 3).await, [0, 1, 2]);

    stop(server, &path).await;
    (3..8).for_each(|pid| publisher.publish("c", started(pid)));
    let (_server, mut events) = containerd(&path).await;

    assert_eq!(pids(&mut events, 5).await, [3, 4, 5, 6, 7]);
    publisher.drain(Duration::from_secs(10)).await;
    events.try_recv().unwrap_err();
}

#[tokio::test]
async fn an_event_that_is_refused_does_not_hold_up_the_next() {
    let (_dir, path) = socket();
    let (_server, mut events) = containerd(&path).await;
    let publisher = Publisher::spawn(path.to_str(), "default");

    publisher.publish("c", exited());
    publisher.publish("c", started(1));

    assert_eq!(pids(&mut events, 1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_is_given_up_after_a_minute() {
    let (_dir, path) = socket();
    let too_long = format!("/{}", "a".repeat(200));
    for address in [path.to_str().unwrap(), &too_long] {
        let publisher = Publisher::spawn(Some(address), "default");
        let begun = Instant::now();

        (0..100).for_each(|pid| publisher.publish("c", started(pid)));
        publisher.drain(Duration::from_secs(3600)).await;

        let took = begun.elapsed();
        assert!(
            took > KEEP - LONGEST_PAUSE && took < KEEP + LONGEST_PAUSE,
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn draining_ends_at_its_deadline() {
    let (_dir, path) = socket();
    let publisher = Publisher::spawn(path.to_str(), "default");
    publisher.publish("c", started(1));
    let begun = Instant::now();

    publisher.drain(Duration::from_secs(2)).await;

    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest() {
    let (_dir, path) = socket();
    let publisher = Publisher::spawn(path.to_str(), "default");

    (0..QUEUE + 10).for_each(|pid| publisher.publish("c", started(pid)));
    let (_server, mut events) = containerd(&path).await;

    assert_eq!(
        pids(&mut events, QUEUE).await,
        (10..QUEUE + 10).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn without_an_address_there_is_nothing_to_wait_for() {
    let publisher = Publisher::spawn(None, "default");

    publisher.publish("c", started(1));

    publisher.drain(Duration::from_secs(3600)).await;
}
