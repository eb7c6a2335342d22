//! The command lines of runc and crun, and CRIU's part in them.

mod frozen;

use std::{fs, os::fd::AsFd};

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use stasis_criu::options::CgroupMode;

use super::{freeze, handle::Runc};
use crate::{
    answer,
    calls::{Afterwards, ExecPids, Signal, Target},
    engine::Engine,
    error::Error,
    fake::{Fake, PID, text},
    identify::identify,
    identity::Kind,
    options::CheckpointOptions,
};

const RUNC: &str = "runc version 1.3.6+ds1";
const OLD_RUNC: &str = "runc version 1.1.15+ds1";
const CRUN: &str = "crun version 1.28";
const GLOBALS: &str = "--root DIR/root --log DIR/bundle/log.json --log-format json ";
const PATHS: &str = "--image-path DIR/image --work-path DIR/work";
const FILES: &str = "--bundle DIR/bundle --pid-file DIR/init.pid";

fn term() -> Signal {
    Signal::new(15).expect("a signal")
}

/// Says that the container has this status, and that its init is this process, which has no
/// cgroup of its own.
fn state(status: &str) -> String {
    format!(r#"echo "{{\"status\": \"{status}\", \"pid\": $PPID}}""#)
}

/// The runtime, with a container that is paused as containerd has it for a dump.
async fn paused(version: &str) -> Fake {
    let fake = Fake::new(version).await;
    fake.on("state", &state("paused"));
    fake
}

fn every_option() -> CheckpointOptions {
    CheckpointOptions {
        tcp_established: true,
        ext_unix_sk: true,
        shell_job: true,
        file_locks: true,
        cgroup_mode: CgroupMode::Full,
        empty_namespaces: Vec::new(),
    }
}

#[tokio::test]
async fn a_container_and_its_execs_are_made_by_these_command_lines() {
    for version in [RUNC, OLD_RUNC, CRUN] {
        let fake = Fake::new(version).await;
        let engine = &fake.engine;
        let pid = Pid::from_raw(PID);

        assert_eq!(engine.create("c", fake.create()).await.expect("works"), pid);
        assert_eq!(fake.last(GLOBALS), format!("create {FILES} c"));
        let pids = engine.exec("c", fake.exec()).await.expect("works");
        assert_eq!(
            pids,
            ExecPids {
                host: pid,
                inner: PID
            }
        );
        let line = "exec --process DIR/process.json --detach --pid-file DIR/exec.pid c";
        assert_eq!(fake.last(GLOBALS), line);
    }
}

#[tokio::test]
async fn options_are_flags_where_the_release_has_them() {
    let flags =
        "--tcp-established --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode full";
    for version in [RUNC, OLD_RUNC, CRUN] {
        let fake = paused(version).await;
        fake.engine
            .checkpoint("c", &fake.checkpoint(every_option()))
            .await
            .expect("works");
        let line = format!("checkpoint {PATHS} --leave-running {flags} c");
        assert_eq!(fake.last(GLOBALS), line);
        fake.engine
            .restore("c", fake.restore(every_option()))
            .await
            .expect("works");
        let subreaper = if version == CRUN {
            ""
        } else {
            "--no-subreaper "
        };
        let line = format!("restore --detach {FILES} {PATHS} {subreaper}{flags} c");
        assert_eq!(fake.last(GLOBALS), line);
    }
}

#[tokio::test]
async fn what_a_release_has_no_flag_for_is_in_crius_configuration() {
    let mask = |fake: &Fake| {
        let root = fake.path("root");
        format!(
            "external=mnt[/run/crun/.empty-directory]:{}/.empty-directory\n",
            root.display()
        )
    };
    let ignore = " --manage-cgroups-mode ignore";
    for (version, flag, dump) in [
        (RUNC, ignore, ""),
        (OLD_RUNC, "", "manage-cgroups=ignore\n"),
        (CRUN, ignore, ""),
        ("crun version 1.21", ignore, ""),
    ] {
        let fake = paused(version).await;
        let crun = fake.engine.kind() == Kind::Crun;
        let options = CheckpointOptions::default();
        fake.engine
            .checkpoint("c", &fake.checkpoint(options.clone()))
            .await
            .expect("works");
        assert_eq!(
            fake.last(GLOBALS),
            format!("checkpoint {PATHS} --leave-running{flag} c")
        );
        assert_eq!(text(&fake.path("bundle/criu.conf")), dump);
        fake.engine
            .restore("c", fake.restore(options))
            .await
            .expect("works");
        assert!(
            fake.last(GLOBALS).ends_with(&format!("{flag} c")),
            "{}",
            fake.last(GLOBALS)
        );
        let restore = if crun { mask(&fake) } else { dump.to_owned() };
        assert_eq!(text(&fake.path("bundle/criu.conf")), restore);
        assert_eq!(fake.path("root/.empty-directory").is_dir(), crun);
    }
}

#[tokio::test]
async fn settings_are_flags_of_the_verbs_that_have_them() {
    for (version, no_pivot) in [(RUNC, "--no-pivot "), (CRUN, "")] {
        let fake = Fake::with(version, |settings| {
            settings.systemd_cgroup = true;
            settings.no_pivot_root = true;
            settings.no_new_keyring = true;
        })
        .await;
        let globals = format!("{GLOBALS}--systemd-cgroup ");
        fake.engine.create("c", fake.create()).await.expect("works");
        let line = format!("create {FILES} --no-pivot --no-new-keyring c");
        assert_eq!(fake.last(&globals), line);
        fake.engine
            .restore("c", fake.restore(every_option()))
            .await
            .expect("works");
        assert!(
            fake.last(&globals)
                .contains(&format!("{no_pivot}--tcp-established"))
        );
    }
}

#[tokio::test]
async fn criu_ends_the_container_only_where_it_is_to() {
    let fake = paused(RUNC).await;
    let mut request = fake.checkpoint(CheckpointOptions::default());
    request.afterwards = Afterwards::EndsByCriu { frozen: false };
    fake.on(
        "checkpoint",
        "echo '(00.1) Version: 4.2.1 (gitid 0)' > work/dump.log",
    );
    let report = fake.engine.checkpoint("c", &request).await.expect("works");
    assert!(!fake.last(GLOBALS).contains("--leave-running"));
    assert_eq!(
        report.criu_version,
        Some(stasis_criu::Version::new(4, 2, 1))
    );
}

#[tokio::test]
async fn a_failed_dump_tells_crius_cause_and_where_its_log_is() {
    let fake = paused(RUNC).await;
    fs::write(
        fake.path("work/dump.log"),
        "(0.1) Error (criu/old.c:1): of the call before\n",
    )
    .expect("written");
    fake.on(
        "checkpoint",
        "echo 'criu failed: type DUMP errno 0' >&2; exit 1",
    );
    let request = fake.checkpoint(CheckpointOptions::default());
    let error = fake
        .engine
        .checkpoint("c", &request)
        .await
        .expect_err("fails");
    assert!(!error.to_string().contains("before"), "{error}");
    let log = "(0.1) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.";
    fake.on(
        "checkpoint",
        &format!("echo '{log}' > work/dump.log; exit 1"),
    );
    let error = fake
        .engine
        .checkpoint("c", &request)
        .await
        .expect_err("fails");
    let path = fake.path("work/dump.log");
    assert_eq!(
        error.to_string(),
        format!(
            "runc checkpoint failed: a process has established TCP connections: set \
             `tcp_established` in [checkpoint] of config.toml to keep them, or `tcp-close` in \
             CRIU's configuration file (annotation org.criu.config) to drop them (CRIU says: inet: \
             Connected TCP socket, consider using --tcp-established option.), its log is {}",
            path.display()
        )
    );
}

#[tokio::test]
async fn a_missing_criu_is_named_with_how_to_get_it() {
    let fake = paused(CRUN).await;
    let message = "could not load `libcriu.so.2`: cannot open shared object file";
    fake.on("checkpoint", &format!("echo '{message}' >&2; exit 1"));
    let request = fake.checkpoint(CheckpointOptions::default());
    let error = fake
        .engine
        .checkpoint("c", &request)
        .await
        .expect_err("fails");
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert!(
        error.to_string().contains("install libcriu.so.2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_failed_restore_is_deleted_and_a_taken_id_is_not() {
    for version in [RUNC, CRUN] {
        let fake = Fake::new(version).await;
        fake.on(
            "restore",
            "echo '(0.1) Error (criu/x.c:1): the cause' > work/restore.log; exit 1",
        );
        let restore = fake.restore(CheckpointOptions::default());
        let error = fake.engine.restore("c", restore).await.expect_err("fails");
        assert!(error.to_string().contains("the cause"), "{error}");
        assert_eq!(fake.last(GLOBALS), "delete --force c");
        let before = fake.calls().len();
        fs::create_dir_all(fake.path("root/c")).expect("made");
        let restore = fake.restore(CheckpointOptions::default());
        let error = fake
            .engine
            .restore("c", restore)
            .await
            .expect_err("is taken");
        assert!(error.to_string().contains("delete it first"), "{error}");
        assert_eq!(fake.calls().len(), before, "nothing was run");
    }
}

#[tokio::test]
async fn what_has_no_directory_does_not_exist() {
    for version in [RUNC, CRUN] {
        let fake = Fake::new(version).await;
        for verb in ["state", "delete", "kill"] {
            fake.on(verb, "echo 'container does not exist' >&2; exit 1");
        }
        let error = fake.engine.state("c").await.expect_err("is unknown");
        assert!(matches!(error, Error::NoSuchContainer { .. }), "{error:?}");
        let target = Target::Init(Pid::from_raw(PID));
        let error = fake.kill_fails(term(), target).await;
        assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
        fake.engine
            .delete("c", false)
            .await
            .expect("counts as deleted");
        fs::create_dir(fake.path("root/c")).expect("made");
        let error = fake.engine.delete("c", false).await.expect_err("is known");
        assert!(error.to_string().contains("does not exist"), "{error}");
        fake.on("state", r#"echo '{"status": "stopped", "pid": 0}'"#);
        let error = fake.kill_fails(term(), target).await;
        assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
        fake.on("state", &state("running"));
        let error = fake.kill_fails(term(), target).await;
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_exec_is_signalled_on_the_host() {
    let fake = Fake::new(RUNC).await;
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("starts");
    let host = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let target = Target::Exec(ExecPids {
        host,
        inner: host.as_raw(),
    });
    // SIGRTMAX, which ends a process as well.
    fake.kill(Signal::new(64).expect("a signal"), target)
        .await
        .expect("is sent");
    assert!(!child.wait().expect("is reaped").success());
    let error = fake.kill_fails(term(), target).await;
    assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
    assert!(fake.calls().is_empty());
}

#[tokio::test]
async fn a_container_without_a_cgroup_of_its_own_is_ended_by_its_init_alone() {
    let fake = Fake::new(RUNC).await;
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let raw = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).expect("it lives");
    // It is in this test's cgroup, which would be frozen and killed otherwise.
    fake.engine
        .end_frozen("c", pid, pidfd.as_fd())
        .await
        .expect("is ended");
    assert!(!child.wait().expect("is reaped").success());
    fake.engine
        .end_frozen("c", pid, pidfd.as_fd())
        .await
        .expect("has ended");
}

#[tokio::test]
async fn empty_namespaces_are_runcs_alone_and_network_alone() {
    let options = |name: &str| CheckpointOptions {
        empty_namespaces: vec![name.to_owned()],
        ..CheckpointOptions::default()
    };
    let runc = paused(RUNC).await;
    runc.engine
        .check_options(&options("network"))
        .expect("is taken");
    runc.engine
        .checkpoint("c", &runc.checkpoint(options("network")))
        .await
        .expect("works");
    assert!(
        runc.last(GLOBALS).ends_with(" --empty-ns network c"),
        "{}",
        runc.last(GLOBALS)
    );
    let error = runc
        .engine
        .check_options(&options("ipc"))
        .expect_err("is refused");
    assert!(error.to_string().contains("ipc"), "{error}");
    let crun = paused(CRUN).await;
    let error = crun
        .engine
        .check_options(&options("network"))
        .expect_err("is refused");
    assert!(error.to_string().contains("empty_namespaces"), "{error}");
    crun.engine
        .check_options(&every_option())
        .expect("are taken");
}

#[tokio::test]
async fn a_spec_is_pointed_at_our_configuration() {
    let fake = Fake::new(RUNC).await;
    let mut spec = serde_json::json!({});
    let bundle = fake.path("bundle");
    assert!(
        fake.engine
            .prepare_spec(&bundle, &mut spec)
            .expect("is prepared")
    );
    assert_eq!(
        spec["annotations"]["org.criu.config"],
        bundle.join("criu.conf").display().to_string()
    );
}
