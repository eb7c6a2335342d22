//! Adoption without a sweeper: the tests of one binary share their children, so the sweeper's own
//! tests are in a binary of theirs (`tests/reaping.rs`).

use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use nix::unistd::Pid;
use stasis_engine::Children;

use super::{watched, *};
use crate::exit::NO_STATUS;

#[expect(clippy::zombie_processes, reason = "who adopts it reaps it")]
fn spawn(script: &str) -> Pid {
    let mut command = Command::new("sh");
    let child = command
        .args(["-c", script])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

fn monitor() -> (Children, Arc<ProcessMonitor>) {
    let children = Children::default();
    (children.clone(), ProcessMonitor::new(children))
}

#[tokio::test(flavor = "current_thread")]
async fn an_adopted_process_tells_its_end_to_all_who_wait_and_subscribe() {
    let (children, monitor) = monitor();
    let mut exits = monitor.subscribe();
    let birth = monitor.expect_birth();
    let process = birth.adopt(spawn("exec sleep 1000")).unwrap();
    assert!(children.owns(process.pid()));
    assert_eq!(process.exited(), None);
    process.signal(15).unwrap();
    let (one, two) = tokio::join!(process.wait(), process.wait());
    assert_eq!((one, one.status), (two, 143));
    assert_eq!(exits.recv().await, Some(one));
    assert_eq!(process.exited(), Some(one));
    assert!(!children.owns(process.pid()));
    assert_eq!(process.signal(9).unwrap_err().raw_os_error(), Some(3));
}

#[tokio::test(flavor = "current_thread")]
async fn a_zombie_can_be_adopted() {
    let (_, monitor) = monitor();
    let birth = monitor.expect_birth();
    let pid = spawn("exit 42");
    let pidfd = watched::open(pid).unwrap();
    let dead =
        stasis_linux::sys::watch_shared(Arc::new(pidfd), tokio::io::Interest::READABLE).unwrap();
    let _ = dead.readable().await.unwrap();
    assert_eq!(birth.adopt(pid).unwrap().wait().await.status, 42);
}

#[tokio::test(flavor = "current_thread")]
async fn every_signal_of_the_kernel_can_be_sent_and_no_other() {
    let (_, monitor) = monitor();
    let process = monitor
        .expect_birth()
        .adopt(spawn("exec sleep 1000"))
        .unwrap();
    for number in [-1, 0, 65] {
        assert_eq!(process.signal(number).unwrap_err().raw_os_error(), Some(22));
    }
    process.signal(64).unwrap();
    assert_eq!(process.wait().await.status, 128 + 64);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_not_there_cannot_be_adopted() {
    let (_, monitor) = monitor();
    for nobody in [0, -1, i32::MAX] {
        let error = monitor
            .expect_birth()
            .adopt(Pid::from_raw(nobody))
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(3), "{nobody}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_stranger_cannot_be_adopted() {
    let (_, monitor) = monitor();
    let error = monitor.expect_birth().adopt(Pid::parent()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(10));
}

#[tokio::test(flavor = "current_thread")]
async fn a_process_that_somebody_else_reaped_has_ended_without_a_status() {
    let (_, monitor) = monitor();
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let process = monitor.expect_birth().adopt(pid).unwrap();
    process.signal(9).unwrap();
    // Before the runtime of this thread gets to see it.
    let mut child = child;
    child.wait().unwrap();
    assert_eq!(process.wait().await.status, NO_STATUS);
}

#[tokio::test(flavor = "current_thread")]
async fn a_subscription_that_is_dropped_is_forgotten() {
    let (_, monitor) = monitor();
    drop(monitor.subscribe());
    let mut exits = monitor.subscribe();
    let process = monitor.expect_birth().adopt(spawn("exit 0")).unwrap();
    assert_eq!(exits.recv().await, Some(process.wait().await));
    assert_eq!(monitor.table().subscribers.len(), 1);
}
