//! The engines with the real programs: runsc of two releases, runc, crun and CRIU.
//!
//! Runs in the lab, which has them (`make test`).

#![cfg(test)]

#[path = "lab/cgroups.rs"]
mod cgroups;

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{PidfdFlags, pidfd_open},
};
use stasis_engine::{
    Afterwards, Checkpoint, CheckpointOptions, Children, Create, Engine, EngineStatus, Error, Exec,
    Kind, Restore, Settings, Signal, Stdio, Target, Timeouts, connect, host,
    manifest::{self, Parts},
};
use tempfile::TempDir;

/// Says what is missing when a test is started outside of the lab.
const LAB: &str = "these tests need the lab: make test, or lab/lab run -- TEST --ignored";

/// For what takes an instant, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that has ended and was reaped.
fn ended() -> OwnedFd {
    let mut child = Command::new("true").spawn().expect("starts");
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("is there");
    child.wait().expect("is reaped");
    pidfd
}

/// One container's bundle and engine.
struct Bench {
    id: String,
    directory: TempDir,
    engine: Arc<dyn Engine>,
}

impl Bench {
    /// A container that runs `command` by a shell, with `/data` on the disk.
    async fn new(binary: &str, command: &str) -> Self {
        Self::with(binary, command, PATIENCE).await
    }

    /// The same, whose restores may take this long.
    async fn with(binary: &str, command: &str, restore: Duration) -> Self {
        let scratch = std::env::var_os("STASIS_LAB_SCRATCH").expect(LAB);
        let directory = tempfile::tempdir_in(scratch).expect("a directory");
        let path = directory.path();
        for name in ["data", "work", "bundle/rootfs/bin", "bundle/rootfs/tmp"] {
            fs::create_dir_all(path.join(name)).expect("made");
        }
        let bundle = path.join("bundle");
        std::os::unix::fs::symlink(path.join("work"), bundle.join("work")).expect("linked");
        // By a child: were it open for writing here while the thread of another test forks, that
        // fork would hold it open as well, and the container would fail with ETXTBSY.
        let busybox = bundle.join("rootfs/bin/busybox");
        let copied = Command::new("cp").arg("/bin/busybox").arg(busybox).status();
        assert!(copied.expect("runs").success());
        for applet in ["sh", "sleep", "mkfifo", "nc"] {
            let link = bundle.join("rootfs/bin").join(applet);
            std::os::unix::fs::symlink("busybox", link).expect("linked");
        }
        let name = path.file_name().expect("a name").to_string_lossy();
        let id = name.replace('.', "t");
        let runsc = [("network", "none"), ("platform", "systrap")];
        let settings = Settings {
            binary: binary.to_owned(),
            // Not the default, which crun's masks would fit by chance.
            root: PathBuf::from(format!("/run/stasis-engine/{id}")),
            bundle: bundle.clone(),
            systemd_cgroup: false,
            runsc_config: BTreeMap::from(runsc.map(|(key, value)| (key.into(), value.into()))),
            no_pivot_root: false,
            no_new_keyring: false,
            timeouts: Timeouts {
                restore: Some(restore),
                ..Timeouts::default()
            },
            children: Children::default(),
        };
        let engine = connect(settings).await.expect("connects");
        let mut spec = spec(&id, command, &path.join("data"));
        engine
            .prepare_spec(&bundle, &mut spec)
            .expect("is prepared");
        fs::write(bundle.join("config.json"), spec.to_string()).expect("written");
        Self {
            id,
            directory,
            engine,
        }
    }

    /// Has the container use this network.
    fn join(&self, network: &Network) {
        let path = self.path("bundle/config.json");
        let text = fs::read(&path).expect("read");
        let mut spec: serde_json::Value = serde_json::from_slice(&text).expect("parses");
        let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|namespace| namespace["type"] != "network");
        let path_of = format!("/run/netns/{}", network.0);
        namespaces.push(serde_json::json!({"type": "network", "path": path_of}));
        fs::write(&path, spec.to_string()).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new, empty directory.
    fn empty(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("made");
        path
    }

    async fn create(&self) -> Result<Process, Error> {
        let (bundle, pid_file) = (self.path("bundle"), self.path("init.pid"));
        let request = Create {
            bundle,
            pid_file,
            stdio: Stdio::default(),
        };
        self.engine
            .create(&self.id, request)
            .await
            .map(Process::open)
    }

    async fn running(&self) -> Process {
        let process = self.create().await.expect("is created");
        self.engine.start(&self.id).await.expect("starts");
        process
    }

    /// An image of it. It runs on.
    async fn image(&self) -> PathBuf {
        let image = self.empty("image");
        self.checkpoint(&image, locks())
            .await
            .expect("is checkpointed");
        image
    }

    async fn checkpoint(
        &self,
        image: &Path,
        options: CheckpointOptions,
    ) -> Result<Option<stasis_criu::Version>, Error> {
        self.dump(image, options, Afterwards::GoesOn).await
    }

    async fn dump(
        &self,
        image: &Path,
        options: CheckpointOptions,
        afterwards: Afterwards,
    ) -> Result<Option<stasis_criu::Version>, Error> {
        let request = Checkpoint {
            image: image.to_owned(),
            work: self.empty("criu"),
            bundle: self.path("bundle"),
            options,
            afterwards,
        };
        self.engine
            .checkpoint(&self.id, &request)
            .await
            .map(|report| report.criu_version)
    }

    async fn restore(&self, image: &Path) -> Result<Process, Error> {
        self.restore_with(image, locks()).await
    }

    async fn restore_with(
        &self,
        image: &Path,
        options: CheckpointOptions,
    ) -> Result<Process, Error> {
        self.restore_in(&self.empty("criu"), image, options).await
    }

    async fn restore_in(
        &self,
        work: &Path,
        image: &Path,
        options: CheckpointOptions,
    ) -> Result<Process, Error> {
        let request = Restore {
            bundle: self.path("bundle"),
            pid_file: self.path("init.pid"),
            image: image.to_owned(),
            work: work.to_owned(),
            stdio: Stdio::default(),
            options,
            given_up: None,
        };
        self.engine
            .restore(&self.id, request)
            .await
            .map(Process::open)
    }

    async fn status(&self) -> EngineStatus {
        self.engine
            .state(&self.id)
            .await
            .expect("has a state")
            .status
    }

    async fn becomes(&self, status: EngineStatus) {
        let began = Instant::now();
        while self.status().await != status {
            assert!(began.elapsed() < PATIENCE, "it is not {status:?}");
        }
    }

    /// The numbers that the counter wrote so far.
    fn counted(&self) -> Vec<u64> {
        let written = fs::read_to_string(self.path("data/out")).unwrap_or_default();
        // The last line may be half there.
        let whole = written.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect()
    }

    /// Waits until the counter has written `more` further numbers.
    fn counts_on(&self, more: usize) {
        let goal = self.counted().len() + more;
        eventually("the counter counts on", || self.counted().len() >= goal);
    }

    /// Signals the container.
    async fn kill(&self, signal: Signal, target: Target) -> stasis_engine::Result<()> {
        let pid = match target {
            Target::Init(pid) | Target::All(pid) => pid,
            Target::Exec(pids) => pids.host,
        };
        let raw = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
        let pidfd = pidfd_open(raw, PidfdFlags::empty());
        let pidfd = pidfd.unwrap_or_else(|_| ended());
        self.engine
            .kill(&self.id, signal, target, pidfd.as_fd())
            .await
    }

    /// Kills and deletes the container, and looks that nothing is left of it.
    async fn remove(&self) {
        self.engine
            .delete(&self.id, true)
            .await
            .expect("is deleted");
        let gone = self.engine.state(&self.id).await.expect_err("is gone");
        assert!(matches!(gone, Error::NoSuchContainer { .. }), "{gone:?}");
        self.nothing_is_left();
    }

    fn nothing_is_left(&self) {
        eventually("its processes have gone", || {
            processes_of(&self.id).is_empty()
        });
        let left = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .output()
                .expect("runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let cgroups = left("find", &["/sys/fs/cgroup", "-type", "d", "-name", &self.id]);
        assert_eq!(cgroups, "", "its cgroups are removed");
        let bundle = self.path("bundle").display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
        assert!(!mounts.contains(&bundle), "{mounts}");
        assert_eq!(fs::read_dir(self.path("work")).expect("listed").count(), 0);
        for entry in fs::read_dir(self.path("bundle/rootfs"))
            .expect("listed")
            .flatten()
        {
            assert!(
                !entry.file_name().to_string_lossy().contains("filestore"),
                "{entry:?}"
            );
        }
    }
}

/// The init process or sandbox of a container.
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    fn open(pid: Pid) -> Self {
        let raw = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
        Self {
            pid,
            pidfd: pidfd_open(raw, PidfdFlags::empty()).expect("it lives"),
        }
    }

    fn ends(&self) {
        let mut descriptors = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let timeout = Timespec::try_from(PATIENCE).expect("a minute");
        assert_eq!(
            poll(&mut descriptors, Some(&timeout)).expect("polls"),
            1,
            "it did not end"
        );
    }
}

/// Asks again and again, since a container tells its progress by nothing but its files.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes on the host whose command line or cgroup names the container, but for zombies.
fn processes_of(id: &str) -> Vec<String> {
    let read = |path: PathBuf| fs::read(path).unwrap_or_default();
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("listed").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || name.parse::<u32>().is_err() {
            continue;
        }
        let command = read(entry.path().join("cmdline"));
        let cgroup = read(entry.path().join("cgroup"));
        let names = |text: &[u8]| String::from_utf8_lossy(text).contains(id);
        if !command.is_empty() && (names(&command) || names(&cgroup)) {
            found.push(format!(
                "{name} {}",
                String::from_utf8_lossy(&command).replace('\0', " ")
            ));
        }
    }
    found
}

/// What ctr makes of an image, in short: with masked files and directories.
fn spec(id: &str, command: &str, data: &Path) -> serde_json::Value {
    let mount = |to: &str, kind: &str, source: &str, options: &str| {
        let options: Vec<_> = options.split(',').collect();
        serde_json::json!({"destination": to, "type": kind, "source": source, "options": options})
    };
    let capabilities = ["CAP_KILL"];
    let namespaces = ["pid", "ipc", "uts", "mount", "network"];
    let namespaces = namespaces.map(|kind| serde_json::json!({ "type": kind }));
    serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", command],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "lab",
        "mounts": [
            mount("/proc", "proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
            mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/run", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/data", "bind", &data.display().to_string(), "rbind,rw"),
        ],
        "linux": {
            "cgroupsPath": format!("/stasis-engine/{id}"),
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    })
}

/// Appends one number after the other, each time opening the file anew: CRIU compares the size
/// of an open one.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i >> /data/out; sleep 0.02; done";

/// Says when its trap is set: without one, SIGTERM does nothing to the first process of a PID
/// namespace.
const IDLE: &str = "trap 'exit 7' TERM; echo 1 >> /data/out; while :; do sleep 0.05; done";

fn locks() -> CheckpointOptions {
    CheckpointOptions {
        file_locks: true,
        ..CheckpointOptions::default()
    }
}

async fn counts_on_from_where_it_was_frozen(binary: &str) {
    let bench = Bench::new(binary, COUNTER).await;
    let engine = &bench.engine;
    let build = host::build_id(engine.binary()).expect("read");
    let mut process = bench.running().await;
    for round in 0..3 {
        bench.counts_on(5);
        engine
            .pause(&bench.id, process.pid)
            .await
            .expect("is paused");
        let image = bench.empty(&format!("image{round}"));
        let criu = bench
            .dump(&image, locks(), Afterwards::StaysFrozen)
            .await
            .expect("is checkpointed");
        assert_eq!(criu.is_some(), engine.kind() != Kind::Runsc, "{criu:?}");
        // crun calls a container that cgroup v1 has not quite frozen yet a running one.
        if engine.kind() != Kind::Crun {
            assert_eq!(
                bench.status().await,
                EngineStatus::Paused,
                "it leaves as it came"
            );
        }
        let verify = || manifest::verify(&image, engine.kind(), engine.version(), build.as_deref());
        assert!(verify().expect("an image").is_none());
        let parts = Parts::of(engine.identity(), criu, locks(), Vec::new()).expect("are there");
        let sealed = manifest::seal(&image, parts, true).expect("is sealed");
        assert_eq!(verify().expect("is whole"), Some(sealed));
        let frozen = bench.counted().len();
        engine
            .end_frozen(&bench.id, process.pid, process.pidfd.as_fd())
            .await
            .expect("is ended");
        process.ends();
        assert_eq!(bench.counted().len(), frozen, "it did not run again");
        bench.remove().await;
        process = bench.restore(&image).await.expect("is restored");
        assert_eq!(bench.status().await, EngineStatus::Running);
    }
    bench.counts_on(5);
    bench
        .kill(Signal::KILL, Target::All(process.pid))
        .await
        .expect("is killed");
    process.ends();
    bench.remove().await;
    let counted = bench.counted();
    assert!(
        counted.iter().copied().eq(1..=counted.len() as u64),
        "{counted:?}"
    );
}

/// In cgroup version 1 the kernel passes over a process that goes to wait for its vforked child.
async fn is_frozen_when_pause_returns(binary: &str) {
    let bench = Bench::new(binary, "while :; do sleep 0; done").await;
    let process = bench.running().await;
    for _ in 0..50 {
        let pause = bench.engine.pause(&bench.id, process.pid);
        pause.await.expect("is paused");
        assert_eq!(bench.status().await, EngineStatus::Paused);
        bench.engine.resume(&bench.id).await.expect("is resumed");
    }
    bench.remove().await;
}

async fn is_dumped_while_it_starts_one_command_after_the_other(binary: &str) {
    let bench = Bench::new(binary, "while :; do sleep 0; done").await;
    let _process = bench.running().await;
    for _ in 0..10 {
        bench
            .checkpoint(&bench.empty("image"), locks())
            .await
            .expect("is checkpointed");
        assert_eq!(bench.status().await, EngineStatus::Running);
    }
    bench.remove().await;
}

async fn runs_on_after_a_checkpoint(binary: &str) {
    let bench = Bench::new(binary, COUNTER).await;
    let process = bench.running().await;
    bench.counts_on(3);
    bench.image().await;
    assert_eq!(bench.status().await, EngineStatus::Running);
    bench.counts_on(3);
    drop(process);
    bench.remove().await;
}

async fn signals_work_in_every_state(binary: &str) {
    let bench = Bench::new(binary, IDLE).await;
    let engine = &bench.engine;
    let term = Signal::new(15).expect("a signal");
    for target in [Target::Init, Target::All] {
        let created = bench.create().await.expect("is created");
        bench
            .kill(Signal::KILL, target(created.pid))
            .await
            .expect("is killed");
        created.ends();
        bench.remove().await;

        let paused = bench.running().await;
        let pause = engine.pause(&bench.id, paused.pid);
        pause.await.expect("is paused");
        bench
            .kill(Signal::KILL, target(paused.pid))
            .await
            .expect("is killed");
        paused.ends();
        bench.remove().await;

        let before = bench.counted().len();
        let running = bench.running().await;
        eventually("its trap is set", || bench.counted().len() > before);
        bench
            .kill(term, target(running.pid))
            .await
            .expect("is signalled");
        running.ends();
        eventually("it is seen to be stopped", || {
            processes_of(&bench.id)
                .iter()
                .all(|process| process.contains("gofer"))
        });
        let target = Target::Init(running.pid);
        let error = bench.kill(term, target).await.expect_err("it has ended");
        assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
        bench.remove().await;
    }
    let gone = Target::Init(Pid::from_raw(1));
    let error = bench.kill(term, gone).await.expect_err("is deleted");
    assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
}

async fn an_exec_can_be_signalled_and_listed(binary: &str) {
    let bench = Bench::new(binary, IDLE).await;
    let _process = bench.running().await;
    let document = bench.path("exec.json");
    let exec = r#"{"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}"#;
    fs::write(&document, exec).expect("written");
    let pid_file = bench.path("exec.pid");
    let request = Exec {
        process_file: document.clone(),
        pid_file: pid_file.clone(),
        stdio: Stdio::default(),
    };
    let pids = bench.engine.exec(&bench.id, request).await.expect("runs");
    let process = Process::open(pids.host);
    assert!(
        bench
            .engine
            .processes(&bench.id)
            .await
            .expect("listed")
            .contains(&pids.inner)
    );
    let kill = || bench.kill(Signal::KILL, Target::Exec(pids));
    kill().await.expect("is killed");
    process.ends();
    eventually("it is reaped", || {
        !Path::new(&format!("/proc/{}", pids.host)).exists()
    });
    let error = kill().await.expect_err("has ended");
    assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");

    fs::write(&document, exec.replace("sleep", "/no/such/program")).expect("written");
    let request = Exec {
        process_file: document,
        pid_file,
        stdio: Stdio::default(),
    };
    let error = bench
        .engine
        .exec(&bench.id, request)
        .await
        .expect_err("cannot run");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    bench.remove().await;
}

async fn an_unknown_container_is_known_as_such(binary: &str) {
    let bench = Bench::new(binary, IDLE).await;
    let error = bench.engine.state(&bench.id).await.expect_err("is unknown");
    assert!(matches!(error, Error::NoSuchContainer { .. }), "{error:?}");
    bench
        .engine
        .delete(&bench.id, false)
        .await
        .expect("counts as deleted");
    bench
        .engine
        .delete(&bench.id, true)
        .await
        .expect("counts as deleted");
    let features = bench.engine.features().await.expect("are answered");
    assert_eq!(features.is_none(), binary == "runsc-20240729");
}

async fn a_failed_restore_leaves_nothing_and_the_next_one_works(binary: &str) {
    // CRIU waits for ever for the pages that an image lacks.
    let bench = Bench::with(binary, COUNTER, Duration::from_secs(10)).await;
    let _process = bench.running().await;
    bench.counts_on(3);
    let image = bench.image().await;
    bench.remove().await;
    let broken = bench.empty("broken");
    for file in [
        "checkpoint.img",
        "pages-1.img",
        "core-1.img",
        "inventory.img",
    ] {
        for entry in fs::read_dir(&image).expect("listed").flatten() {
            fs::copy(entry.path(), broken.join(entry.file_name())).expect("copied");
        }
        let Ok(file) = fs::File::options().write(true).open(broken.join(file)) else {
            continue;
        };
        let length = file.metadata().expect("is there").len();
        file.set_len(length / 2).expect("is cut");
        let error = bench
            .restore(&broken)
            .await
            .map(|_| ())
            .expect_err("is broken");
        eprintln!("{error}");
        bench.nothing_is_left();
        let gone = bench
            .engine
            .state(&bench.id)
            .await
            .expect_err("there is none");
        assert!(matches!(gone, Error::NoSuchContainer { .. }), "{gone:?}");
    }
    let _process = bench.restore(&image).await.expect("is restored");
    bench.counts_on(3);
    bench.remove().await;
}

async fn a_failed_restore_unmounts_what_criu_left_and_nothing_else(binary: &str) {
    let bench = Bench::new(binary, COUNTER).await;
    let _process = bench.running().await;
    bench.counts_on(1);
    let image = bench.image().await;
    bench.remove().await;
    fs::write(image.join("inventory.img"), "none").expect("written");

    let disk = Mounted::at(bench.empty("disk"));
    let volume = Mounted::at(disk.make("volume"));
    fs::write(volume.0.join("precious"), "x").expect("written");
    // As a CRIU leaves it that was killed.
    let yard = Mounted::at(disk.make(".criu.cgyard.aB3dE6"));
    let _controller = Mounted::at(yard.make("freezer"));
    let error = bench
        .restore_in(&disk.0, &image, locks())
        .await
        .map(|_| ())
        .expect_err("is broken");
    assert!(matches!(error, Error::Criu { .. }), "{error:?}");

    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read");
    let named = |path: &Path| mounts.contains(&format!(" {} ", path.display()));
    assert!(named(&disk.0) && named(&volume.0), "{mounts}");
    assert!(volume.0.join("precious").exists());
    assert!(!yard.0.exists());
    bench.nothing_is_left();
}

/// A file system of its own, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Self {
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "tmpfs"]).arg(&path).status();
        assert!(mounted.expect("runs").success());
        Self(path)
    }

    /// A new directory in it.
    fn make(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).expect("made");
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may have been unmounted, which the test is about.
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

async fn a_restore_under_an_id_that_is_taken_leaves_its_container_alone(binary: &str) {
    let bench = Bench::new(binary, COUNTER).await;
    let _process = bench.running().await;
    bench.counts_on(2);
    let image = bench.image().await;
    let error = bench
        .restore(&image)
        .await
        .map(|_| ())
        .expect_err("is taken");
    assert!(error.to_string().contains("already"), "{error}");
    bench.counts_on(3);
    bench.remove().await;
}

async fn a_full_disk_is_named_and_the_container_runs_on(binary: &str) {
    let message = survived_full_disk(binary).await.to_string();
    assert!(
        message.to_lowercase().contains("no space left on device"),
        "{message}"
    );
}

/// runsc of 2024 crashes in its attempt to write, and says nothing of the disk.
async fn a_full_disk_is_an_error_and_the_container_runs_on(binary: &str) {
    survived_full_disk(binary).await;
}

/// The error of a checkpoint that does not fit, after which the container ran on.
async fn survived_full_disk(binary: &str) -> Error {
    let bench = Bench::new(binary, COUNTER).await;
    let process = bench.running().await;
    bench.counts_on(3);
    let image = bench.empty("image");
    let mount = |arguments: &[&str]| {
        let status = Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(&image)
            .status();
        assert!(status.expect("runs").success());
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    let pause = bench.engine.pause(&bench.id, process.pid);
    pause.await.expect("is paused");
    let error = bench
        .checkpoint(&image, locks())
        .await
        .expect_err("does not fit");
    // What runsc opened there stays open in its sandbox.
    mount(&["umount", "--lazy"]);
    // CRIU freezes it again before it lets go, and does not wait for the last process.
    bench.becomes(EngineStatus::Paused).await;
    bench.engine.resume(&bench.id).await.expect("is resumed");
    bench.counts_on(3);
    bench.remove().await;
    error
}

/// A connection of a container to itself, with a counter beside it. Both ends read from a FIFO
/// that never ends; `sleep`, to hold them, would end early, since CRIU interrupts it.
const CONNECTED: &str = "mkfifo /tmp/hold; nc -l -p 5555 0<>/tmp/hold & \
    until nc 127.0.0.1 5555 0<>/tmp/hold; do sleep 0.05; done & i=0; \
    while :; do i=$((i+1)); echo $i >> /data/out; sleep 0.02; done";

/// A network namespace with a loopback device, as CNI would make one.
struct Network(String);

impl Network {
    fn new(name: &str) -> Self {
        ip(&["netns", "add", name]);
        let network = Self(name.to_owned());
        ip(&["-netns", name, "link", "set", "lo", "up"]);
        network
    }

    /// Whether a connection is there, and both its ends are somebody's: one that waits to be
    /// accepted has no inode, and is another thing to CRIU.
    fn is_connected(&self) -> bool {
        // nc listens for version 6, and takes what comes by version 4 as well.
        let output = Command::new("ip")
            .args(["netns", "exec", &self.0, "cat"])
            .args(["/proc/net/tcp", "/proc/net/tcp6"])
            .output()
            .expect("runs");
        let table = String::from_utf8_lossy(&output.stdout);
        let sockets = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let owned = |socket: &Vec<&str>| {
            socket.get(3) == Some(&"01") && socket.get(9).is_some_and(|inode| *inode != "0")
        };
        sockets.filter(owned).count() == 2
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) {
    assert!(
        Command::new("ip")
            .args(arguments)
            .status()
            .expect("runs")
            .success()
    );
}

/// Whether CRIU can dump sockets of the internet: before 4.2 it asks them for SO_PASSCRED, which
/// kernels from 6.16 on refuse.
fn dumps_inet() -> bool {
    /// The first two numbers in a text.
    fn numbers(text: &str) -> (u32, u32) {
        let mut numbers = text
            .split(|one: char| !one.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("has two numbers");
        (next(), next())
    }
    let criu = Command::new("criu")
        .arg("--version")
        .output()
        .expect("runs");
    numbers(&host::kernel_release()) < (6, 16)
        || numbers(&String::from_utf8_lossy(&criu.stdout)) >= (4, 2)
}

async fn established_connections_are_ended_by_criu_and_come_back(binary: &str) {
    let bench = Bench::new(binary, CONNECTED).await;
    let network = Network::new(&bench.id);
    bench.join(&network);
    let process = bench.running().await;
    eventually("it is connected", || network.is_connected());
    let error = bench
        .checkpoint(&bench.empty("image"), locks())
        .await
        .expect_err("is refused");
    assert!(matches!(error, Error::Criu { .. }), "{error:?}");
    assert!(
        error.to_string().contains("Connected TCP socket"),
        "{error}"
    );
    bench.counts_on(2);
    let image = bench.empty("image");
    let options = CheckpointOptions {
        tcp_established: true,
        ..locks()
    };
    manifest::reserve_room(&image).expect("there is room");
    let request = Checkpoint {
        image: image.clone(),
        work: bench.empty("criu"),
        bundle: bench.path("bundle"),
        options: options.clone(),
        afterwards: Afterwards::EndsByCriu { frozen: false },
    };
    let report = bench.engine.checkpoint(&bench.id, &request).await;
    if !dumps_inet() {
        println!("CRIU before 4.2 on this kernel: its refusal is seen to, and no connection");
        let error = report.expect_err("is refused");
        let refusal = "1:16 opt: Operation not supported";
        assert!(error.to_string().contains(refusal), "{error}");
        bench.counts_on(2);
        assert!(network.is_connected());
        return bench.remove().await;
    }
    let report = report.expect("is checkpointed");
    process.ends();
    let parts = Parts::of(
        bench.engine.identity(),
        report.criu_version,
        options.clone(),
        Vec::new(),
    );
    manifest::seal(&image, parts.expect("are there"), true).expect("is sealed");
    bench
        .engine
        .delete(&bench.id, false)
        .await
        .expect("counts as deleted");
    bench.nothing_is_left();
    let _process = bench
        .restore_with(&image, options)
        .await
        .expect("is restored");
    bench.counts_on(2);
    assert!(network.is_connected());
    bench.remove().await;
}

macro_rules! tests {
    ($binary:literal: $($test:ident)*) => {
        $(#[tokio::test]
        #[ignore = "needs the lab: make test"]
        async fn $test() {
            super::$test($binary).await;
        })*
    };
}

/// The tests of one engine: those that all have, and its own.
macro_rules! engine {
    ($engine:ident $binary:literal $($own:ident)*) => {
        mod $engine {
            tests! {
                $binary:
                counts_on_from_where_it_was_frozen
                is_frozen_when_pause_returns
                is_dumped_while_it_starts_one_command_after_the_other
                runs_on_after_a_checkpoint
                signals_work_in_every_state
                an_exec_can_be_signalled_and_listed
                an_unknown_container_is_known_as_such
                a_failed_restore_leaves_nothing_and_the_next_one_works
                a_restore_under_an_id_that_is_taken_leaves_its_container_alone
                $($own)*
            }
        }
    };
}

engine!(runsc "runsc" a_full_disk_is_named_and_the_container_runs_on);
engine!(runsc_2024 "runsc-20240729" a_full_disk_is_an_error_and_the_container_runs_on);
engine!(runc "runc"
    a_failed_restore_unmounts_what_criu_left_and_nothing_else
    a_full_disk_is_named_and_the_container_runs_on
    established_connections_are_ended_by_criu_and_come_back);
engine!(crun "crun"
    a_failed_restore_unmounts_what_criu_left_and_nothing_else
    a_full_disk_is_named_and_the_container_runs_on
    established_connections_are_ended_by_criu_and_come_back);
