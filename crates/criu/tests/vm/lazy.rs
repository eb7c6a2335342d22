//! Lazy dumps, for which CRIU needs larger pipes than the lab has rights to.

use std::{fs, net::Ipv4Addr, os::fd::AsFd as _, path::Path, process::Child, time::Duration};

use async_trait::async_trait;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use stasis_criu::{
    Error, Hook, HookResult, Notify, Options,
    options::{PageServer, Tls},
    pages::LazyPages,
};
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use crate::{
    certificates::Certificates,
    criu, directory, end,
    memory::Memory,
    programs::run,
    victim::{self, PATIENCE, Victim},
};

/// Nobody else is there to have it.
const PORT: u16 = 27;

/// How long it may take to fetch memory: over TLS this machine sends a megabyte or two in a second.
const FETCHING: Duration = Duration::from_secs(120);

/// A network namespace of its own, in which this thread and what it starts are.
struct Network;

impl Network {
    fn enter() -> Self {
        run("ip", &["netns", "add", "lazy"]);
        let network = fs::File::open("/run/netns/lazy").unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        Self
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let network = fs::File::open("/proc/1/ns/net").unwrap();
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        run("ip", &["netns", "delete", "lazy"]);
    }
}

/// A process in a PID namespace of its own, where its id is free for a restore while it is there.
struct Contained {
    parent: Child,
    pid: u32,
}

impl Contained {
    fn start(mib: u32) -> Self {
        let memory = mib.to_string();
        let (parent, pid) = victim::in_pid_namespace(&["--memory", &memory, "--threads", "2"]);
        Self { parent, pid }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let tree = victim::tree(self.parent.id());
        tree.into_iter().for_each(victim::kill);
        let _ = self.parent.wait();
    }
}

/// Tells when a dump listens.
struct Listens(Option<oneshot::Sender<()>>);

#[async_trait]
impl Notify for Listens {
    async fn status_ready(&mut self) -> HookResult {
        let first = self.0.take().ok_or("it listens twice")?;
        first.send(()).map_err(|()| "nobody waits".into())
    }
}

fn listens() -> (Listens, oneshot::Receiver<()>) {
    let (listens, listening) = oneshot::channel();
    (Listens(Some(listens)), listening)
}

fn lazy_dump_of(pid: u32, images: &Path) -> Options {
    victim::options(images)
        .pid(pid)
        .lazy_pages(true)
        .page_server(PageServer::listening(PORT))
}

/// Dumps a process of so much memory lazily, and restores it lazily here, over TLS or in the clear.
async fn is_fetched(mib: u32, tls: Option<Tls>) {
    let (directory, work) = (directory(), directory());
    let mut contained = Contained::start(mib);
    let memory = Memory::of(contained.pid);
    let before = memory.read();
    let criu = criu();
    let mut dump = lazy_dump_of(contained.pid, directory.path());
    if let Some(tls) = &tls {
        dump = dump.tls(tls.clone());
    }
    let (mut listens, listening) = listens();
    let fetched = async {
        listening.await.unwrap();
        let options = victim::options(directory.path())
            .work_dir(work.path().to_owned())
            .lazy_pages(true);
        let mut daemon = LazyPages::of(&options).from(Ipv4Addr::LOCALHOST.into(), PORT);
        if let Some(tls) = tls {
            daemon = daemon.tls(tls);
        }
        let daemon = daemon.start(&criu).await.unwrap();
        let call = criu.restore(&options).within(FETCHING);
        let lazy = daemon.restore(call).await.unwrap();
        let filled = timeout(FETCHING, lazy.filled()).await;
        filled.expect("it is waited for").unwrap();
        lazy
    };
    let call = criu.dump(&dump).notify(&mut listens).within(FETCHING);
    let (dumped, lazy) = tokio::join!(call.into_future(), fetched);
    dumped.unwrap();
    let images = fs::read_dir(directory.path()).unwrap();
    let here: u64 = images
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(here < before.len() as u64, "the memory is in the images");
    // The process that was dumped has ended.
    contained.parent.wait().unwrap();
    let restored = lazy.restored.pid;
    let memory = Memory::of(restored.as_raw_pid().cast_unsigned());
    assert!(memory.read() == before, "memory is not what it was");
    end(restored);
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_lazy_dump_is_fetched_by_a_lazy_restore() {
    let _network = Network::enter();
    is_fetched(64, None).await;
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_lazy_dump_is_fetched_over_tls() {
    let certificates = Certificates::new();
    is_fetched(8, Some(certificates.tls())).await;
}

/// Whoever closes a connection in the clear ends the processes: CRIU takes it for a dump that was
/// fetched.
#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_lazy_dump_over_tls_is_not_ended_by_a_stranger() {
    let directory = directory();
    let certificates = Certificates::new();
    let mut victim = Victim::start(&["--memory", "64", "--threads", "2"]);
    let tree = victim.tree();
    let criu = criu();
    let options = lazy_dump_of(victim.pid(), directory.path()).tls(certificates.tls());
    let (mut listens, listening) = listens();
    let came = async {
        listening.await.unwrap();
        drop(
            TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))
                .await
                .unwrap(),
        );
    };
    let call = criu.dump(&options).notify(&mut listens).within(PATIENCE);
    let (dumped, ()) = tokio::join!(call.into_future(), came);
    let error = dumped.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("TLS handshake failed"), "{said}");
    assert!(error.left().is_empty(), "{said}");
    only_the_log(directory.path());
    victim.is_well(&tree);
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_lazy_dump_that_nobody_fetches_is_given_up() {
    let _network = Network::enter();
    let directory = directory();
    let mut victim = Victim::connected(&["--memory", "64", "--threads", "2"]);
    let (tree, rules) = (victim.tree(), victim::rules());
    let criu = criu();
    let options = lazy_dump_of(victim.pid(), directory.path()).tcp_established(true);
    let (mut listens, listening) = listens();
    let call = criu.dump(&options).notify(&mut listens);
    let dumped = call.until(async { listening.await.unwrap() }).await;
    let Err(Error::Cancelled { left, .. }) = dumped else {
        panic!("{dumped:?}");
    };
    assert!(left.is_empty(), "{left}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    assert_eq!(victim::rules(), rules);
    victim.is_well(&tree);
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_lazy_dump_whose_peer_says_nothing_is_given_up() {
    let _network = Network::enter();
    let directory = directory();
    let mut victim = Victim::connected(&["--memory", "64", "--threads", "2"]);
    let (tree, rules) = (victim.tree(), victim::rules());
    let criu = criu().grace(Duration::from_millis(500));
    let options = lazy_dump_of(victim.pid(), directory.path()).tcp_established(true);
    let (mut listens, listening) = listens();
    let mut peer = None;
    let came = async {
        listening.await.unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, PORT));
        peer = Some(connect().await.unwrap());
        // CRIU listens no more once it has taken the first, and tells nobody.
        while connect().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let dumped = criu.dump(&options).notify(&mut listens).until(came).await;
    let Err(Error::Cancelled { left, .. }) = dumped else {
        panic!("{dumped:?}");
    };
    assert!(left.is_empty(), "{left}");
    assert!(peer.is_some());
    assert_eq!(victim::rules(), rules);
    victim.goes_on(&tree);
}

/// Refuses a dump when its pages can be fetched, and says at which hooks it was.
#[derive(Default)]
struct Refusal(Vec<Hook>);

#[async_trait]
impl Notify for Refusal {
    async fn post_dump(&mut self) -> HookResult {
        self.0.push(Hook::PostDump);
        Ok(())
    }

    async fn status_ready(&mut self) -> HookResult {
        self.0.push(Hook::StatusReady);
        Err("nobody comes".into())
    }
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_lazy_dump_is_given_up_when_its_pages_could_be_fetched() {
    let criu = criu();
    let mut victim = Victim::start(&["--memory", "8", "--children", "1"]);
    let tree = victim.tree();
    let images = directory();
    let options = victim::options(images.path())
        .pid(victim.pid())
        .lazy_pages(true)
        .page_server(PageServer::listening(27));
    let mut refusal = Refusal::default();
    let error = criu.dump(&options).notify(&mut refusal).await.unwrap_err();
    let Error::Hook {
        hook, source, left, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*hook, Hook::StatusReady);
    assert_eq!(source.to_string(), "nobody comes");
    assert!(left.is_empty(), "{left}");
    assert_eq!(refusal.0, [Hook::PostDump, Hook::StatusReady]);
    victim.is_well(&tree);
    only_the_log(images.path());
}

fn only_the_log(images: &Path) {
    let names = fs::read_dir(images).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["dump.log"]);
}
