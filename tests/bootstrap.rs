//! The shim's actions, as containerd runs them, without containerd or a runtime: start, delete,
//! -info, -v, and what the server is like that start leaves behind.

#![expect(clippy::tests_outside_test_module, reason = "this whole file is one")]

#[path = "e2e/support/script.rs"]
mod script;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::DeleteResponse,
    bootstrap_api::{BootstrapParams, BootstrapResult},
    protobuf::{Message, MessageFull, well_known_types::any::Any},
    shim::oci::Options,
    types::introspection::RuntimeInfo,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use script::write_script;

const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-stasis-v1");

/// A bundle, a place for sockets, and the shims that were started in them.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bundle")).unwrap();
        Self { dir }
    }

    fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    fn sockets(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The FIFO for the log, as containerd makes it. Opened for writing too, so as not to wait.
    fn log(&self) -> BufReader<fs::File> {
        let fifo = self.bundle().join("log");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        BufReader::new(
            fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(fifo)
                .unwrap(),
        )
    }

    /// The shim as containerd runs it, but for the action.
    fn shim(&self) -> Command {
        let mut command = Command::new(SHIM);
        command
            .args([
                "-namespace",
                "default",
                "-id",
                "c",
                "-address",
                "/run/containerd.sock",
            ])
            .args(["-publish-binary", "/usr/bin/containerd"])
            .current_dir(self.bundle())
            .env("SHIM_SOCKET_DIR", self.sockets())
            .env_remove("TTRPC_ADDRESS");
        command
    }

    fn start(&self, input: &[u8]) -> Output {
        run(self.shim().arg("start"), input)
    }

    /// Starts a shim and gives its address.
    fn started(&self) -> String {
        reply(&self.start(b""))
    }

    fn pid(&self) -> Pid {
        let pid = fs::read_to_string(self.bundle().join("shim.pid")).unwrap();
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid().as_raw_nonzero()))
    }

    /// Sends the server a signal and waits for its end.
    fn end(&self, signal: Signal) {
        let Ok(pidfd) = pidfd_open(self.pid(), PidfdFlags::empty()) else {
            return;
        };
        match pidfd_send_signal(&pidfd, signal) {
            // It had ended before, and its new parent has reaped it since.
            Err(Errno::SRCH) => return,
            sent => sent.unwrap(),
        }
        // Longer than any machine stands still.
        let limit = Timespec {
            tv_sec: 100,
            tv_nsec: 0,
        };
        let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).unwrap();
        assert_eq!(ended, 1, "the shim does not end on {signal:?}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.bundle().join("shim.pid").exists() {
            self.end(Signal::KILL);
        }
    }
}

fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading, and says why on stderr.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn reply(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn wait_for_line(log: &mut impl BufRead, text: &str) {
    let mut lines = log.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("time=") && line.contains(text)));
}

fn path(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap())
}

fn options(options: &Options) -> Any {
    Any {
        type_url: Options::descriptor().full_name().to_owned(),
        value: options.write_to_bytes().unwrap(),
        ..Any::default()
    }
}

#[test]
fn start_replies_the_bare_address_where_a_server_listens() {
    let machine = Machine::new();

    let address = machine.started();

    assert!(path(&address).starts_with(machine.sockets()), "{address}");
    UnixStream::connect(path(&address)).unwrap();
    assert_eq!(
        fs::read_to_string(machine.bundle().join("address")).unwrap(),
        address
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path(&address)), 0o600);
    assert_eq!(mode(&machine.sockets()), 0o700);
}

#[test]
fn start_replies_a_bootstrap_result_to_bootstrap_params() {
    let machine = Machine::new();
    let params = BootstrapParams {
        instance_id: "c".to_owned(),
        namespace: "default".to_owned(),
        socket_dir: Some(
            machine
                .dir
                .path()
                .join("other")
                .to_str()
                .unwrap()
                .to_owned(),
        ),
        ..BootstrapParams::default()
    };

    let output = machine.start(&params.write_to_bytes().unwrap());

    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let result = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((result.version, &*result.protocol), (3, "ttrpc"));
    assert!(path(&result.address).starts_with(machine.dir.path().join("other")));
    UnixStream::connect(path(&result.address)).unwrap();
}

#[test]
fn the_server_stands_on_its_own() {
    let machine = Machine::new();
    let mut log = machine.log();
    // A descriptor that whoever starts the shim has left open for its children.
    let leaking = format!("exec 9>{}/leak; exec \"$@\"", machine.dir.path().display());
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        &leaking,
        "sh",
        SHIM,
        "-namespace",
        "default",
        "-id",
        "c",
        "start",
    ]);
    shell
        .current_dir(machine.bundle())
        .env("SHIM_SOCKET_DIR", machine.sockets());

    reply(&run(&mut shell, b""));
    // Before that the loader has libraries open.
    wait_for_line(&mut log, "the shim serves");

    let stat = fs::read_to_string(machine.proc("stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let pgrp = fields.split(' ').nth(2).unwrap();
    assert_eq!(
        pgrp,
        machine.pid().as_raw_nonzero().to_string(),
        "its own process group"
    );
    assert_eq!(
        fs::read_link(machine.proc("cwd")).unwrap(),
        machine.bundle()
    );
    let open: BTreeSet<PathBuf> = fs::read_dir(machine.proc("fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap_or_default())
        .filter(|target| target.is_absolute())
        .collect();
    assert_eq!(
        open,
        BTreeSet::from([PathBuf::from("/dev/null"), machine.bundle().join("log")])
    );
    let score = |path: &Path| -> i32 { fs::read_to_string(path).unwrap().trim().parse().unwrap() };
    let ours = score(Path::new("/proc/self/oom_score_adj"));
    assert_eq!(score(&machine.proc("oom_score_adj")), 1000.min(ours + 1));
    let arguments = fs::read_to_string(machine.proc("cmdline")).unwrap();
    assert!(
        arguments.contains("-namespace\0default\0-id\0c\0"),
        "{arguments:?}"
    );
}

#[test]
fn a_second_start_for_the_same_id_finds_the_first_shim() {
    let machine = Machine::new();
    let first = machine.started();
    let pid = machine.pid();

    assert_eq!(machine.started(), first);
    assert_eq!(machine.pid(), pid);
}

#[test]
fn a_shim_that_was_killed_is_replaced() {
    let machine = Machine::new();
    let first = machine.started();
    machine.end(Signal::KILL);

    let second = machine.started();

    assert_eq!(first, second);
    UnixStream::connect(path(&second)).unwrap();
}

#[test]
fn a_shim_ends_on_sigterm_though_clients_hold_on_to_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let machine = Machine::new();
        let mut log = machine.log();
        let address = machine.started();
        let mut client = UnixStream::connect(path(&address)).unwrap();
        // Before that it does not watch for signals.
        wait_for_line(&mut log, "the shim serves");

        machine.end(signal);

        assert!(!path(&address).exists());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        wait_for_line(&mut log, "the shim ends");
    }
}

#[test]
fn start_refuses_on_stderr_alone_and_leaves_nothing() {
    let missing = Options {
        shim_cgroup: "/no/such/cgroup".to_owned(),
        ..Options::default()
    };
    let other = BootstrapParams {
        instance_id: "other".to_owned(),
        namespace: "default".to_owned(),
        containerd_version: "2.4.2".to_owned(),
        ..BootstrapParams::default()
    };
    for (input, named) in [
        (
            options(&missing).write_to_bytes().unwrap(),
            "/no/such/cgroup",
        ),
        (other.write_to_bytes().unwrap(), "default/other"),
    ] {
        let machine = Machine::new();

        let error = refusal(&machine.start(&input));

        assert!(error.contains(named), "{error}");
        let sockets = fs::read_dir(machine.sockets()).map_or(0, Iterator::count);
        assert_eq!(sockets, 0);
        assert!(!machine.bundle().join("shim.pid").exists());
    }
}

#[test]
fn start_refuses_an_id_that_is_no_plain_name() {
    let machine = Machine::new();
    let mut command = Command::new(SHIM);
    command
        .args(["-namespace", "../up", "-id", "c", "start"])
        .current_dir(machine.bundle());

    assert!(refusal(&run(&mut command, b"")).contains("../up"));
}

#[test]
fn options_of_an_unknown_type_are_left_for_create_to_refuse() {
    let machine = Machine::new();
    let foreign = Any {
        type_url: "foreign.Options".to_owned(),
        ..Any::default()
    };

    reply(&machine.start(&foreign.write_to_bytes().unwrap()));
}

#[test]
fn delete_cleans_up_after_a_shim_that_was_killed() {
    let machine = Machine::new();
    let address = machine.started();
    machine.end(Signal::KILL);
    let mut sandbox = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(machine.bundle().join("init.pid"), sandbox.id().to_string()).unwrap();

    let output = run(machine.shim().arg("delete"), b"");

    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((response.pid, response.exit_status), (sandbox.id(), 137));
    assert!(response.exited_at.seconds > 0);
    assert_eq!(sandbox.wait().unwrap().signal(), Some(9));
    assert!(!path(&address).exists());
}

#[test]
fn delete_works_in_a_bundle_with_nothing_or_with_rubbish_in_it() {
    let machine = Machine::new();
    let empty = run(machine.shim().arg("delete"), b"");
    assert!(
        empty.status.success() && empty.stderr.is_empty(),
        "{empty:?}"
    );

    for name in ["runtime.json", "init.pid", "address"] {
        fs::write(machine.bundle().join(name), [0xff, b'{']).unwrap();
    }
    let mut command = Command::new(SHIM);
    command
        .args(["-namespace", "default", "-id", "c", "-bundle"])
        .arg(machine.bundle());
    let rubbish = run(command.arg("delete"), b"");

    assert!(rubbish.status.success(), "{rubbish:?}");
    DeleteResponse::parse_from_bytes(&rubbish.stdout).unwrap();
    assert!(
        String::from_utf8_lossy(&rubbish.stderr).contains("runtime.json"),
        "{rubbish:?}"
    );
}

#[test]
fn delete_ends_in_time_though_the_runtime_hangs() {
    let machine = Machine::new();
    let runtime = machine.dir.path().join("hangs");
    write_script(&runtime, "exec sleep 1000");
    let record = format!(
        r#"{{"id":"c","namespace":"default","binary":{runtime:?},"root":"/nowhere",
            "runsc_config":{{}},"systemd_cgroup":false}}"#
    );
    fs::write(machine.bundle().join("runtime.json"), record).unwrap();
    let begun = Instant::now();

    let output = run(machine.shim().arg("delete"), b"");

    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("within 3s"), "{stderr}");
    // It has not waited for the runtime; how fast the machine is, is not judged.
    assert!(
        begun.elapsed() < Duration::from_secs(100),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn info_names_the_runtime_even_where_its_binary_is_missing() {
    let machine = Machine::new();
    let asked = options(&Options {
        binary_name: "/no/such/runtime".to_owned(),
        ..Options::default()
    });

    let output = run(
        machine.shim().arg("-info"),
        &asked.write_to_bytes().unwrap(),
    );

    assert!(output.status.success(), "{output:?}");
    let info = RuntimeInfo::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!(info.name, "io.containerd.stasis.v1");
    assert_eq!(info.version.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.options.as_ref(), Some(&asked));
    assert!(info.features.is_none());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("/no/such/runtime"),
        "{output:?}"
    );
}

#[test]
fn info_leaves_nothing_in_the_directory_that_containerd_runs_in() {
    let machine = Machine::new();
    let runtime = machine.dir.path().join("runtime");
    write_script(&runtime, "echo runc version 1.3.6");
    let binary_name = runtime.to_str().unwrap().to_owned();
    let asked = options(&Options {
        binary_name,
        ..Options::default()
    });

    let output = run(
        machine.shim().arg("-info"),
        &asked.write_to_bytes().unwrap(),
    );

    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_dir(machine.bundle()).unwrap().count(), 0);
}

#[test]
fn the_version_is_for_people() {
    let output = run(Command::new(SHIM).arg("-v"), b"");

    assert!(reply(&output).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_no_action_is_refused_by_name() {
    let machine = Machine::new();

    assert!(refusal(&run(machine.shim().arg("restart"), b"")).contains("restart"));
    assert!(refusal(&run(&mut machine.shim(), b"")).contains("listening socket"));
}
