//! Restores whose memory comes later, and what becomes of them where it does not come.

use std::{
    fs,
    path::Path,
    pin::pin,
    process::Command,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::{
    process::{Pid, Signal},
    thread::CapabilitySet,
};
use stasis_criu::{
    Error, Hook, HookResult, Notify, Options,
    options::PageServer,
    pages::{LazyPages, LazyRestored, PagesError},
};

use tokio::sync::oneshot;

use super::{Directories, Ending, Subject, memory, names, reap};
use crate::{
    programs::run,
    victim::{self, Victim},
};

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
        reap(&tree);
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

/// Tells that processes are about to run, and never lets the hook end.
struct Resuming(Option<oneshot::Sender<()>>);

#[async_trait]
impl Notify for Resuming {
    async fn post_resume(&mut self) -> HookResult {
        drop(self.0.take());
        std::future::pending().await
    }
}

/// Waits for a daemon's end before the restore can reply.
struct Filled(Option<Ending>);

#[async_trait]
impl Notify for Filled {
    async fn post_resume(&mut self) -> HookResult {
        self.0.take().ok_or("it is resumed twice")?.wait();
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
async fn memory_that_is_there_before_the_restore_has_replied_is_enough() {
    let mut dumped = Dumped::new().await;
    let (criu, options) = (victim::criu(), dumped.options());
    let daemon = LazyPages::of(&options).start(&criu).await.unwrap();
    let mut hooks = Filled(Some(Ending::of(daemon.pid())));
    let call = criu.restore(&options).notify(&mut hooks);
    let lazy = daemon.restore(call).await.unwrap();
    assert!(hooks.0.is_none());
    filled(&lazy).await.unwrap();
    drop(lazy);
    dumped.victim.is_well(&dumped.tree);
    assert_eq!(memory(dumped.victim.pid(), MIB), dumped.memory);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn processes_get_their_memory_though_nobody_waits_for_their_restore_any_more() {
    let mut dumped = Dumped::new().await;
    let (criu, options) = (victim::criu(), dumped.options());
    let daemon = LazyPages::of(&options).start(&criu).await.unwrap();
    let ending = Ending::of(daemon.pid());
    let (tell, told) = oneshot::channel();
    let mut hooks = Resuming(Some(tell));
    {
        let call = criu.restore(&options).notify(&mut hooks);
        let restoring = pin!(daemon.restore(call));
        tokio::select! {
            restored = restoring => panic!("{restored:?}"),
            // It was dropped.
            told = told => assert!(told.is_err()),
        }
    }
    criu.idle().await;
    ending.wait();
    assert_eq!(memory(dumped.victim.pid(), MIB), dumped.memory);
    dumped.victim.is_well(&dumped.tree);
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
    let error = match restored {
        Err(error) => error,
        // It was not dead yet.
        Ok(lazy) => filled(&lazy).await.unwrap_err(),
    };
    is_of_the_daemon(&error);
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

fn lazy_dump_of(subject: &Subject, images: &Path) -> Options {
    let options = subject.dump_to(images).lazy_pages(true);
    options.page_server(PageServer::listening(27))
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
    let options = lazy_dump_of(&subject, &directories.images);
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

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_lazy_dump_that_could_serve_nobody_is_refused() {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let options = lazy_dump_of(&subject, &directories.images);
    // Of this thread, in which the call is made.
    let all = rustix::thread::capabilities(None).unwrap();
    let mut less = all;
    less.effective.remove(CapabilitySet::SYS_RESOURCE);
    rustix::thread::set_capabilities(None, less).unwrap();
    let dumped = victim::criu().dump(&options).await;
    rustix::thread::set_capabilities(None, all).unwrap();
    let Err(Error::Pages { source, .. }) = &dumped else {
        panic!("{dumped:?}");
    };
    assert!(
        matches!(source, PagesError::SmallPipes { .. }),
        "{source:?}"
    );
    assert_eq!(names(&directories.images), [""; 0]);
    subject.runs_as_before();
}
