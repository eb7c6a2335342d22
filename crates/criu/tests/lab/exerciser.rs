//! A tree of processes that has what programs have (`support/exerciser`), and what it reports.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitOptions, waitpid};
use stasis_criu::Criu;
use tempfile::TempDir;

use crate::{
    sys,
    victim::{self, PATIENCE},
};

/// A tree that is exercised. It ends when it is dropped.
pub struct Exerciser {
    root: Pid,
    directory: TempDir,
}

impl Exerciser {
    /// Starts one, and waits until it has used everything once. Paths that `words` name are in its
    /// [directory](Self::path).
    #[expect(
        clippy::zombie_processes,
        reason = "it is waited for by its number: what is restored is no `Child`"
    )]
    pub fn start(words: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let within = format!("={}/", directory.path().display());
        let child = Command::new(victim::program("exerciser"))
            .arg(directory.path().join("report"))
            .args(words.iter().map(|word| word.replace("=/", &within)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let exerciser = Self {
            root: Pid::from_child(&child),
            directory,
        };
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.unwrap());
        stdout.read_line(&mut line).unwrap();
        exerciser.has_not_failed();
        assert_eq!(line, "ready\n");
        // It points its streams elsewhere before it goes on.
        assert_eq!(stdout.read_to_end(&mut Vec::new()).unwrap(), 0);
        exerciser
    }

    pub fn root(&self) -> Pid {
        self.root
    }

    pub fn pid(&self) -> u32 {
        self.root.as_raw_pid().cast_unsigned()
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All its processes.
    pub fn tree(&self) -> Vec<u32> {
        victim::tree(self.pid())
    }

    /// Everything that it uses is as it was, and goes on being used: in each of `tree`, since a
    /// process that is not in it would be one too many.
    pub fn goes_on(&self, tree: &[u32]) {
        assert_eq!(self.tree(), tree, "a process died, or one is new");
        let earlier = self.rounds();
        let deadline = Instant::now() + PATIENCE;
        // The round after the one that was under way.
        let behind = |(now, earlier): (&u64, &u64)| *now < earlier + 2;
        while self.rounds().iter().zip(&earlier).any(behind) {
            self.has_not_failed();
            let rounds = self.rounds();
            assert!(Instant::now() < deadline, "{earlier:?}, then {rounds:?}");
            // It tells nobody of a round.
            std::thread::sleep(Duration::from_millis(1));
        }
        self.has_not_failed();
    }

    /// Waits until all of `tree` is gone, of which the root is a child of this process.
    pub fn has_ended(&self, tree: &[u32]) {
        waitpid(Some(self.root), WaitOptions::empty()).unwrap();
        await_end(tree);
    }

    /// Ends all of it, and waits until it is gone.
    pub fn end(&self) {
        let tree = self.tree();
        tree.iter().for_each(|pid| victim::kill(*pid));
        self.has_ended(&tree);
    }

    fn rounds(&self) -> Vec<u64> {
        let report = fs::read(self.path("report")).unwrap();
        let numbers = report.chunks(8);
        numbers
            .map(|number| u64::from_ne_bytes(number.try_into().unwrap()))
            .collect()
    }

    fn has_not_failed(&self) {
        if let Ok(failure) = fs::read_to_string(self.path("report.failure")) {
            panic!("in the tree: {failure}");
        }
    }
}

impl Drop for Exerciser {
    fn drop(&mut self) {
        for pid in self.tree() {
            victim::kill(pid);
        }
        // It may have been waited for.
        let _ = waitpid(Some(self.root), WaitOptions::empty());
    }
}

/// A port that nobody uses.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether this CRIU dumps network sockets on this kernel: from Linux 6.16 on those of the internet
/// do not answer what CRIU before 4.2 asks each (`SO_PASSSEC`).
pub async fn dumps_inet(criu: &Criu) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap());
    let kernel = (numbers.next().unwrap(), numbers.next().unwrap());
    kernel < (6, 16) || criu.is_at_least(4, 2).await.unwrap()
}

/// Waits until none of `pids` is there, and nobody has their numbers. Orphans are reaped by the
/// lab's first process.
pub fn await_end(pids: &[u32]) {
    sys::await_free(pids, PATIENCE);
}
