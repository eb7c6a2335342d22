//! Dumps and restores that are cancelled at random instants.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use stasis_criu::{Criu, Error, Options};

use crate::{
    exerciser,
    victim::{self, Dice, Victim},
};

/// How often each is cancelled.
const CANCELLATIONS: usize = 100;

/// Cancels dumps of what `start` makes until so many were cancelled. A dump that was complete
/// before it was cancelled ends the processes, as it should; others are started then.
async fn cancel_dumps(start: impl Fn() -> Victim, adjust: impl Fn(Options) -> Options, seed: u64) {
    let criu = victim::criu();
    victim::forget_rules();
    let rules = victim::rules();
    let descriptors = victim::descriptors();
    let directory = tempfile::tempdir().unwrap();
    let images = directory.path();
    let options = |victim: &Victim| adjust(victim::options(images).pid(victim.pid()));

    let mut victim = start();
    let typical = typical(&criu, options(&victim), images).await;
    assert!(victim.has_ended());
    victim = start();
    let mut tree = victim.tree();
    let mut dice = Dice::new(seed);
    let (mut cancelled, mut complete, mut slowest) = (0, 0, Duration::ZERO);
    while cancelled < CANCELLATIONS {
        let delay = dice.below(typical);
        let began = Instant::now();
        let options = options(&victim);
        let call = criu.dump(&options);
        // Both ways to cancel, in turns.
        let outcome = if cancelled % 2 == 0 {
            call.until(tokio::time::sleep(delay)).await.map(drop)
        } else {
            let dropped = tokio::time::timeout(delay, call.into_future()).await;
            criu.idle().await;
            match dropped {
                Ok(done) => done.map(drop),
                // Nobody heard the end.
                Err(_) if victim.has_ended() => Ok(()),
                Err(_) => Err(Error::Cancelled {
                    request: stasis_criu::Request::Dump,
                    left: Vec::new().into(),
                }),
            }
        };
        match outcome {
            Err(Error::Cancelled { left, .. }) => {
                slowest = slowest.max(began.elapsed().saturating_sub(delay));
                assert!(left.is_empty(), "after {delay:?}{left}");
                cancelled += 1;
                victim.is_well(&tree);
                assert_eq!(victim::rules(), rules);
            }
            Ok(()) => {
                complete += 1;
                assert!(victim.has_ended());
                empty(images);
                // A complete dump keeps its connections silent until they are restored.
                victim::forget_rules();
                victim = start();
                tree = victim.tree();
            }
            Err(other) => panic!("after {delay:?}: {other:?}"),
        }
        assert_eq!(fs::read_dir(images).unwrap().count(), 0, "after {delay:?}");
    }
    println!(
        "{cancelled} cancelled within {typical:?}, {complete} complete before, the slowest took {slowest:?}"
    );
    drop(victim);
    assert_eq!(victim::children(), [0; 0]);
    assert_eq!(victim::descriptors(), descriptors);
}

/// How long a dump takes that is not cancelled.
async fn typical(criu: &Criu, options: Options, images: &Path) -> Duration {
    let began = Instant::now();
    criu.dump(&options).await.unwrap();
    let typical = began.elapsed();
    empty(images);
    victim::forget_rules();
    typical
}

fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_tree_of_five_lives_through_a_hundred_cancelled_dumps() {
    cancel_dumps(|| Victim::start(&["--children", "4"]), |o| o, 1).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_gibibyte_in_nine_threads_lives_through_a_hundred_cancelled_dumps() {
    let start = || Victim::start(&["--memory", "1024", "--threads", "8"]);
    cancel_dumps(start, |o| o, 2).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn an_established_connection_lives_through_a_hundred_cancelled_dumps() {
    if !exerciser::dumps_inet(&victim::criu()).await {
        println!("CRIU before 4.2 on this kernel: no connection is dumped");
        return;
    }
    let start = || Victim::connected(&["--memory", "64", "--children", "2"]);
    cancel_dumps(start, |options| options.tcp_established(true), 3).await;
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
