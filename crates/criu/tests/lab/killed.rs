//! A CRIU that is killed while it dumps or restores.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal};
use stasis_criu::{Error, HookResult, Leftover, Notify};
use tokio::sync::oneshot;

use crate::{
    cancelled::{directories, dump_container, end},
    exerciser,
    victim::{self, Victim},
};

const ROUNDS: u64 = 10;

/// Keeps a dump from its end until CRIU has got its signal, however late that comes.
struct Signalled(oneshot::Receiver<()>);

#[async_trait]
impl Notify for Signalled {
    async fn post_dump(&mut self) -> HookResult {
        Ok((&mut self.0).await?)
    }
}

/// Sends `signal` to the CRIU that is this process's child, another time after it has begun to
/// freeze `victim` in each round. What comes with it is for that dump.
fn signal_criu(victim: u32, signal: Signal, round: u64) -> (impl Future<Output = ()>, Signalled) {
    let after = Duration::from_millis(3 * round);
    let (tell, signalled) = oneshot::channel();
    let send = move || {
        let frozen = || {
            let status = fs::read_to_string(format!("/proc/{victim}/status")).unwrap();
            // Somebody traces it, or it is in a frozen cgroup.
            !status.contains("TracerPid:\t0\n") || status.contains("State:\tD")
        };
        while !frozen() {
            std::thread::yield_now();
        }
        let is_criu = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "criu\n")
        };
        let children = victim::children_of(std::process::id());
        let criu = children.into_iter().find(is_criu).unwrap();
        std::thread::sleep(after);
        rustix::process::kill_process(Pid::from_raw(criu.cast_signed()).unwrap(), signal).unwrap();
        // Nobody waits for it where CRIU was not at the hook.
        let _ = tell.send(());
    };
    let sent = async { tokio::task::spawn_blocking(send).await.unwrap() };
    (sent, Signalled(signalled))
}

/// What is said to be left is of these processes, and nothing else. Whether all of them are there.
fn all_live(left: &stasis_criu::Left, tree: &[u32]) -> bool {
    let mut all = true;
    for leftover in left.iter() {
        let (Leftover::Mapping { pid } | Leftover::Gone { pid }) = leftover else {
            panic!("{leftover}");
        };
        assert!(tree.contains(&pid.as_raw_pid().cast_unsigned()));
        // CRIU's code ran in it, and had nobody to come back to.
        all &= !matches!(leftover, Leftover::Gone { .. });
    }
    all
}

/// The names of what is in a directory.
fn names(directory: &tempfile::TempDir) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(directory.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_criu_that_has_to_be_killed_leaves_what_the_error_says_and_connections_go_on() {
    let with_tcp = exerciser::dumps_inet(&victim::criu()).await;
    victim::forget_rules();
    let rules = victim::rules();
    let criu = victim::criu().grace(Duration::from_millis(200));
    let mut lived = 0;
    for round in 0..ROUNDS {
        let memory = ["--memory", "256", "--threads", "2"];
        let mut victim = match with_tcp {
            true => Victim::connected(&memory),
            false => Victim::start(&memory),
        };
        let tree = victim.tree();
        let directory = tempfile::tempdir().unwrap();
        let options = victim::options(directory.path())
            .pid(victim.pid())
            .leave_running(true)
            .tcp_established(with_tcp);
        // A stopped one does not hear that its call is cancelled.
        let (stopped, mut hooks) = signal_criu(victim.pid(), Signal::STOP, round);
        let call = criu.dump(&options).notify(&mut hooks).until(stopped);
        let error = call.await.unwrap_err();
        let Error::Cancelled { left, .. } = &error else {
            panic!("round {round}: {error:?}");
        };
        if all_live(left, &tree) {
            victim.goes_on(&tree);
            lived += 1;
        }
        assert_eq!(victim::rules(), rules, "round {round}");
        // It tells why.
        assert_eq!(names(&directory), ["dump.log"], "round {round}");
    }
    println!("of {ROUNDS} trees {lived} live");
    assert!(lived >= ROUNDS / 2);
}

/// A freezer cgroup of version 1, with a process in it.
struct Freezer(PathBuf);

impl Freezer {
    fn with(process: u32) -> Self {
        let directory = format!("/sys/fs/cgroup/freezer/criu-test-{process}");
        fs::create_dir(&directory).unwrap();
        let freezer = Self(directory.into());
        fs::write(freezer.0.join("cgroup.procs"), process.to_string()).unwrap();
        freezer
    }

    fn state(&self) -> String {
        fs::read_to_string(self.0.join("freezer.state")).unwrap()
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let all = Path::new("/sys/fs/cgroup/freezer/cgroup.procs");
        for process in fs::read_to_string(self.0.join("cgroup.procs"))
            .unwrap()
            .lines()
        {
            fs::write(all, process).unwrap();
        }
        fs::remove_dir(&self.0).unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_criu_that_somebody_kills_leaves_what_the_error_says() {
    let criu = victim::criu();
    let mut lived = 0;
    for round in 0..ROUNDS {
        let mut victim = Victim::start(&["--memory", "256", "--threads", "2"]);
        let tree = victim.tree();
        let freezer = Freezer::with(victim.pid());
        let directory = tempfile::tempdir().unwrap();
        let options = victim::options(directory.path())
            .pid(victim.pid())
            .freeze_cgroup(&freezer.0)
            .leave_running(true);
        let (killed, mut hooks) = signal_criu(victim.pid(), Signal::KILL, round);
        let call = criu.dump(&options).notify(&mut hooks);
        let (dumped, ()) = tokio::join!(call.into_future(), killed);
        let error = dumped.unwrap_err();
        let Error::NoReply { left, .. } = &error else {
            panic!("round {round}: {error:?}");
        };
        assert!(error.to_string().contains("signal 9"), "{error}");
        assert_eq!(freezer.state(), "THAWED\n", "round {round}");
        if all_live(left, &tree) {
            victim.goes_on(&tree);
            lived += 1;
        }
        assert_eq!(names(&directory), ["dump.log"], "round {round}");
    }
    println!("of {ROUNDS} trees {lived} live");
    assert!(lived >= ROUNDS / 2);
}

/// This process's own children.
fn own_children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let children = threads.map(|thread| {
        // It may have ended.
        fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default()
    });
    let children = children.collect::<String>();
    children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Kills the CRIU that is this process's child as soon as it has made another child, mostly before
/// it has told of that. Not if the restore is over before that was seen, on a busy machine.
fn kill_after_fork(over: &AtomicBool) {
    let mut criu = None;
    while !over.load(Ordering::Relaxed) {
        match (&own_children()[..], criu) {
            ([pid], None) => criu = Some(*pid),
            ([_, _], Some(criu)) => return victim::kill(criu),
            _ => {}
        }
        std::hint::spin_loop();
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_criu_that_somebody_kills_leaves_nothing_of_a_container_that_it_was_restoring() {
    let criu = victim::criu().grace(Duration::from_millis(200));
    let directory = tempfile::tempdir().unwrap();
    let [images] = directories(&directory);
    dump_container(&criu, &images).await;
    let (mut round, mut missed) = (0, 0);
    while round < ROUNDS {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let killed = tokio::task::spawn_blocking(move || kill_after_fork(&seen));
        let options = victim::options(&images);
        let restored = criu.restore(&options).within(victim::PATIENCE).await;
        over.store(true, Ordering::Relaxed);
        killed.await.unwrap();
        match restored {
            Ok(restored) => {
                end(restored.pid);
                missed += 1;
                assert!(missed < 10 * ROUNDS, "CRIU is never killed");
            }
            Err(error) => {
                assert!(matches!(error, Error::NoReply { .. }), "{error:?}");
                assert!(error.left().is_empty(), "round {round}: {error}");
                round += 1;
            }
        }
        assert_eq!(victim::children(), [0; 0], "round {round}");
    }
}
