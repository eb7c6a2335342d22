//! Processes to dump (`support/victim.rs`), and how they are.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use stasis_criu::{Criu, Options, options::CgroupMode};

use crate::programs::run;

/// Says what is missing when a test is started outside of the lab.
const LAB: &str = "these tests need the lab: make test, or lab/lab run -- TEST --ignored";
/// For what takes an instant, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A CRIU of the lab.
pub fn criu() -> Criu {
    needs_lab();
    Criu::new()
}

/// What a test is not to do outside of the lab comes after this.
pub fn needs_lab() {
    assert!(env::var_os("STASIS_LAB").is_some(), "{LAB}");
}

/// Options for images in `images`, without cgroups, which the lab has no room for.
pub fn options(images: impl Into<PathBuf>) -> Options {
    Options::new(images.into()).manage_cgroups(CgroupMode::Ignore)
}

/// One of the programs that are built beside the tests.
pub fn program(name: &str) -> PathBuf {
    let tests = env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        program.exists(),
        "build it: cargo build -p stasis-criu --examples"
    );
    program
}

/// A process to dump, with its children.
pub struct Victim {
    child: Child,
    connection: Option<TcpStream>,
}

impl Victim {
    /// Starts one, and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(program("victim"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        // It points its streams elsewhere before it goes on.
        assert_eq!(stdout.read_to_end(&mut Vec::new()).unwrap(), 0);
        Self {
            child,
            connection: None,
        }
    }

    /// Starts one that has a connection to this process.
    pub fn connected(arguments: &[&str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut victim = Self::start(&[arguments, &["--connect", &port]].concat());
        let (connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.set_nodelay(true).unwrap();
        victim.connection = Some(connection);
        victim
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All its processes.
    pub fn tree(&self) -> Vec<u32> {
        tree(self.pid())
    }

    /// Everything of it runs, and answers, and has nothing of CRIU's.
    pub fn is_well(&mut self, before: &[u32]) {
        assert_eq!(self.tree(), before, "a process died, or one is new");
        for pid in before {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            assert!(
                !maps.contains("CRIUMFD"),
                "process {pid} has a mapping of CRIU's"
            );
        }
        self.goes_on(before);
    }

    /// Everything of it runs, and answers.
    pub fn goes_on(&mut self, before: &[u32]) {
        let earlier = beats(before);
        let deadline = Instant::now() + PATIENCE;
        while beats(before)
            .iter()
            .any(|(thread, beats)| *beats <= earlier[thread])
        {
            assert!(Instant::now() < deadline, "a thread stands still");
            // It wakes up each millisecond, and tells nobody.
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(connection) = &mut self.connection {
            connection.write_all(&[41]).unwrap();
            let mut answer = [0; 1];
            connection.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [42]);
        }
    }

    /// Whether it has ended. It is reaped.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        for pid in self.tree() {
            kill(pid);
        }
        let _ = self.child.wait();
    }
}

pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    // It may have ended.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Starts one as the first process of a PID namespace. Its parent, and its number here.
pub fn in_pid_namespace(arguments: &[&str]) -> (Child, u32) {
    // The shell's first child is in the new namespace. It alone has the pipe.
    let mut parent = Command::new("unshare")
        .args(["--pid", "sh", "-c", "\"$@\" & exec >/dev/null; wait", "sh"])
        .arg(program("victim"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed when the process is ready.
    let said = std::io::read_to_string(parent.stdout.take().unwrap()).unwrap();
    assert_eq!(said, "ready\n");
    let [pid] = children_of(parent.id())[..] else {
        panic!("the shell has one child");
    };
    (parent, pid)
}

/// The children of a process, those of its children not.
pub fn children_of(parent: u32) -> Vec<u32> {
    let children = parents().into_iter().filter(|(_, of)| *of == parent);
    children.map(|(pid, _)| pid).collect()
}

/// A process and its children, of all depths.
pub fn tree(root: u32) -> Vec<u32> {
    let parents = parents();
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(&parent) = pids.get(next) {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        pids.extend(children.map(|(pid, _)| pid));
        next += 1;
    }
    // A restore brings siblings back in another order.
    pids[1..].sort_unstable();
    pids
}

/// Every process, with its parent. Not by threads, as `task/*/children` has it: the child of a
/// thread that ends becomes another thread's, perhaps of one that was looked at before.
fn parents() -> Vec<(u32, u32)> {
    let numbers = fs::read_dir("/proc").unwrap();
    numbers
        .filter_map(|entry| {
            let pid = entry.unwrap().file_name().to_str()?.parse().ok()?;
            // It may have ended.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            Some((pid, fields.split(' ').nth(1).unwrap().parse().unwrap()))
        })
        .collect()
}

/// How often each thread has gone to sleep.
fn beats(pids: &[u32]) -> BTreeMap<String, u64> {
    let tasks = pids.iter().flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.map(|task| task.unwrap().path())
    });
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let switches = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
                .unwrap();
            (task.display().to_string(), switches.trim().parse().unwrap())
        })
        .collect()
}

/// Removes all rules of the network namespace, which is the lab's own.
pub fn forget_rules() {
    run("iptables", &["--flush"]);
}

/// All rules of the network namespace.
pub fn rules() -> String {
    let all = run("iptables-save", &[]) + &run("nft", &["list", "ruleset"]);
    // Not the chains, which stay when they are empty.
    all.lines()
        .filter(|line| line.contains("DROP") || line.contains("drop") || line.contains("CRIU"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Numbers that differ, the same in each run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A duration below `most`.
    pub fn below(&mut self, most: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let nanos = u64::try_from(most.as_nanos()).unwrap().max(1);
        Duration::from_nanos((self.0 >> 11) % nanos)
    }
}

/// Descriptors that this process has open.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Children that this process has, zombies too.
pub fn children() -> Vec<u32> {
    let pid = std::process::id();
    tree(pid).into_iter().skip(1).collect()
}
