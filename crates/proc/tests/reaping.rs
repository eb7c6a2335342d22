//! The sweeper, among the children of `tokio`, adopted processes and strays.
//!
//! Children belong to the whole process, so these tests have a binary of their own and run one
//! after another.

#![allow(
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

use std::{collections::HashMap, process::Stdio, sync::Arc};

use nix::unistd::Pid;
use rustix::process::{WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid};
use stasis_engine::Children;
use stasis_proc::ProcessMonitor;
use tokio::{
    io::AsyncReadExt as _,
    process::Command,
    sync::{Mutex, MutexGuard},
    task::JoinSet,
};

static ALONE: Mutex<()> = Mutex::const_new(());

/// A subreaper with a sweeper, alone in this process while it lives.
struct Reaper {
    children: Children,
    monitor: Arc<ProcessMonitor>,
    _alone: MutexGuard<'static, ()>,
}

impl Reaper {
    async fn new() -> Self {
        let alone = ALONE.lock().await;
        set_child_subreaper(Some(getpid())).unwrap();
        let children = Children::default();
        let monitor = ProcessMonitor::new(children.clone());
        monitor.start_sweeper().unwrap();
        Self {
            children,
            monitor,
            _alone: alone,
        }
    }

    async fn orphan(&self, script: &str) -> Pid {
        orphan(&self.children, script).await
    }
}

/// Has a child of ours run `script` in a child of its own, which becomes ours when its parent has
/// ended, as a runtime does. Gives its pid.
async fn orphan(children: &Children, script: &str) -> Pid {
    // It waits for the end of an input, which comes when its parent is gone: a shell may reap what
    // ends before the shell does.
    let mut command = shell(&format!(
        "exec 3<&0; ( read end <&3; {script} ) >/dev/null & echo $!"
    ));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let (mut child, _owned) = children.spawn(&mut command).unwrap();
    let input = child.stdin.take();
    let mut pid = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut pid)
        .await
        .unwrap();
    assert!(child.wait().await.unwrap().success());
    drop(input);
    Pid::from_raw(pid.trim().parse().unwrap())
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null());
    command
}

fn id(pid: Pid) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid.as_raw()).unwrap()
}

fn is_child(pid: Pid) -> bool {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(id(pid)), peek).is_ok()
}

/// Waits until a child has ended, and does not reap it.
async fn dead(pid: Pid) {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let wait = move || waitid(WaitId::Pid(id(pid)), peek).map(drop);
    tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn five_hundred_children_at_once_all_keep_their_status() {
    let reaper = Reaper::new().await;
    let mut ends = JoinSet::new();
    for number in 0..500 {
        let code = number % 256;
        let (mut child, owned) = reaper
            .children
            .spawn(&mut shell(&format!("exit {code}")))
            .unwrap();
        ends.spawn(async move {
            let status = child.wait().await.unwrap();
            drop(owned);
            (code, status.code())
        });
    }
    let ends = ends.join_all().await;
    assert_eq!(ends.len(), 500);
    assert_eq!(
        ends.iter().find(|(code, status)| Some(*code) != *status),
        None
    );
}

#[tokio::test(flavor = "current_thread")]
async fn adopted_processes_keep_their_status_among_strays_and_children_of_tokio() {
    let reaper = Reaper::new().await;
    let mut exits = reaper.monitor.subscribe();
    let mut expected = HashMap::new();
    let mut adopted = JoinSet::new();
    for code in 0..100_u32 {
        // Some have ended before they are adopted, and the sweeper has met them then.
        let birth = reaper.monitor.expect_birth();
        let pid = reaper.orphan(&format!("exit {code}")).await;
        let process = birth.adopt(pid).unwrap();
        adopted.spawn(async move { (process.wait().await.status, code) });
        expected.insert(pid, code);

        let stray = reaper.orphan(&format!("exit {}", code + 100)).await;
        expected.insert(stray, code + 100);
    }
    for (status, code) in adopted.join_all().await {
        assert_eq!(status, code);
    }
    while !expected.is_empty() {
        let exit = exits.recv().await.unwrap();
        // Pids come round: what is told is never another's end.
        assert_eq!(expected.remove(&exit.pid), Some(exit.status), "{exit:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_swept_during_its_birth_can_be_adopted() {
    let reaper = Reaper::new().await;
    let mut exits = reaper.monitor.subscribe();
    let birth = reaper.monitor.expect_birth();
    let pid = reaper.orphan("exit 23").await;
    let exit = exits.recv().await.unwrap();
    assert_eq!((exit.pid, is_child(pid)), (pid, false));
    let process = birth.adopt(pid).unwrap();
    assert_eq!(process.exited(), Some(exit));
    assert_eq!(process.wait().await.status, 23);
    process.signal(9).unwrap_err();
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_swept_is_forgotten_with_the_last_birth() {
    let reaper = Reaper::new().await;
    let mut exits = reaper.monitor.subscribe();
    let (first, last) = (reaper.monitor.expect_birth(), reaper.monitor.expect_birth());
    let pid = reaper.orphan("exit 0").await;
    exits.recv().await.unwrap();
    drop(first);
    assert_eq!(last.adopt(pid).unwrap().pid(), pid);
    reaper.monitor.expect_birth().adopt(pid).unwrap_err();
}

#[tokio::test(flavor = "current_thread")]
async fn a_stray_is_reaped_while_an_owned_zombie_waits_for_its_owner() {
    let reaper = Reaper::new().await;
    let mut exits = reaper.monitor.subscribe();
    // A zombie that its owner, the standard library, is in no hurry to reap.
    let mut owned = std::process::Command::new("true").spawn().unwrap();
    let zombie = Pid::from_raw(owned.id().cast_signed());
    let guard = reaper.children.own(zombie);
    dead(zombie).await;
    let stray = reaper.orphan("exit 9").await;
    let exit = exits.recv().await.unwrap();
    assert_eq!((exit.pid, exit.status), (stray, 9));
    assert!(is_child(zombie));
    assert!(owned.wait().unwrap().success());
    drop(guard);
}

#[tokio::test(flavor = "current_thread")]
async fn a_stray_that_died_before_the_sweeper_began_is_reaped() {
    let alone = ALONE.lock().await;
    set_child_subreaper(Some(getpid())).unwrap();
    let children = Children::default();
    let monitor = ProcessMonitor::new(children.clone());
    let mut exits = monitor.subscribe();
    let stray = orphan(&children, "exit 4").await;
    dead(stray).await;
    monitor.start_sweeper().unwrap();
    let exit = exits.recv().await.unwrap();
    assert_eq!((exit.pid, exit.status), (stray, 4));
    drop(alone);
}
