//! Every hook, at a tree with a network namespace of its own and a terminal that is ours; but
//! `status-ready`, since a lazy dump needs what the lab has not (`tests/vm`).

use std::{
    fs,
    net::TcpStream,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::process::Pid;
use stasis_criu::{
    Error, Hook, HookResult, KnownCause, Notify, Options,
    options::{PageServer, VethPair},
};
use stasis_plain::{DumpPlan, Managed, Run, Size, Stdio};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{
    conversation::{Bound, Conversation},
    programs::run,
    victim::{self, PATIENCE},
};

/// The network device that the tree has, its other end, and the bridge that it comes back to.
const INSIDE: &str = "inside";
const OUTSIDE: &str = "outside";
const BRIDGE: &str = "bridge";
/// The addresses of the two ends.
const ADDRESS_INSIDE: &str = "198.51.100.2/24";
const ADDRESS_OUTSIDE: &str = "198.51.100.1/24";

/// Writes down each hook, and refuses some.
#[derive(Default)]
struct Hooks {
    seen: Vec<Hook>,
    refused: Vec<Hook>,
    /// What `post-dump` tells when it has begun to take for ever.
    waits: Option<oneshot::Sender<()>>,
    pid: Option<Pid>,
    master: Option<OwnedFd>,
}

impl Hooks {
    fn refusing(hooks: &[Hook]) -> Self {
        Self {
            refused: hooks.to_vec(),
            ..Self::default()
        }
    }

    fn see(&mut self, hook: Hook) -> HookResult {
        self.seen.push(hook);
        match self.refused.contains(&hook) {
            true => Err(format!("no {hook}").into()),
            false => Ok(()),
        }
    }

    fn see_pid(&mut self, hook: Hook, pid: Pid) -> HookResult {
        assert_eq!(*self.pid.get_or_insert(pid), pid, "{hook}");
        self.see(hook)
    }
}

#[async_trait]
impl Notify for Hooks {
    async fn pre_dump(&mut self) -> HookResult {
        self.see(Hook::PreDump)
    }
    async fn network_lock(&mut self) -> HookResult {
        self.see(Hook::NetworkLock)
    }
    async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
        self.see(Hook::QueryExternalFiles)?;
        Ok(Vec::new())
    }
    async fn post_dump(&mut self) -> HookResult {
        self.see(Hook::PostDump)?;
        match self.waits.take() {
            Some(waits) => {
                waits.send(()).map_err(|()| "nobody waits for it")?;
                std::future::pending().await
            }
            None => Ok(()),
        }
    }
    async fn network_unlock(&mut self) -> HookResult {
        self.see(Hook::NetworkUnlock)
    }
    async fn pre_restore(&mut self) -> HookResult {
        self.see(Hook::PreRestore)
    }
    async fn setup_namespaces(&mut self, pid: Pid) -> HookResult {
        self.see_pid(Hook::SetupNamespaces, pid)
    }
    async fn post_setup_namespaces(&mut self) -> HookResult {
        self.see(Hook::PostSetupNamespaces)
    }
    async fn post_restore(&mut self, pid: Pid) -> HookResult {
        self.see_pid(Hook::PostRestore, pid)
    }
    async fn pre_resume(&mut self) -> HookResult {
        self.see(Hook::PreResume)
    }
    async fn post_resume(&mut self) -> HookResult {
        self.see(Hook::PostResume)
    }
    async fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        self.see(Hook::OrphanPtsMaster)?;
        self.master = Some(master);
        Ok(())
    }
}

/// A program on a terminal of ours, in a network namespace of its own.
struct Guest {
    process: Bound,
    talk: Option<Conversation>,
    plan: DumpPlan,
    images: TempDir,
}

impl Guest {
    fn start() -> Self {
        let mut process = Run::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && exec cat"])
            .stdio(Stdio::Terminal {
                size: Size::default(),
            })
            .start()
            .unwrap();
        let mut talk = Conversation::over(process.take_attached());
        let process = Bound(process);
        talk.goes_on("ready");
        let pid = process.0.pid();
        let link = format!("link add {OUTSIDE} type veth peer name {INSIDE} netns {pid}");
        ip(&link);
        within(pid, &format!("address add {ADDRESS_INSIDE} dev {INSIDE}"));
        within(pid, &format!("link set {INSIDE} up"));
        join_outside();
        let guest = Self {
            process,
            talk: Some(talk),
            plan: DumpPlan::detect(pid).unwrap(),
            images: tempfile::tempdir().unwrap(),
        };
        assert!(guest.plan.terminals().orphan_pts_master);
        is_reachable();
        guest
    }

    fn images(&self) -> &Path {
        self.images.path()
    }

    fn options(&self) -> Options {
        victim::options(self.images()).veth_pair(VethPair::new(INSIDE, OUTSIDE))
    }

    fn dump_options(&self) -> Options {
        self.plan.apply(self.options())
    }

    fn restore_options(&self) -> Options {
        let pair = VethPair::new(INSIDE, OUTSIDE).bridge(BRIDGE);
        let options = victim::options(self.images()).veth_pair(pair);
        options.orphan_pts_master(true)
    }

    fn goes_on(&mut self, line: &str) {
        self.talk.as_mut().unwrap().goes_on(line);
    }

    /// Waits until it has gone, with its network.
    async fn has_ended(&self) {
        self.process.0.exited().await.unwrap();
        no_device();
    }

    /// Goes on in what was restored.
    fn came_back(&mut self, pid: Pid, hooks: Hooks) {
        assert_eq!(pid.as_raw_pid().cast_unsigned(), self.process.0.pid());
        let process = Managed::take_over(self.process.0.pid()).unwrap();
        self.process = Bound(process);
        let master = hooks.master.expect("the master of its terminal");
        self.talk = Some(Conversation::on(master));
        self.goes_on("here again");
        assert_eq!(hooks.pid, Some(pid));
    }
}

fn ip(arguments: &str) -> String {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// In the network namespace of a process.
fn within(pid: u32, arguments: &str) -> String {
    let of = pid.to_string();
    let words = ["-t", &of, "-n", "ip"];
    let words: Vec<_> = words.into_iter().chain(arguments.split(' ')).collect();
    run("nsenter", &words)
}

/// Makes our end of the pair of devices usable.
fn join_outside() {
    ip(&format!("address add {ADDRESS_OUTSIDE} dev {OUTSIDE}"));
    ip(&format!("link set {OUTSIDE} up"));
}

/// The tree's network answers, if only that nobody listens.
fn is_reachable() {
    let address = ADDRESS_INSIDE.replace("/24", ":9").parse().unwrap();
    let error = TcpStream::connect_timeout(&address, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Waits until our end of the pair has gone with the other, which the kernel does by and by.
fn no_device() {
    let deadline = Instant::now() + PATIENCE;
    while ip("link").contains(OUTSIDE) {
        assert!(Instant::now() < deadline, "the device stays");
        // A namespace goes in silence.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The bridge, for as long as the test lasts.
struct Bridge;

impl Bridge {
    fn new() -> Self {
        ip(&format!("link add {BRIDGE} type bridge"));
        Self
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        ip(&format!("link delete {BRIDGE}"));
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn the_hooks_come_in_their_order_and_the_network_comes_back() {
    use Hook::*;

    let criu = victim::criu();
    let mut guest = Guest::start();
    let mut left_running = Hooks::default();
    let options = guest.dump_options().leave_running(true);
    criu.dump(&options).notify(&mut left_running).await.unwrap();
    let dump = [PreDump, NetworkLock, QueryExternalFiles, PostDump];
    assert_eq!(left_running.seen[..4], dump);
    assert_eq!(left_running.seen[4..], [NetworkUnlock]);
    guest.goes_on("still here");
    is_reachable();

    // To a page server, which ends it.
    guest.images = tempfile::tempdir().unwrap();
    let listening = Options::new(guest.images()).page_server(PageServer::listening(0));
    let port = criu.start_page_server(&listening).await.unwrap().port;
    let mut dumped = Hooks::default();
    let here = [127, 0, 0, 1].into();
    let options = guest.dump_options().page_server(PageServer::at(here, port));
    criu.dump(&options).notify(&mut dumped).await.unwrap();
    assert_eq!(dumped.seen, dump);
    guest.has_ended().await;
    guest.talk = None;

    let bridge = Bridge::new();
    let mut hooks = Hooks::default();
    let options = guest.restore_options();
    let restored = criu.restore(&options).notify(&mut hooks).await.unwrap();
    let restore = [
        PreRestore,
        SetupNamespaces,
        PostSetupNamespaces,
        OrphanPtsMaster,
        PostRestore,
        NetworkUnlock,
        PreResume,
        PostResume,
    ];
    assert_eq!(hooks.seen, restore);
    guest.came_back(restored.pid, hooks);
    let pid = guest.process.0.pid();
    assert!(within(pid, "address").contains(ADDRESS_INSIDE));
    assert!(ip(&format!("link show {OUTSIDE}")).contains(&format!("master {BRIDGE}")));
    ip(&format!("link set {OUTSIDE} nomaster"));
    join_outside();
    is_reachable();
    drop(bridge);
    drop(guest);
    no_device();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_dump_is_given_up_at_any_hook_and_the_network_goes_on() {
    let criu = victim::criu();
    let mut guest = Guest::start();
    let hooks = [
        Hook::PreDump,
        Hook::NetworkLock,
        Hook::QueryExternalFiles,
        Hook::PostDump,
    ];
    for hook in hooks {
        let mut hooks = Hooks::refusing(&[hook]);
        let options = guest.dump_options();
        let error = criu.dump(&options).notify(&mut hooks).await.unwrap_err();
        gave_up(&error, hook);
        let locked = hooks.seen.contains(&Hook::NetworkLock);
        assert_eq!(hooks.seen.contains(&Hook::NetworkUnlock), locked, "{hook}");
        guest.goes_on(hook.script());
        is_reachable();
        // It tells why.
        let images = fs::read_dir(guest.images()).unwrap();
        let names: Vec<_> = images.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["dump.log"], "{hook}");
    }
    // Also where no other hook is called any more.
    let (tell, waits) = oneshot::channel();
    let mut hooks = Hooks {
        waits: Some(tell),
        ..Hooks::default()
    };
    let options = guest.dump_options();
    let call = criu.dump(&options).notify(&mut hooks);
    let waits = async { waits.await.unwrap() };
    let error = call.until(waits).await.unwrap_err();
    assert!(
        matches!(&error, Error::Cancelled { left, .. } if left.is_empty()),
        "{error:?}"
    );
    assert_eq!(hooks.seen[3..], [Hook::PostDump, Hook::NetworkUnlock]);
    guest.goes_on("cancelled");
    is_reachable();
    // What CRIU does not heed is told.
    let mut hooks = Hooks::refusing(&[Hook::NetworkUnlock]);
    let options = guest.dump_options().leave_running(true);
    let dumped = criu.dump(&options).notify(&mut hooks).await.unwrap();
    let ignored: Vec<_> = dumped.ignored.iter().map(|ignored| ignored.hook).collect();
    assert_eq!(ignored, [Hook::NetworkUnlock]);
    drop(guest);
    no_device();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_restore_is_given_up_at_any_hook_and_can_be_tried_again() {
    let criu = victim::criu();
    let mut guest = Guest::start();
    criu.dump(&guest.dump_options()).await.unwrap();
    guest.has_ended().await;
    let _bridge = Bridge::new();
    let hooks = [
        Hook::PreRestore,
        Hook::SetupNamespaces,
        Hook::PostSetupNamespaces,
        Hook::PostRestore,
    ];
    let options = guest.restore_options();
    // While its terminal is there none of that number can be made.
    let error = criu.restore(&options).await.unwrap_err();
    let Error::Failed { diagnosis, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(diagnosis.known, Some(KnownCause::TerminalTaken), "{error}");
    guest.talk = None;
    no_device();
    for hook in hooks {
        let mut hooks = Hooks::refusing(&[hook]);
        let error = criu.restore(&options).notify(&mut hooks).await.unwrap_err();
        gave_up(&error, hook);
        let pid = guest.process.0.pid();
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "{hook}");
        no_device();
    }
    // The terminal of CRIU's standard input would do as well, and there is none.
    let mut hooks = Hooks::refusing(&[Hook::OrphanPtsMaster]);
    let error = criu.restore(&options).notify(&mut hooks).await.unwrap_err();
    gave_up(&error, Hook::OrphanPtsMaster);
    let pid = guest.process.0.pid();
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    no_device();
    // What CRIU does not heed is told.
    let unheeded = [Hook::NetworkUnlock, Hook::PreResume, Hook::PostResume];
    let mut hooks = Hooks::refusing(&unheeded);
    let restored = criu.restore(&options).notify(&mut hooks).await.unwrap();
    let ignored: Vec<_> = restored
        .ignored
        .iter()
        .map(|ignored| ignored.hook)
        .collect();
    assert_eq!(ignored, unheeded);
    guest.came_back(restored.pid, hooks);
    drop(guest);
    no_device();
}

fn gave_up(error: &Error, at: Hook) {
    match error {
        Error::Hook {
            hook, left, source, ..
        } => {
            assert_eq!(*hook, at);
            assert!(left.is_empty(), "{left}");
            assert_eq!(source.to_string(), format!("no {hook}"));
        }
        other => panic!("{other:?}"),
    }
}
