//! The client against a CRIU that misbehaves on purpose (`support/fake_swrk.rs`).

#![expect(clippy::tests_outside_test_module, reason = "this whole file is one")]

use std::{
    env, fs,
    future::Future,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use async_trait::async_trait;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};
use stasis_criu::{
    Call, Criu, Error, Hook, HookResult, Leftover, Notify, Options, ProtocolError, Request,
};
use tempfile::TempDir;

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A fake CRIU and the directory for its images.
struct Fake {
    directory: TempDir,
    criu: Criu,
    /// Where it tells what it hears. A file would not do: a cancelled CRIU cannot write to one.
    ear: UnixDatagram,
}

impl Fake {
    fn plays(steps: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("images")).unwrap();
        let heard = directory.path().join("heard");
        let ear = UnixDatagram::bind(&heard).unwrap();
        ear.set_read_timeout(Some(PATIENCE)).unwrap();
        let criu = Criu::with_binary(binary())
            .environment("FAKE_SWRK", steps)
            .environment("FAKE_SWRK_HEARD", heard)
            .grace(Duration::from_millis(300));
        Self {
            directory,
            criu,
            ear,
        }
    }

    /// One that ends in order, however long that takes.
    fn plays_to_its_end(steps: &str) -> Self {
        let fake = Self::plays(steps);
        let criu = fake.criu.clone().grace(PATIENCE);
        Self { criu, ..fake }
    }

    fn images(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    fn options(&self) -> Options {
        Options::new(self.images())
    }

    /// Options to dump this process, which the fake does not touch.
    fn dump(&self) -> Options {
        self.options().pid(process::id())
    }

    /// Waits until it has heard `what`.
    fn hears(&self, what: &str) {
        hears(&self.ear, what);
    }

    /// Resolves when it has heard `what`.
    async fn has_heard(&self, what: &'static str) {
        let ear = self.ear.try_clone().unwrap();
        let heard = tokio::task::spawn_blocking(move || hears(&ear, what));
        heard.await.unwrap();
    }

    /// Nothing is left: no child, no descriptor but those that there were.
    async fn leaves_nothing(self) {
        within(self.criu.idle()).await;
        assert_eq!(names(&self.images()), [""; 0]);
    }
}

fn hears(ear: &UnixDatagram, what: &str) {
    let mut message = vec![0; 1 << 16];
    loop {
        let length = ear.recv(&mut message).unwrap();
        if String::from_utf8_lossy(&message[..length]).contains(what) {
            return;
        }
    }
}

fn binary() -> PathBuf {
    let tests = env::current_exe().unwrap();
    let target = tests.ancestors().nth(2).unwrap();
    let fake = target.join("examples/fake-swrk");
    // `cargo test` builds it, `cargo test --test client` alone does not.
    assert!(
        fake.exists(),
        "build it: cargo build -p stasis-criu --examples"
    );
    fake
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("still waiting after half a minute")
}

async fn dump_fails(steps: &str) -> (Fake, Error) {
    let fake = Fake::plays(steps);
    let error = within(fake.criu.dump(&fake.dump()).into_future())
        .await
        .unwrap_err();
    (fake, error)
}

/// The chain of an error, as the command prints it.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn no_criu_is_named_with_the_way_out() {
    let criu = Criu::with_binary("/nowhere/criu");
    let error = within(criu.version()).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("/nowhere/criu; install CRIU"), "{text}");
    assert!(text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn a_binary_that_is_no_criu_is_an_error() {
    let error = within(Criu::with_binary("/bin/true").version())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoReply { .. }), "{error}");
}

#[tokio::test]
async fn what_criu_said_before_it_ended_is_the_cause() {
    let (fake, error) = dump_fails("take\nsay Error (criu/x.c:1): no such option\nexit 1").await;
    let text = chain(&error);
    assert!(
        matches!(
            error,
            Error::NoReply {
                request: Request::Dump,
                ..
            }
        ),
        "{text}"
    );
    assert!(text.contains("no such option"), "{text}");
    fake.leaves_nothing().await;
}

#[tokio::test]
async fn the_log_of_an_earlier_call_is_no_cause() {
    let fake = Fake::plays("take\nsay Error (criu/x.c:1): no such option\nexit 1");
    let log = fake.images().join("dump.log");
    fs::write(&log, "(00.1) Error (criu/y.c:2): of another time\n").unwrap();
    let error = within(fake.criu.dump(&fake.dump()).into_future())
        .await
        .unwrap_err();
    let text = chain(&error);
    assert!(text.contains("no such option"), "{text}");
    assert!(!text.contains("dump.log"), "{text}");
    // One that this call has written over is.
    let criu = fake
        .criu
        .clone()
        .environment("FAKE_SWRK", "take\nlog this time\nfail")
        .environment("FAKE_SWRK_LOG", &log);
    let error = within(criu.dump(&fake.dump()).into_future())
        .await
        .unwrap_err();
    let text = chain(&error);
    assert!(text.contains("this time"), "{text}");
    assert!(text.contains("dump.log"), "{text}");
}

#[tokio::test]
async fn a_flood_on_stderr_stops_nothing() {
    let fake = Fake::plays("take\nflood 4000000\nreply");
    within(fake.criu.dump(&fake.dump()).into_future())
        .await
        .unwrap();
    fake.leaves_nothing().await;
}

#[tokio::test]
async fn one_that_never_answers_ends_with_its_deadline() {
    let fake = Fake::plays("take\nhang");
    let deadline = Duration::from_millis(200);
    let error = within(fake.criu.dump(&fake.dump()).within(deadline).into_future())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Deadline { deadline: said, .. } if said == deadline),
        "{error}"
    );
    fake.leaves_nothing().await;
}

#[tokio::test]
async fn one_that_never_answers_at_all_ends_with_its_deadline_and_when_it_is_cancelled() {
    // What it is asked first is its version, for which no grace is waited.
    let fake = Fake::plays_to_its_end("hang");
    let options = fake.dump();
    let deadline = Duration::from_millis(200);
    ends_at_its_deadline(fake.criu.dump(&options), deadline).await;
    let at_once = async {};
    let error = within(fake.criu.dump(&options).until(at_once).into_future())
        .await
        .unwrap_err();
    let request = Request::Dump;
    assert!(
        matches!(&error, Error::Cancelled { request: of, left } if *of == request && left.is_empty()),
        "{error}"
    );
    fake.leaves_nothing().await;
    // Then for features.
    let fake = Fake::plays_to_its_end("answer-one\nhang");
    let options = fake.dump();
    ends_at_its_deadline(fake.criu.pre_dump(&options), deadline).await;
    fake.leaves_nothing().await;
}

#[tokio::test]
async fn one_that_hangs_after_its_answer_is_not_waited_for() {
    let fake = Fake::plays_to_its_end("answer-one\nhang");
    tokio::time::timeout(PATIENCE / 2, fake.criu.version())
        .await
        .expect("a grace was waited for")
        .unwrap();
    fake.leaves_nothing().await;
}

async fn ends_at_its_deadline<'a, T: std::fmt::Debug + Send + 'a>(
    call: Call<'a, T>,
    deadline: Duration,
) {
    let error = tokio::time::timeout(PATIENCE / 2, call.within(deadline).into_future())
        .await
        .expect("a grace was waited for")
        .unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Deadline {
                request: Request::Dump | Request::SinglePreDump,
                deadline: said,
                left
            } if said == &deadline && left.is_empty()
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_service_that_never_answers_ends_a_call_with_its_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = SocketAddrUnix::new(&path).unwrap();
    let service = net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    net::bind(&service, &address).unwrap();
    net::listen(&service, 0).unwrap();
    let criu = Criu::over_service(&path);
    let options = Options::new(directory.path()).pid(process::id());
    let deadline = Duration::from_millis(200);
    // The kernel connects the first, to be accepted some day.
    ends_at_its_deadline(criu.dump(&options), deadline).await;
    // That it has gone again the kernel does not mind, and has the next wait.
    ends_at_its_deadline(criu.dump(&options), deadline).await;
    drop(service);
    within(criu.idle()).await;
}

#[tokio::test]
async fn a_deadline_and_a_grace_without_end_are_none() {
    let fake = Fake::plays("take\nwrite-until-refused\nfail");
    let criu = fake.criu.clone().grace(Duration::MAX);
    let options = fake.dump();
    let writes = fake.has_heard("writes");
    let call = criu.dump(&options).within(Duration::MAX).until(writes);
    let error = within(call.into_future()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Cancelled { left, .. } if left.is_empty()),
        "{error}"
    );
    fake.leaves_nothing().await;
}

#[tokio::test]
async fn a_failure_has_its_number_and_its_message() {
    let (fake, error) = dump_fails("take\nfail 3 the process is not there").await;
    let text = chain(&error);
    assert!(matches!(error, Error::Failed { .. }), "{text}");
    assert!(text.contains("the process is not there"), "{text}");
    assert!(text.contains("ESRCH"), "{text}");
    fake.leaves_nothing().await;
}

#[tokio::test]
async fn a_reply_cut_short_is_an_error() {
    let (_, error) = dump_fails("take\ncut").await;
    let text = chain(&error);
    assert!(
        matches!(
            error,
            Error::Protocol {
                source: ProtocolError::Malformed(_),
                ..
            }
        ),
        "{text}"
    );
}

#[tokio::test]
#[ignore = "needs root, for the size of the buffer: make test"]
async fn a_reply_larger_than_any_is_an_error() {
    let (_, error) = dump_fails("take\nhuge 2000000").await;
    let text = chain(&error);
    assert!(
        matches!(
            error,
            Error::Protocol {
                source: ProtocolError::Transport(_),
                ..
            }
        ),
        "{text}"
    );
    assert!(text.contains("no reply has more than"), "{text}");
}

#[tokio::test]
#[ignore = "needs root, for the size of the buffer: make test"]
async fn a_long_reply_that_is_not_too_large_arrives_whole() {
    let fake = Fake::plays("take\nhuge 900000");
    within(fake.criu.dump(&fake.dump()).into_future())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reply_to_something_else_is_an_error() {
    for (step, name) in [("reply-as 2", "RESTORE"), ("reply-as 77", "request 77")] {
        let (_, error) = dump_fails(&format!("take\n{step}")).await;
        let text = chain(&error);
        assert!(
            matches!(
                error,
                Error::Protocol {
                    source: ProtocolError::WrongType { .. },
                    ..
                }
            ),
            "{text}"
        );
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn a_criu_that_does_not_know_the_request_is_an_error() {
    let (_, error) = dump_fails("take\nempty").await;
    assert!(
        matches!(
            error,
            Error::Protocol {
                source: ProtocolError::Empty,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn two_replies_are_none() {
    let fake = Fake::plays_to_its_end("take\nreply\nreply\nexit 0");
    let error = within(fake.criu.dump(&fake.dump()).into_future())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Protocol {
                source: ProtocolError::TwoReplies,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_restore_that_may_have_succeeded_names_what_is_there() {
    let pid = rustix::process::Pid::from_raw(4711).unwrap();
    for steps in [
        "take\nreply\nreply\nexit 0",
        "take\nnotify post-restore 4711\nreply-bare\nexit 0",
        "take\nnotify post-restore 4711\ntell-with-fd pre-resume\nreply\nexit 0",
    ] {
        let fake = Fake::plays_to_its_end(steps);
        let error = within(fake.criu.restore(&fake.options()).into_future())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        assert_eq!(error.left(), [Leftover::Process { pid }], "{error}");
    }
}

#[tokio::test]
async fn descriptors_that_nobody_asked_for_are_an_error_and_are_closed() {
    for steps in [
        "take\nreply-with-fd",
        "take\nnotify-with-fd pre-dump\nreply",
    ] {
        let (_, error) = dump_fails(steps).await;
        assert!(
            matches!(
                error,
                Error::Protocol {
                    source: ProtocolError::Descriptors { count: 1 },
                    ..
                }
            ),
            "{error}"
        );
    }
}

/// Counts its hooks, and refuses one.
#[derive(Default)]
struct Hooks {
    seen: Vec<String>,
    refuses: Option<Hook>,
}

impl Hooks {
    fn saw(&mut self, hook: Hook) -> HookResult {
        self.seen.push(hook.to_string());
        match self.refuses == Some(hook) {
            true => Err("refused by the test".into()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Notify for Hooks {
    async fn pre_dump(&mut self) -> HookResult {
        self.saw(Hook::PreDump)
    }
    async fn network_lock(&mut self) -> HookResult {
        self.saw(Hook::NetworkLock)
    }
    async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
        self.saw(Hook::QueryExternalFiles)?;
        Ok(vec![String::from("file[1f:2a]")])
    }
    async fn post_dump(&mut self) -> HookResult {
        self.saw(Hook::PostDump)
    }
    async fn network_unlock(&mut self) -> HookResult {
        self.saw(Hook::NetworkUnlock)
    }
    async fn pre_restore(&mut self) -> HookResult {
        self.saw(Hook::PreRestore)
    }
    async fn setup_namespaces(&mut self, pid: rustix::process::Pid) -> HookResult {
        assert_eq!(pid.as_raw_pid(), 4711);
        self.saw(Hook::SetupNamespaces)
    }
    async fn post_setup_namespaces(&mut self) -> HookResult {
        self.saw(Hook::PostSetupNamespaces)
    }
    async fn post_restore(&mut self, pid: rustix::process::Pid) -> HookResult {
        assert_eq!(pid.as_raw_pid(), 4711);
        self.saw(Hook::PostRestore)
    }
    async fn pre_resume(&mut self) -> HookResult {
        self.saw(Hook::PreResume)
    }
    async fn post_resume(&mut self) -> HookResult {
        self.saw(Hook::PostResume)
    }
    async fn orphan_pts_master(&mut self, master: std::os::fd::OwnedFd) -> HookResult {
        rustix::io::fcntl_getfd(&master)?;
        self.saw(Hook::OrphanPtsMaster)
    }
    async fn status_ready(&mut self) -> HookResult {
        self.saw(Hook::StatusReady)
    }
    async fn unknown(&mut self, script: &str) {
        self.seen.push(format!("{script}?"));
    }
}

fn step(hook: Hook) -> String {
    match hook {
        Hook::SetupNamespaces | Hook::PostRestore => format!("notify {hook} 4711"),
        Hook::OrphanPtsMaster => format!("notify-with-fd {hook}"),
        _ => format!("notify {hook}"),
    }
}

#[tokio::test]
async fn every_hook_reaches_its_method() {
    let steps: Vec<_> = Hook::ALL.into_iter().map(step).collect();
    let fake = Fake::plays(&format!("take\n{}\nreply", steps.join("\n")));
    let mut hooks = Hooks::default();
    let restored = within(
        fake.criu
            .restore(&fake.options())
            .notify(&mut hooks)
            .into_future(),
    )
    .await
    .unwrap();
    assert_eq!(restored.pid.as_raw_pid(), 4711);
    assert!(restored.ignored.is_empty());
    assert_eq!(hooks.seen, Hook::ALL.map(|hook| hook.to_string()));
    fake.hears("file[1f:2a]");
}

#[tokio::test]
async fn a_hook_that_fails_ends_the_call_where_criu_gives_up() {
    for hook in Hook::ALL.into_iter().filter(|hook| hook.aborts()) {
        let fake = Fake::plays_to_its_end(&format!("take\n{}\nreply", step(hook)));
        let mut hooks = Hooks {
            refuses: Some(hook),
            ..Hooks::default()
        };
        let options = fake.dump();
        let call = fake.criu.dump(&options).notify(&mut hooks);
        let error = within(call.into_future()).await.unwrap_err();
        let text = chain(&error);
        assert!(
            matches!(error, Error::Hook { hook: at, .. } if at == hook),
            "{text}"
        );
        assert!(text.contains("refused by the test"), "{text}");
        fake.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_told_where_criu_goes_on() {
    for hook in Hook::ALL.into_iter().filter(|hook| !hook.aborts()) {
        let fake = Fake::plays(&format!(
            "take\n{}\nreply",
            step(hook).replace("notify", "tell")
        ));
        let mut hooks = Hooks {
            refuses: Some(hook),
            ..Hooks::default()
        };
        let options = fake.options();
        let call = fake.criu.restore(&options).notify(&mut hooks);
        let restored = within(call.into_future()).await.unwrap();
        let ignored: Vec<_> = restored
            .ignored
            .iter()
            .map(|ignored| ignored.hook)
            .collect();
        assert_eq!(ignored, [hook]);
    }
}

#[tokio::test]
async fn an_unknown_hook_is_acknowledged_and_told() {
    let fake = Fake::plays("take\nnotify of-tomorrow\nreply");
    let mut hooks = Hooks::default();
    within(
        fake.criu
            .dump(&fake.dump())
            .notify(&mut hooks)
            .into_future(),
    )
    .await
    .unwrap();
    assert_eq!(hooks.seen, ["of-tomorrow?"]);
}

#[tokio::test]
async fn a_cancelled_dump_ends_where_its_writes_are_refused() {
    let fake = Fake::plays_to_its_end("take\nwrite-until-refused\nfail");
    let writes = fake.has_heard("writes");
    let error = within(fake.criu.dump(&fake.dump()).until(writes).into_future())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Cancelled { left, .. } if left.is_empty()),
        "{error}"
    );
    fake.leaves_nothing().await;
}

#[tokio::test]
async fn a_dropped_dump_is_cancelled_at_its_next_hook() {
    let fake = Fake::plays_to_its_end("take\nwrite-until-refused\nnotify post-dump\nreply");
    let options = fake.dump();
    tokio::select! {
        ended = fake.criu.dump(&options).into_future() => panic!("{ended:?}"),
        () = fake.has_heard("writes") => {}
    }
    within(fake.criu.idle()).await;
    fake.hears("notify_success: Some(false)");
}

#[test]
fn a_dump_is_cancelled_also_where_its_runtime_is_dropped() {
    let fake = Fake::plays_to_its_end("take\nwrite-until-refused\nnotify post-dump\nreply");
    let options = fake.dump();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (criu, first) = (fake.criu.clone(), runtime());
    first.spawn(async move { criu.dump(&options).await });
    first.block_on(fake.has_heard("writes"));
    drop(first);
    runtime().block_on(within(fake.criu.idle()));
    fake.hears("notify_success: Some(false)");
}

#[tokio::test]
async fn a_hook_under_way_is_dropped_with_its_call() {
    struct Stuck(Option<tokio::sync::oneshot::Sender<()>>);
    #[async_trait]
    impl Notify for Stuck {
        async fn post_dump(&mut self) -> HookResult {
            let _ = self.0.take().ok_or("it is called twice")?.send(());
            std::future::pending().await
        }
    }
    let fake = Fake::plays_to_its_end("take\nnotify post-dump\nreply");
    let options = fake.dump();
    let (tell, under_way) = tokio::sync::oneshot::channel();
    let mut stuck = Stuck(Some(tell));
    let call = fake.criu.dump(&options).notify(&mut stuck);
    let under_way = async { under_way.await.unwrap() };
    let error = within(call.until(under_way).into_future())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    fake.hears("notify_success: Some(false)");
}

#[tokio::test]
async fn a_hook_under_way_is_dropped_when_criu_ends() {
    let fake = Fake::plays("take\ncall post-dump\nwait-for-file\nexit 1");
    let go = fake.directory.path().join("go");
    let criu = fake.criu.clone().environment("FAKE_SWRK_GO", &go);
    let options = fake.dump();
    let (tell, under_way) = tokio::sync::oneshot::channel();
    let mut hooks = Locks {
        under_way: Some(tell),
        ..Locks::default()
    };
    let call = within(criu.dump(&options).notify(&mut hooks).into_future());
    let ends = async {
        under_way.await.unwrap();
        fs::write(go, "").unwrap();
    };
    let (dumped, ()) = tokio::join!(call, ends);
    let error = dumped.unwrap_err();
    assert!(matches!(error, Error::NoReply { .. }), "{error}");
    fake.leaves_nothing().await;
}

/// Locks the network, and waits for ever while the processes are frozen.
#[derive(Default)]
struct Locks {
    locked: bool,
    fails: bool,
    hangs: bool,
    under_way: Option<tokio::sync::oneshot::Sender<()>>,
}

#[async_trait]
impl Notify for Locks {
    async fn network_lock(&mut self) -> HookResult {
        self.locked = true;
        Ok(())
    }
    async fn post_dump(&mut self) -> HookResult {
        if let Some(under_way) = self.under_way.take() {
            under_way.send(()).unwrap();
        }
        std::future::pending().await
    }
    async fn network_unlock(&mut self) -> HookResult {
        match (self.fails, self.hangs) {
            (true, _) => Err("the lock is stuck".into()),
            (_, true) => std::future::pending().await,
            _ => {
                self.locked = false;
                Ok(())
            }
        }
    }
}

/// What CRIU does where a dump is given up at post-dump.
const GIVES_UP_FROZEN: &str =
    "take\nnotify network-lock\ntell post-dump\ntell network-unlock\nfail";

#[tokio::test]
async fn the_network_is_unlocked_whyever_a_dump_is_given_up() {
    let fake = Fake::plays_to_its_end(GIVES_UP_FROZEN);
    let options = fake.dump();
    let mut hooks = Hooks {
        refuses: Some(Hook::PostDump),
        ..Hooks::default()
    };
    let call = fake.criu.dump(&options).notify(&mut hooks);
    let error = within(call.into_future()).await.unwrap_err();
    assert!(matches!(error, Error::Hook { .. }), "{error}");
    assert!(error.left().is_empty(), "{error}");
    assert_eq!(hooks.seen, ["network-lock", "post-dump", "network-unlock"]);

    let (tell, under_way) = tokio::sync::oneshot::channel();
    let mut locks = Locks {
        under_way: Some(tell),
        ..Locks::default()
    };
    let call = fake.criu.dump(&options).notify(&mut locks);
    let under_way = async { under_way.await.unwrap() };
    let error = within(call.until(under_way).into_future())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert!(error.left().is_empty(), "{error}");
    assert!(!locks.locked);

    let mut locks = Locks::default();
    let call = fake.criu.dump(&options).notify(&mut locks);
    let error = within(call.within(Duration::from_millis(200)).into_future())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    assert!(error.left().is_empty(), "{error}");
    assert!(!locks.locked);
    fake.leaves_nothing().await;

    // CRIU does not come to it: it has to be killed, or ends by itself. The hook has as long as
    // CRIU had to end, and is over in an instant.
    for (end, grace) in [("hang", PATIENCE / 6), ("exit 1", PATIENCE)] {
        let fake = Fake::plays(&format!("take\nnotify network-lock\n{end}"));
        let criu = fake.criu.clone().grace(grace);
        let options = fake.dump();
        let mut locks = Locks::default();
        let call = criu.dump(&options).notify(&mut locks);
        let error = within(call.within(Duration::from_millis(200)).into_future())
            .await
            .unwrap_err();
        assert!(error.left().is_empty(), "{error}");
        assert!(!locks.locked);
        fake.leaves_nothing().await;
    }
}

#[tokio::test]
async fn a_network_that_stays_locked_is_told() {
    // Only one that hangs has its grace run out.
    let stuck = [
        (true, PATIENCE, "the lock is stuck"),
        (
            false,
            Duration::from_millis(300),
            "it was not over within the grace",
        ),
    ];
    for (fails, grace, why) in stuck {
        let fake = Fake::plays(GIVES_UP_FROZEN);
        let criu = fake.criu.clone().grace(grace);
        let options = fake.dump();
        let (tell, under_way) = tokio::sync::oneshot::channel();
        let mut locks = Locks {
            fails,
            hangs: !fails,
            under_way: Some(tell),
            ..Locks::default()
        };
        let call = criu.dump(&options).notify(&mut locks);
        // The network is locked by then.
        let under_way = async { under_way.await.unwrap() };
        let error = within(call.until(under_way).into_future())
            .await
            .unwrap_err();
        let lock = Leftover::NetworkLock {
            why: String::from(why),
        };
        assert_eq!(error.left(), [lock], "{error}");
        fake.leaves_nothing().await;
    }
    // Also where CRIU fails by itself.
    let fake = Fake::plays("take\nnotify network-lock\ntell network-unlock\nfail");
    let options = fake.dump();
    let mut locks = Locks {
        fails: true,
        ..Locks::default()
    };
    let call = fake.criu.dump(&options).notify(&mut locks);
    let error = within(call.into_future()).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    assert_eq!(error.left().len(), 1, "{error}");
}

#[tokio::test]
async fn a_dump_that_completes_all_the_same_is_a_success() {
    let fake = Fake::plays_to_its_end("take\nnotify post-dump\nwait-for-file\nreply\nexit 0");
    let go = fake.directory.path().join("go");
    let criu = fake.criu.clone().environment("FAKE_SWRK_GO", &go);
    let options = fake.dump();
    let (acknowledged, cancel) = tokio::sync::oneshot::channel();
    let ear = fake.ear.try_clone().unwrap();
    let waiter = thread::spawn(move || {
        let mut message = vec![0; 1 << 16];
        while !String::from_utf8_lossy(&message).contains("notify_success: Some(true)") {
            ear.recv(&mut message).unwrap();
        }
        acknowledged.send(()).unwrap();
    });
    let cancel = async {
        cancel.await.unwrap();
        // Too late: it goes on.
        fs::write(&go, "").unwrap();
    };
    within(criu.dump(&options).until(cancel).into_future())
        .await
        .unwrap();
    waiter.join().unwrap();
}

#[tokio::test]
async fn several_calls_go_over_one_connection() {
    let fake = Fake::plays("take\nreply\ntake\nreply\ntake\nreply\nexit 0");
    let mut connection = within(fake.criu.prepare()).await.unwrap();
    assert_eq!(
        within(connection.version()).await.unwrap().to_string(),
        "4.2.1"
    );
    assert!(within(connection.features()).await.unwrap().mem_track);
    within(connection.cpuinfo_dump(&fake.options()))
        .await
        .unwrap();
    let mut hooks = Hooks::default();
    within(connection.pre_dump(&fake.dump(), &mut hooks))
        .await
        .unwrap();
    // CRIU would not know it for a request now, and end.
    let error = within(connection.features()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    within(connection.dump(&fake.dump(), &mut hooks))
        .await
        .unwrap();
    let error = within(connection.features()).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    within(connection.cleanup()).await;
}

#[tokio::test]
async fn a_page_server_can_be_waited_for() {
    let fake = Fake::plays("take\nreply\ntake\nreply");
    let server = within(fake.criu.start_page_server_child(&fake.options()))
        .await
        .unwrap();
    assert_eq!(server.port, 4712);
    assert_eq!(within(server.wait()).await.unwrap().code(), Some(3));
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named() {
    let error = within(Criu::over_service("/nowhere/criu.socket").version())
        .await
        .unwrap_err();
    let text = chain(&error);
    assert!(text.contains("cannot connect to CRIU's socket"), "{text}");
}
