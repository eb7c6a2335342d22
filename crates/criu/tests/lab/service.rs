//! CRIU as a service (`criu service`), which others started.

use std::{
    fs,
    io::{Read as _, pipe},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use rustix::{
    io::FdFlags,
    process::{Pid, Signal, kill_process},
};
use stasis_criu::{Criu, Error, HookResult, Leftover, Notify, Request, options::InheritedFd};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{
    exerciser::{self, Exerciser},
    victim,
};

/// A service, until it is dropped.
struct Service {
    child: Child,
    directory: TempDir,
}

impl Service {
    /// Starts one, and waits until it listens.
    fn start() -> Self {
        victim::needs_lab();
        let directory = tempfile::tempdir().unwrap();
        let (mut listens, theirs) = pipe().unwrap();
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
        let child = Command::new("criu")
            .args(["service", "--address"])
            .arg(directory.path().join("socket"))
            .args(["--status-fd", &theirs.as_raw_fd().to_string()])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self { child, directory };
        drop(theirs);
        // It closes its end after one byte.
        let mut said = Vec::new();
        listens.read_to_end(&mut said).unwrap();
        assert_eq!(said, [0]);
        service
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn criu(&self) -> Criu {
        Criu::over_service(self.socket())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Ends a tree whose root is no child of ours.
fn end(tree: &[u32]) {
    tree.iter().for_each(|pid| victim::kill(*pid));
    exerciser::await_end(tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_service_answers_dumps_and_restores_as_a_criu_of_ours_does() {
    let service = Service::start();
    let (criu, own) = (service.criu(), victim::criu());
    assert_eq!(criu.version().await.unwrap(), own.version().await.unwrap());
    assert_eq!(
        criu.features().await.unwrap(),
        own.features().await.unwrap()
    );
    criu.check().await.unwrap();

    let exerciser = Exerciser::start(&["pipes", "shared=1", "memory=8"]);
    let tree = exerciser.tree();
    let images = exerciser.path("images");
    fs::create_dir(&images).unwrap();
    let options = victim::options(&images);
    let dump = options.clone().pid(exerciser.pid());
    let dumped = criu.dump(&dump.clone().leave_running(true)).await.unwrap();
    assert!(!dumped.restored);
    exerciser.goes_on(&tree);
    criu.dump(&dump).await.unwrap();
    exerciser.has_ended(&tree);
    let restored = criu.restore(&options).await.unwrap();
    assert_eq!(restored.pid, exerciser.root());
    exerciser.goes_on(&tree);
    end(&tree);

    // What only a CRIU that we start can do.
    let null = fs::File::open("/dev/null").unwrap();
    let inherit = options.inherit_fd(InheritedFd::new("dev/null", null));
    let error = criu.restore(&inherit).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let error = own.dump_self(&victim::options(&images)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    drop(service);
    let error = Criu::over_service("/no/such/socket").version().await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error:?}");
}

/// Waits until CRIU writes memory, which is between two hooks.
async fn writes_memory(images: &Path) {
    let has_pages = || {
        let names = fs::read_dir(images).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.any(|name| name.starts_with("pages-"))
    };
    while !has_pages() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Keeps a dump from its end: it can only be cancelled.
struct NeverEnds;

#[async_trait]
impl Notify for NeverEnds {
    async fn post_dump(&mut self) -> HookResult {
        std::future::pending().await
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_call_over_a_service_is_cancelled_at_the_next_hook() {
    let service = Service::start();
    let criu = service.criu();
    let exerciser = Exerciser::start(&["pipes", "memory=256"]);
    let tree = exerciser.tree();
    let images = tempfile::tempdir().unwrap();
    let options = victim::options(images.path()).pid(exerciser.pid());
    let mut hooks = NeverEnds;
    let call = criu.dump(&options).notify(&mut hooks);
    let call = call.until(writes_memory(images.path()));
    let error = call.await.unwrap_err();
    let Error::Cancelled { request, left } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((*request, left.is_empty()), (Request::Dump, true), "{left}");
    exerciser.goes_on(&tree);
    assert_eq!(fs::read_dir(images.path()).unwrap().count(), 0);

    criu.dump(&options).await.unwrap();
    exerciser.has_ended(&tree);
    let options = victim::options(images.path());
    let error = criu.restore(&options).until(async {}).await.unwrap_err();
    let Error::Cancelled { request, left } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        (*request, left.is_empty()),
        (Request::Restore, true),
        "{left}"
    );
    exerciser::await_end(&tree);
    criu.restore(&options).await.unwrap();
    exerciser.goes_on(&tree);
    end(&tree);
}

/// Stops a service's worker while it waits at a hook, and tells so.
struct Stops {
    workers: Vec<u32>,
    service: u32,
    tell: Option<oneshot::Sender<()>>,
}

impl Stops {
    fn send(&self, signal: Signal) {
        for worker in &self.workers {
            let worker = Pid::from_raw(worker.cast_signed()).unwrap();
            kill_process(worker, signal).unwrap();
        }
    }
}

#[async_trait]
impl Notify for Stops {
    async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
        self.workers = victim::children_of(self.service);
        self.send(Signal::STOP);
        let tell = self.tell.take().ok_or("it is asked twice")?;
        tell.send(()).map_err(|()| "nobody waits for it")?;
        Ok(Vec::new())
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_worker_that_comes_to_no_hook_in_time_is_told() {
    let service = Service::start();
    let criu = service.criu().grace(Duration::from_millis(1));
    let exerciser = Exerciser::start(&["pipes", "memory=256"]);
    let tree = exerciser.tree();
    let images = tempfile::tempdir().unwrap();
    let options = victim::options(images.path()).pid(exerciser.pid());
    let (tell, stopped) = oneshot::channel();
    let mut hooks = Stops {
        workers: Vec::new(),
        service: service.child.id(),
        tell: Some(tell),
    };
    let call = criu.dump(&options).notify(&mut hooks);
    let call = call.until(async { stopped.await.unwrap() });
    let error = call.await.unwrap_err();
    let Error::Cancelled { left, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(left.iter().collect::<Vec<_>>(), [&Leftover::Worker]);
    // It finds nobody at its next hook, and so gives up by itself.
    hooks.send(Signal::CONT);
    exerciser.goes_on(&tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_process_that_dumps_itself_hears_of_it_there_and_where_it_is_restored() {
    let service = Service::start();
    let images = tempfile::tempdir().unwrap();
    let file = service.directory.path().join("told");
    fs::write(&file, "").unwrap();
    let null = || Stdio::null();
    let mut child = Command::new("setsid")
        .arg(victim::program("self-dump"))
        .args([&service.socket(), images.path(), &file])
        .stdin(null())
        .stdout(null())
        .stderr(null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "dumped\n");

    let options = victim::options(images.path());
    let restored = service.criu().restore(&options).await.unwrap();
    assert_eq!(restored.pid, Pid::from_child(&child));
    exerciser::await_end(&[child.id()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "dumped\nrestored\n");
}
