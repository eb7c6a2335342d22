//! Dumps whose pages go to a page server, and what becomes of them where it does not play along.

use std::{
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use stasis_criu::{
    Error, KnownCause, Options, PageServerChild,
    options::PageServer,
    pages::{PageReceiver, PageServerClient, PagesError},
};
use tokio::{
    io::{self, AsyncReadExt as _},
    net::{TcpListener, TcpStream},
};

use super::{Before, Directories, Ending, LOOPBACK, Subject, any_port, cause, names, reap};
use crate::victim::{self, Victim};

/// Of 64 MiB, so that it is in the middle.
const MIDWAY: u64 = 16 << 20;
/// How long the other end may be silent, where that is tried.
const SILENCE: Duration = Duration::from_millis(500);

/// Something between a dump and its page server, that passes on [`MIDWAY`] bytes and no more.
struct Relay(TcpListener);

impl Relay {
    async fn new() -> Self {
        Self(TcpListener::bind(any_port()).await.unwrap())
    }

    fn address(&self) -> PageServer {
        let address = self.0.local_addr().unwrap();
        PageServer::at(address.ip(), address.port())
    }

    /// Returns when it has passed them on, with both ends, which are open and silent.
    async fn pass_to(&self, server: SocketAddr) -> (TcpStream, TcpStream) {
        let (mut dump, _) = self.0.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        let (pages, mut answered) = dump.split();
        let (mut answers, mut passed) = server.split();
        let mut pages = pages.take(MIDWAY);
        tokio::select! {
            copied = io::copy(&mut pages, &mut passed) => assert_eq!(copied.unwrap(), MIDWAY),
            ended = io::copy(&mut answers, &mut answered) => panic!("the server ended: {ended:?}"),
        }
        (dump, server)
    }
}

/// What a receiver says of a dump that says nothing.
fn is_silence(error: &Error) {
    let Error::Pages { source, .. } = error else {
        panic!("{error:?}");
    };
    assert!(matches!(source, PagesError::Silent { .. }), "{source:?}");
    println!("{source}");
}

/// A page server of CRIU's own, at a port that it has chosen.
async fn start_page_server(directories: &Directories) -> PageServerChild {
    let options = Options::new(&directories.other).page_server(PageServer::at(LOOPBACK.into(), 0));
    let server = victim::criu().start_page_server_child(&options).await;
    server.unwrap()
}

/// Dumps a process of 64 MiB, whose pages go to `server` and so to the other directory, and
/// restores it from there.
async fn goes_over(
    directories: &Directories,
    server: PageServer,
    served: impl Future<Output = ()>,
) {
    let criu = victim::criu();
    let mut victim = Victim::start(&["--memory", "64", "--children", "2", "--threads", "2"]);
    let before = Before::of(&victim);
    let options = victim::options(&directories.images)
        .pid(victim.pid())
        .page_server(server);
    let (dumped, ()) = tokio::join!(criu.dump(&options).into_future(), served);
    dumped.unwrap();
    reap(&before.tree);
    let has_pages = |name: &String| name.starts_with("pages-");
    assert!(!names(&directories.images).iter().any(has_pages));
    assert!(names(&directories.other).iter().any(has_pages));

    before.comes_back(&mut victim, directories).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn pages_that_a_receiver_took_are_restored_from_its_directory() {
    let directories = Directories::new();
    let receiver = PageReceiver::bind(any_port()).await.unwrap();
    let address = receiver.address();
    let (criu, options) = (victim::criu(), Options::new(&directories.other));
    let served = async {
        let from = receiver.receive(&criu, &options).await.unwrap();
        assert_eq!(from.ip(), LOOPBACK);
    };
    let server = PageServer::at(address.ip(), address.port());
    goes_over(&directories, server, served).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_page_server_of_crius_own_is_waited_for() {
    let directories = Directories::new();
    let server = start_page_server(&directories).await;
    let port = server.port;
    let served = async {
        let exit = server.wait().await.unwrap();
        assert!(exit.success(), "{exit}");
    };
    goes_over(&directories, PageServer::at(LOOPBACK.into(), port), served).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_page_server_of_crius_own_ends_when_it_is_dropped() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let server = start_page_server(&directories).await;
    let ending = Ending::of(server.pid);
    drop(server);
    ending.wait();
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn without_a_page_server_no_process_is_frozen() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let free = TcpListener::bind(any_port()).await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let options = subject.dump_to(&directories.images);
    let options = options.page_server(PageServer::at(LOOPBACK.into(), port));
    let error = victim::criu().dump(&options).await.unwrap_err();
    let Error::Pages { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(source, PagesError::Connect { .. }), "{source:?}");
    // CRIU, which begins with its log, has not been started.
    assert_eq!(names(&directories.images), [""; 0]);
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_page_server_killed_in_mid_dump_fails_the_dump_only() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let server = start_page_server(&directories).await;
    let relay = Relay::new().await;
    let killed = async {
        let ends = relay.pass_to((LOOPBACK, server.port).into()).await;
        rustix::process::kill_process(server.pid, Signal::KILL).unwrap();
        let exit = server.wait().await.unwrap();
        assert_eq!(exit.signal(), Some(Signal::KILL.as_raw()), "{exit}");
        // What the kernel does for the page server of a dump that is connected to it directly.
        drop(ends);
        Instant::now()
    };
    let options = subject.dump_to(&directories.images);
    let options = options.page_server(relay.address());
    let criu = victim::criu();
    let (dumped, killed) = tokio::join!(criu.dump(&options).into_future(), killed);
    println!("over {:?} after it was killed", killed.elapsed());
    let error = dumped.unwrap_err();
    assert_eq!(cause(&error), Some(KnownCause::PageServerLost), "{error}");
    drop(relay);
    assert_eq!(names(&directories.images), ["dump.log"]);
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_page_server_that_says_nothing_holds_a_dump_no_longer_than_its_deadline() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    // The kernel takes its connections, and nobody reads from them.
    let silent = std::net::TcpListener::bind(any_port()).unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = subject.dump_to(&directories.images);
    let options = options.page_server(PageServer::at(LOOPBACK.into(), port));
    let began = Instant::now();
    let error = victim::criu().dump(&options).within(SILENCE).await;
    let took = began.elapsed();
    drop(silent);
    let Err(Error::Deadline { left, .. }) = error else {
        panic!("{error:?}");
    };
    assert!(left.is_empty(), "{left}");
    assert!(took >= SILENCE && took < SILENCE + stasis_criu::GRACE);
    println!("over {:?} after its deadline", took - SILENCE);
    assert_eq!(names(&directories.images), [""; 0]);
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_dump_whose_page_server_falls_silent_can_be_cancelled() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let server = start_page_server(&directories).await;
    let relay = Relay::new().await;
    let options = subject.dump_to(&directories.images);
    let options = options.page_server(relay.address());
    let criu = victim::criu();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let call = criu.dump(&options).until(async { stopped.await.unwrap() });
    let silent = async {
        let ends = relay.pass_to((LOOPBACK, server.port).into()).await;
        stop.send(()).unwrap();
        (ends, Instant::now())
    };
    let (dumped, (ends, since)) = tokio::join!(call.into_future(), silent);
    println!("over {:?} after it was cancelled", since.elapsed());
    let Err(Error::Cancelled { left, .. }) = dumped else {
        panic!("{dumped:?}");
    };
    assert!(left.is_empty(), "{left}");
    drop((ends, relay));
    // It has been sent less than it was told of.
    let exit = server.wait().await.unwrap();
    assert!(!exit.success(), "{exit}");
    assert_eq!(names(&directories.images), [""; 0]);
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn silence_ends_a_dump_that_has_no_deadline() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let server = start_page_server(&directories).await;
    let relay = Relay::new().await;
    let client = PageServerClient::new("127.0.0.1", relay.0.local_addr().unwrap().port());
    let socket = client.silence(SILENCE).connect().await.unwrap();
    let options = subject.dump_to(&directories.images).page_server(socket);
    let criu = victim::criu();
    let (dumped, ends) = tokio::join!(
        criu.dump(&options).into_future(),
        relay.pass_to((LOOPBACK, server.port).into())
    );
    let error = dumped.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    println!("{error}");
    drop((options, ends, relay, server));
    criu.idle().await;
    assert_eq!(names(&directories.images), ["dump.log"]);
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_receiver_gives_up_a_dump_that_connects_and_says_nothing() {
    let directories = Directories::new();
    let receiver = PageReceiver::bind(any_port()).await.unwrap();
    let silent = TcpStream::connect(receiver.address()).await.unwrap();
    let receiver = receiver.silence(SILENCE);
    let criu = victim::criu();
    let error = receiver
        .receive(&criu, &Options::new(&directories.other))
        .await
        .unwrap_err();
    is_silence(&error);
    drop(silent);
    assert_eq!(names(&directories.other), ["page-server.log"]);
    assert_eq!(victim::children(), [0; 0]);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_receiver_gives_up_a_dump_that_falls_silent() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let receiver = PageReceiver::bind(any_port()).await.unwrap();
    let address = receiver.address();
    let receiver = receiver.silence(SILENCE);
    let relay = Relay::new().await;
    let criu = victim::criu();
    let received = async {
        let options = Options::new(&directories.other);
        let (received, ends) =
            tokio::join!(receiver.receive(&criu, &options), relay.pass_to(address));
        // The dump is told no earlier.
        drop(ends);
        received
    };
    let options = subject.dump_to(&directories.images);
    let options = options.page_server(relay.address());
    let (dumped, received) = tokio::join!(criu.dump(&options).into_future(), received);
    is_silence(&received.unwrap_err());
    let error = dumped.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    println!("{error}");
    drop(relay);
    assert_eq!(names(&directories.images), ["dump.log"]);
    assert_eq!(names(&directories.other), ["page-server.log"]);
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_receiver_that_is_dropped_in_the_middle_fails_the_dump_only() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let receiver = PageReceiver::bind(any_port()).await.unwrap();
    let address = receiver.address();
    let relay = Relay::new().await;
    let criu = victim::criu();
    let received = async {
        let options = Options::new(&directories.other);
        tokio::select! {
            received = receiver.receive(&criu, &options) => panic!("{received:?}"),
            ends = relay.pass_to(address) => drop(ends),
        }
    };
    let options = subject.dump_to(&directories.images);
    let options = options.page_server(relay.address());
    let (dumped, ()) = tokio::join!(criu.dump(&options).into_future(), received);
    let error = dumped.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    drop(relay);
    criu.idle().await;
    assert_eq!(names(&directories.images), ["dump.log"]);
    assert_eq!(names(&directories.other), ["page-server.log"]);
    subject.runs_as_before();
}
