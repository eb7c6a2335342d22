//! Dumps and restores that are cancelled at random instants.

use std::{
    fs,
    time::{Duration, Instant},
};

use stasis_criu::Error;

use crate::{
    cancelling::{cancel_dumps, empty},
    exerciser,
    victim::{self, Dice, Victim},
};

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_tree_of_five_lives_through_a_hundred_cancelled_dumps() {
    cancel_dumps(100, || Victim::start(&["--children", "4"]), |o| o, 1).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_gibibyte_in_nine_threads_lives_through_a_hundred_cancelled_dumps() {
    let start = || Victim::start(&["--memory", "1024", "--threads", "8"]);
    cancel_dumps(100, start, |o| o, 2).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn an_established_connection_lives_through_a_hundred_cancelled_dumps() {
    if !exerciser::dumps_inet(&victim::criu()).await {
        println!("CRIU before 4.2 on this kernel: no connection is dumped");
        return;
    }
    let start = || Victim::connected(&["--memory", "64", "--children", "2"]);
    cancel_dumps(100, start, |options| options.tcp_established(true), 3).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn fifty_cancelled_restores_leave_nothing_and_can_be_tried_again() {
    let criu = victim::criu();
    let directory = tempfile::tempdir().unwrap();
    let images = directory.path().join("images");
    let work = directory.path().join("work");
    fs::create_dir(&images).unwrap();
    fs::create_dir(&work).unwrap();
    let mut victim = Victim::start(&["--memory", "64", "--children", "4", "--threads", "3"]);
    let tree = victim.tree();
    criu.dump(&victim::options(&images).pid(victim.pid()))
        .await
        .unwrap();
    assert!(victim.has_ended());

    let options = victim::options(&images).work_dir(work.clone());
    let began = Instant::now();
    let restored = criu.restore(&options).await.unwrap();
    let typical = began.elapsed();
    end(restored.pid);
    empty(&work);

    let mut dice = Dice::new(4);
    let (mut cancelled, mut complete, mut slowest) = (0, 0, Duration::ZERO);
    while cancelled < 50 {
        let delay = dice.below(typical);
        let began = Instant::now();
        match criu
            .restore(&options)
            .until(tokio::time::sleep(delay))
            .await
        {
            Err(Error::Cancelled { left, .. }) => {
                slowest = slowest.max(began.elapsed().saturating_sub(delay));
                cancelled += 1;
                assert!(left.is_empty(), "after {delay:?}{left}");
                for pid in &tree {
                    let there = fs::exists(format!("/proc/{pid}")).unwrap();
                    assert!(!there, "after {delay:?}: process {pid} is left");
                }
                assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "after {delay:?}");
            }
            Ok(restored) => {
                complete += 1;
                end(restored.pid);
                empty(&work);
            }
            Err(other) => panic!("after {delay:?}: {other:?}"),
        }
    }
    println!(
        "{cancelled} cancelled within {typical:?}, {complete} complete before, the slowest took {slowest:?}"
    );
    let restored = criu.restore(&options).await.unwrap();
    assert_eq!(
        victim::tree(restored.pid.as_raw_pid().cast_unsigned()),
        tree
    );
    end(restored.pid);
}

/// Ends a restored tree, and waits until all of it is gone.
fn end(root: rustix::process::Pid) {
    let pids = victim::tree(root.as_raw_pid().cast_unsigned());
    for pid in &pids {
        victim::kill(*pid);
    }
    rustix::process::waitpid(Some(root), rustix::process::WaitOptions::empty()).unwrap();
    let deadline = Instant::now() + victim::PATIENCE;
    // The children of a killed process are reaped by the lab's first process.
    while pids
        .iter()
        .any(|pid| fs::exists(format!("/proc/{pid}")).unwrap())
    {
        assert!(Instant::now() < deadline, "a killed process stays");
        std::thread::sleep(Duration::from_millis(1));
    }
}
