//! Restores whose memory comes later, and what becomes of them where it does not come.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal};
use stasis_criu::{
    Error, Hook, HookResult, Notify, Options,
    options::PageServer,
    pages::{LazyPages, LazyRestored, PagesError},
};

use super::{Directories, Ending, LOOPBACK, Subject, any_port, memory, names, reap, run};
use crate::victim::{self, Victim};

/// So much that it is still coming when the restore has replied.
const MIB: u64 = 256;
/// Pages that a restore brings back itself: far less than all.
const FEW: u64 = 1000;

/// A process that has been dumped, and is to be restored lazily.
struct Dumped {
    victim: Victim,
    tree: Vec<u32>,
    memory: u64,
    directories: Directories,
}

impl Dumped {
    async fn new() -> Self {
        let directories = Directories::new();
        let victim = Victim::start(&["--memory", "256", "--threads", "2", "--children", "1"]);
        let (tree, memory) = (victim.tree(), memory(victim.pid(), MIB));
        let options = victim::options(&directories.images).pid(victim.pid());
        victim::criu().dump(&options).await.unwrap();
        reap(victim.pid());
        Self {
            victim,
            tree,
            memory,
            directories,
        }
    }

    fn options(&self) -> Options {
        victim::options(&self.directories.images)
            .work_dir(self.directories.other.clone())
            .lazy_pages(true)
    }

    /// None of its processes is there, not even as a zombie, and none of CRIU's.
    fn is_gone(&self) {
        for pid in &self.tree {
            let there = fs::exists(format!("/proc/{pid}")).unwrap();
            assert!(!there, "process {pid} is left");
        }
        assert_eq!(victim::children(), [0; 0]);
        assert!(!self.has_socket());
    }

    /// Restores it, with all its memory.
    async fn comes_back(&mut self) {
        let (criu, options) = (victim::criu(), self.options());
        let began = Instant::now();
        let daemon = LazyPages::of(&options).start(&criu).await.unwrap();
        let listening = began.elapsed();
        let lazy = daemon.restore(criu.restore(&options)).await.unwrap();
        let restored = began.elapsed();
        filled(&lazy).await.unwrap();
        println!(
            "daemon {listening:?}, restored {restored:?}, filled {:?}",
            began.elapsed()
        );
        assert_eq!(
            lazy.restored.pid.as_raw_pid().cast_unsigned(),
            self.victim.pid()
        );
        let at_once = lazy.restored.stats.unwrap().pages_restored.unwrap();
        assert!(at_once < FEW, "{at_once} pages were there at once");
        assert_eq!(memory(self.victim.pid(), MIB), self.memory);
        self.victim.is_well(&self.tree);
        // The daemon has gone, with its socket.
        let mut children = self.tree.clone();
        children.sort_unstable();
        let mut now = victim::children();
        now.sort_unstable();
        assert_eq!(now, children);
        assert!(!self.has_socket());
    }

    fn has_socket(&self) -> bool {
        fs::exists(self.directories.other.join("lazy-pages.socket")).unwrap()
    }
}

/// Sends a signal at one of a restore's hooks.
struct Signals {
    at: Hook,
    signal: Signal,
    to: Pid,
}

impl Signals {
    fn send(&self, hook: Hook) {
        if hook == self.at {
            rustix::process::kill_process(self.to, self.signal).unwrap();
        }
    }
}

#[async_trait]
impl Notify for Signals {
    async fn pre_restore(&mut self) -> HookResult {
        self.send(Hook::PreRestore);
        Ok(())
    }

    async fn pre_resume(&mut self) -> HookResult {
        self.send(Hook::PreResume);
        Ok(())
    }
}

/// Restores lazily, with a daemon that gets a signal at a hook.
async fn restore_with(
    dumped: &Dumped,
    signal: Signal,
    at: Hook,
    deadline: Duration,
) -> (Pid, Result<LazyRestored, Error>) {
    let (criu, options) = (victim::criu(), dumped.options());
    let daemon = LazyPages::of(&options).start(&criu).await.unwrap();
    let to = daemon.pid();
    let mut hooks = Signals { at, signal, to };
    let call = criu.restore(&options).notify(&mut hooks).within(deadline);
    (to, daemon.restore(call).await)
}

/// Waits for its memory, or for the error that it does not come.
async fn filled(lazy: &LazyRestored) -> Result<(), Error> {
    let filled = tokio::time::timeout(victim::PATIENCE, lazy.filled()).await;
    filled.expect("it is waited for")
}

fn is_of_the_daemon(error: &Error) {
    let Error::Pages { source, .. } = error else {
        panic!("{error:?}");
    };
    let PagesError::Daemon { left, .. } = source else {
        panic!("{source:?}");
    };
    assert!(left.is_empty(), "{left}");
    println!("{source}");
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn memory_that_comes_later_is_what_it_was() {
    Dumped::new().await.comes_back().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_daemon_that_is_not_needed_any_more_ends() {
    let dumped = Dumped::new().await;
    let options = dumped.options();
    let daemon = LazyPages::of(&options)
        .start(&victim::criu())
        .await
        .unwrap();
    let ending = Ending::of(daemon.pid());
    drop(daemon);
    ending.wait();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_daemon_killed_before_the_restore_begins_leaves_nothing() {
    let mut dumped = Dumped::new().await;
    let patience = victim::PATIENCE;
    let (_, restored) = restore_with(&dumped, Signal::KILL, Hook::PreRestore, patience).await;
    is_of_the_daemon(&restored.unwrap_err());
    dumped.is_gone();
    dumped.comes_back().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_daemon_killed_in_the_restore_leaves_nothing() {
    let mut dumped = Dumped::new().await;
    let patience = victim::PATIENCE;
    let (_, restored) = restore_with(&dumped, Signal::KILL, Hook::PreResume, patience).await;
    is_of_the_daemon(&restored.unwrap_err());
    dumped.is_gone();
    dumped.comes_back().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_daemon_killed_after_the_restore_takes_the_processes_with_it() {
    let mut dumped = Dumped::new().await;
    let patience = victim::PATIENCE;
    let (daemon, restored) = restore_with(&dumped, Signal::STOP, Hook::PreResume, patience).await;
    let lazy = restored.unwrap();
    rustix::process::kill_process(daemon, Signal::KILL).unwrap();
    is_of_the_daemon(&filled(&lazy).await.unwrap_err());
    dumped.is_gone();
    dumped.comes_back().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn memory_that_does_not_come_can_be_given_up() {
    let mut dumped = Dumped::new().await;
    let patience = victim::PATIENCE;
    let (_, restored) = restore_with(&dumped, Signal::STOP, Hook::PreResume, patience).await;
    let lazy = restored.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(500), lazy.filled()).await;
    assert!(waited.is_err(), "{waited:?}");
    lazy.give_up().await;
    dumped.is_gone();
    dumped.comes_back().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_daemon_that_stands_still_holds_a_restore_no_longer_than_its_deadline() {
    let mut dumped = Dumped::new().await;
    let deadline = Duration::from_secs(1);
    let (_, restored) = restore_with(&dumped, Signal::STOP, Hook::PreRestore, deadline).await;
    match restored {
        Err(Error::Deadline { left, .. }) => assert!(left.is_empty(), "{left}"),
        other => panic!("{other:?}"),
    }
    dumped.is_gone();
    dumped.comes_back().await;
}

/// A process in a PID namespace of its own, where its id is free for a restore while it is there.
struct Contained {
    parent: Child,
    pid: u32,
}

impl Contained {
    fn start() -> Self {
        // The shell's first child is in the new namespace. It alone has the pipe.
        let mut parent = Command::new("unshare")
            .args(["--pid", "sh", "-c", "\"$@\" & exec >/dev/null; wait", "sh"])
            .arg(victim::program("victim"))
            .args(["--memory", "256", "--threads", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed when the process is ready.
        let said = std::io::read_to_string(parent.stdout.take().unwrap()).unwrap();
        assert_eq!(said, "ready\n");
        let pid = victim::tree(parent.id())[1];
        Self { parent, pid }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        victim::tree(self.parent.id())
            .into_iter()
            .for_each(victim::kill);
        let _ = self.parent.wait();
    }
}

/// Tells when a page server listens.
struct Listens(Option<tokio::sync::oneshot::Sender<()>>);

#[async_trait]
impl Notify for Listens {
    async fn status_ready(&mut self) -> HookResult {
        let first = self.0.take().ok_or("it listens twice")?;
        first.send(()).map_err(|()| "nobody waits".into())
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    let free = std::net::TcpListener::bind(any_port()).unwrap();
    free.local_addr().unwrap().port()
}

fn lazy_dump_of(pid: u32, images: &Path, port: u16) -> Options {
    victim::options(images)
        .pid(pid)
        .lazy_pages(true)
        .page_server(PageServer::listening(port))
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_lazy_dump_in_a_network_of_its_own_is_fetched_by_a_restore() {
    let directories = Directories::new();
    let mut contained = Contained::start();
    let before = memory(contained.pid, MIB);
    let criu = victim::criu();
    let port = free_port();
    let dump = lazy_dump_of(contained.pid, &directories.images, port);
    let (listens, listening) = tokio::sync::oneshot::channel();
    let mut listens = Listens(Some(listens));
    let fetched = async {
        listening.await.unwrap();
        let options = victim::options(&directories.images)
            .work_dir(directories.other.clone())
            .lazy_pages(true);
        let daemon = LazyPages::of(&options).from(LOOPBACK.into(), port);
        let daemon = daemon.start(&criu).await.unwrap();
        let call = criu.restore(&options).within(victim::PATIENCE);
        let lazy = daemon.restore(call).await.unwrap();
        filled(&lazy).await.unwrap();
        lazy
    };
    let call = criu
        .dump(&dump)
        .notify(&mut listens)
        .within(victim::PATIENCE);
    let (dumped, lazy) = tokio::join!(call.into_future(), fetched);
    let later = dumped.unwrap().stats.unwrap().lazy_pages;
    assert!(later >= MIB << 8, "{later} pages went over the socket");
    // The process that was dumped has ended.
    contained.parent.wait().unwrap();
    let restored = lazy.restored.pid.as_raw_pid().cast_unsigned();
    assert_eq!(memory(restored, MIB), before);
    victim::kill(restored);
    reap(restored);
    assert_eq!(victim::children(), [0; 0]);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_lazy_dump_that_nobody_fetches_is_given_up() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let options = lazy_dump_of(subject.victim.pid(), &directories.images, free_port())
        .tcp_established(subject.with_tcp);
    let criu = victim::criu();
    let (listens, listening) = tokio::sync::oneshot::channel();
    let mut listens = Listens(Some(listens));
    let call = criu
        .dump(&options)
        .notify(&mut listens)
        .until(async { listening.await.unwrap() });
    let dumped = call.await;
    let Err(Error::Cancelled { left, .. }) = dumped else {
        panic!("{dumped:?}");
    };
    assert!(left.is_empty(), "{left}");
    assert_eq!(names(&directories.images), [""; 0]);
    drop(listens);
    subject.runs_as_before();
}

/// A network device besides the loopback, for as long as this lives.
struct Device;

impl Device {
    fn add() -> Self {
        run("ip", &["link", "add", "elsewhere", "type", "bridge"]);
        Self
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["link", "delete", "elsewhere"])
            .status();
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_lazy_dump_is_refused_where_a_stranger_could_come() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let options = lazy_dump_of(subject.victim.pid(), &directories.images, free_port());
    let device = Device::add();
    let error = victim::criu().dump(&options).await.unwrap_err();
    drop(device);
    let Error::Pages { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(source, PagesError::Exposed), "{source:?}");
    assert_eq!(names(&directories.images), [""; 0]);
    subject.runs_as_before();
}
