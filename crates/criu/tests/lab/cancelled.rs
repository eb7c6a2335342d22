//! Dumps and restores that are cancelled at random instants.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit, waitpid};
use stasis_criu::{Criu, Error, HookResult, Notify, Options};
use tempfile::TempDir;

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

/// Gives up where the memory is about to be dumped.
struct GivesUp;

#[async_trait]
impl Notify for GivesUp {
    async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
        // As any hook needs descriptors.
        let _pipe = std::io::pipe()?;
        Err("seen".into())
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_tree_may_have_more_processes_than_this_one_descriptors() {
    let criu = victim::criu();
    let mut victim = Victim::start(&["--children", "100"]);
    let tree = victim.tree();
    let directory = tempfile::tempdir().unwrap();
    let options = victim::options(directory.path()).pid(victim.pid());
    let before = getrlimit(Resource::Nofile);
    let few = u64::try_from(victim::descriptors()).unwrap() + 60;
    let current = Some(few);
    setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
    let given_up = criu.dump(&options).notify(&mut GivesUp).await;
    setrlimit(Resource::Nofile, before).unwrap();
    let error = given_up.unwrap_err();
    let Error::Hook { source, left, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(source.to_string(), "seen");
    assert!(left.is_empty(), "{left}");
    victim.is_well(&tree);
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
    exerciser::await_end(&tree);

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

/// While one restore of a container is at its hook, brings back two others, and ends the second.
struct Others {
    criu: Criu,
    options: [Options; 2],
    restored: Vec<Pid>,
}

#[async_trait]
impl Notify for Others {
    async fn setup_namespaces(&mut self, _: Pid) -> HookResult {
        for options in &self.options {
            self.restored.push(self.criu.restore(options).await?.pid);
        }
        let ended = self.restored[1].as_raw_pid().cast_unsigned();
        victim::kill(ended);
        Err("no more of this one".into())
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_failed_restore_of_a_container_lets_other_containers_be() {
    let criu = victim::criu();
    let directory = tempfile::tempdir().unwrap();
    let [images, failed, first, second] = directories(&directory);
    dump_container(&criu, &images).await;

    // They have the same ids, each in a namespace of its own.
    let options = |work| victim::options(&images).work_dir(work);
    let mut others = Others {
        criu: criu.clone(),
        options: [options(first), options(second)],
        restored: Vec::new(),
    };
    let error = criu
        .restore(&options(failed))
        .notify(&mut others)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Hook { .. }), "{error:?}");
    assert!(error.left().is_empty(), "{error}");
    let [lives, ended] = others.restored[..] else {
        panic!("{:?}", others.restored);
    };
    let tree = victim::tree(lives.as_raw_pid().cast_unsigned());
    assert_eq!(tree.len(), 3, "of another restore");
    // Nobody has taken the status of either, and of the one that failed there is nothing.
    let (pid, status) = waitpid(Some(ended), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!((pid, status.terminating_signal()), (ended, Some(9)));
    assert_eq!(victim::children(), tree);
    end(lives);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn fifty_cancelled_restores_of_a_container_leave_nothing() {
    let criu = victim::criu();
    let directory = tempfile::tempdir().unwrap();
    let [images, work] = directories(&directory);
    dump_container(&criu, &images).await;
    let options = victim::options(&images).work_dir(work);
    let began = Instant::now();
    end(criu.restore(&options).await.unwrap().pid);
    let typical = began.elapsed();

    let mut dice = Dice::new(5);
    let mut cancelled = 0;
    while cancelled < 50 {
        let delay = dice.below(typical);
        let call = criu.restore(&options).until(tokio::time::sleep(delay));
        match call.await {
            Err(Error::Cancelled { left, .. }) => {
                cancelled += 1;
                assert!(left.is_empty(), "after {delay:?}{left}");
            }
            Ok(restored) => end(restored.pid),
            Err(other) => panic!("after {delay:?}: {other:?}"),
        }
        // Zombies neither.
        assert_eq!(victim::children(), [0; 0], "after {delay:?}");
    }
}

/// Dumps a victim with two children, the first process of a PID namespace.
pub async fn dump_container(criu: &Criu, images: &Path) {
    let (mut parent, root) = victim::in_pid_namespace(&["--children", "2"]);
    let options = victim::options(images).pid(root);
    criu.dump(&options).await.unwrap();
    parent.wait().unwrap();
}

/// Directories in `all`.
pub fn directories<const N: usize>(all: &TempDir) -> [PathBuf; N] {
    std::array::from_fn(|number| {
        let path = all.path().join(number.to_string());
        fs::create_dir(&path).unwrap();
        path
    })
}

/// Ends a restored tree, and waits until all of it is gone.
pub fn end(root: Pid) {
    let pids = victim::tree(root.as_raw_pid().cast_unsigned());
    for pid in &pids {
        victim::kill(*pid);
    }
    waitpid(Some(root), WaitOptions::empty()).unwrap();
    exerciser::await_end(&pids);
}
