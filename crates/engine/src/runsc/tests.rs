//! The command lines of runsc, and what is made of its answers.

use std::{collections::BTreeMap, fs, os::fd::AsFd};

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use stasis_criu::options::CgroupMode;

use super::handle::Runsc;
use crate::{
    calls::{EngineStatus, ExecPids, Signal, Target},
    children::Children,
    engine::Engine,
    error::Error,
    fake::{Fake, INNER, PID},
    options::CheckpointOptions,
};

const NEW: &str = "runsc version VERSION_MISSING";
const GLOBALS: &str = "--root=DIR/root --log=DIR/bundle/log.json --log-format=json ";

fn term() -> Signal {
    Signal::new(15).expect("a signal")
}

#[tokio::test]
async fn its_own_verbs_have_these_command_lines() {
    let fake = Fake::new(NEW).await;
    let engine = &fake.engine;
    let pid = Pid::from_raw(PID);
    let overlay = "--overlay2=root:memory ";

    assert_eq!(engine.create("c", fake.create()).await.expect("works"), pid);
    let files = "--bundle DIR/bundle --pid-file DIR/init.pid";
    assert_eq!(fake.last(GLOBALS), format!("{overlay}create {files} c"));
    let pids = engine.exec("c", fake.exec()).await.expect("works");
    assert_eq!(
        pids,
        ExecPids {
            host: pid,
            inner: INNER
        }
    );
    assert_eq!(
        fake.last(GLOBALS),
        "exec --process DIR/process.json --detach --pid-file DIR/exec.pid \
         --internal-pid-file DIR/exec.pid.internal c"
    );
    assert!(!fake.path("exec.pid.internal").exists());
    fake.kill(term(), Target::Exec(pids)).await.expect("works");
    assert_eq!(fake.last(GLOBALS), "kill --pid 7 c 15");
    engine
        .checkpoint("c", &fake.checkpoint(CheckpointOptions::default()))
        .await
        .expect("works");
    let line = "checkpoint --image-path DIR/image --leave-running --compression=none c";
    assert_eq!(fake.last(GLOBALS), line);
    let restored = engine
        .restore("c", fake.restore(CheckpointOptions::default()))
        .await;
    assert_eq!(restored.expect("works"), pid);
    let line = format!("{overlay}restore --detach {files} --image-path DIR/image c");
    assert_eq!(fake.last(GLOBALS), line);
}

#[tokio::test]
async fn its_configuration_comes_last_and_in_order() {
    let config = [
        ("platform", "systrap"),
        ("network", "none"),
        ("overlay2", "none"),
    ];
    let fake = Fake::with(NEW, |settings| {
        settings.systemd_cgroup = true;
        settings.runsc_config = config.map(|(key, value)| (key.into(), value.into())).into();
    })
    .await;
    fake.engine.create("c", fake.create()).await.expect("works");
    let globals = format!(
        "{GLOBALS}--systemd-cgroup=true --network=none --overlay2=none --platform=systrap "
    );
    // The filestore is where the configuration has it.
    assert!(fake.last(&globals).starts_with("create "));
}

#[tokio::test]
async fn the_filestore_is_on_disk_where_the_task_has_a_directory_there() {
    let fake = Fake::new(NEW).await;
    // Of the build, since /tmp may be a tmpfs.
    let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
    std::os::unix::fs::symlink(disk.path(), fake.path("bundle/work")).expect("linked");
    fake.engine.create("c", fake.create()).await.expect("works");
    let overlay = format!("--overlay2=root:dir={} create ", disk.path().display());
    assert!(
        fake.last(GLOBALS).starts_with(&overlay),
        "{}",
        fake.last(GLOBALS)
    );
}

#[tokio::test]
async fn a_created_or_paused_container_is_killed_through_its_sandbox() {
    for state in ["created", "paused"] {
        let fake = Fake::new(NEW).await;
        let mut sandbox = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("starts");
        let pid = Pid::from_raw(i32::try_from(sandbox.id()).expect("a pid"));
        fake.on(
            "kill",
            "echo 'cannot signal container \"c\" in this state' >&2; exit 128",
        );
        fake.on(
            "state",
            &format!(r#"echo '{{"status": "{state}", "pid": {pid}}}'"#),
        );
        let target = Target::Init(pid);
        let error = fake.kill_fails(term(), target).await;
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains(&format!("signal 15 to a {state} container")),
            "{error}"
        );
        fake.kill(Signal::KILL, Target::All(pid))
            .await
            .expect("is killed");
        assert!(!sandbox.wait().expect("is reaped").success());
        // The state still says what it said, but the sandbox has gone.
        let error = fake.kill_fails(Signal::KILL, target).await;
        assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
        let state = fake.engine.state("c").await.expect("is answered");
        assert_eq!((state.status, state.pid), (EngineStatus::Stopped, None));
    }
}

/// runsc takes the zombie for a sandbox that runs, and finds nobody at its socket.
#[tokio::test]
async fn a_sandbox_that_nobody_has_reaped_yet_has_ended() {
    let fake = Fake::new(NEW).await;
    let mut child = std::process::Command::new("true").spawn().expect("starts");
    let pid = child.id();
    let raw = rustix::process::Pid::from_child(&child);
    waitid(
        WaitId::Pid(raw),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )
    .expect("ends");
    fake.on(
        "kill",
        "echo 'connecting to control server: connection refused' >&2; exit 128",
    );
    fake.on(
        "state",
        &format!(r#"echo '{{"status": "running", "pid": {pid}}}'"#),
    );
    let target = Target::Init(Pid::from_raw(raw.as_raw_nonzero().get()));
    let error = fake.kill_fails(term(), target).await;
    assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
    child.wait().expect("is reaped");
}

#[tokio::test]
async fn a_created_container_has_no_processes_yet() {
    let fake = Fake::new(NEW).await;
    fake.on(
        "ps",
        "echo 'cannot get processes of container \"c\" in state created' >&2; exit 128",
    );
    let this = std::process::id();
    fake.on(
        "state",
        &format!(r#"echo '{{"status": "created", "pid": {this}}}'"#),
    );
    assert!(
        fake.engine
            .processes("c")
            .await
            .expect("is answered")
            .is_empty()
    );
    fake.on(
        "state",
        &format!(r#"echo '{{"status": "running", "pid": {this}}}'"#),
    );
    let error = fake.engine.processes("c").await.expect_err("is refused");
    assert!(error.to_string().contains("runsc ps failed"), "{error}");
}

#[tokio::test]
async fn an_exec_that_is_not_listed_any_more_has_ended() {
    let fake = Fake::new(NEW).await;
    fake.on("kill", "echo 'no such process with PID 7' >&2; exit 128");
    fake.on("state", r#"echo '{"status": "running", "pid": 1}'"#);
    fake.on("ps", "echo '[1]'");
    let target = Target::Exec(ExecPids {
        host: Pid::from_raw(PID),
        inner: INNER,
    });
    let error = fake.kill_fails(term(), target).await;
    assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
    fake.on("ps", "echo '[1, 7]'");
    let error = fake.kill_fails(term(), target).await;
    assert_eq!(
        error.to_string(),
        "runsc kill failed: no such process with PID 7"
    );
}

#[tokio::test]
async fn what_has_no_state_file_does_not_exist() {
    let fake = Fake::new(NEW).await;
    for verb in ["state", "delete", "kill"] {
        fake.on(
            verb,
            "echo 'loading container: file does not exist' >&2; exit 128",
        );
    }
    // Another container's, whose id begins alike.
    fs::write(fake.path("root/c2_sandbox:c2.state"), "").expect("written");
    let error = fake.engine.state("c").await.expect_err("is unknown");
    assert!(matches!(error, Error::NoSuchContainer { .. }), "{error:?}");
    let target = Target::Init(Pid::from_raw(PID));
    let error = fake.kill_fails(term(), target).await;
    assert!(matches!(error, Error::NoSuchProcess { .. }), "{error:?}");
    fake.engine
        .delete("c", false)
        .await
        .expect("counts as deleted");
    fs::write(fake.path("root/c_sandbox:c.state"), "").expect("written");
    let error = fake.engine.delete("c", false).await.expect_err("is known");
    assert!(error.to_string().contains("loading container"), "{error}");
    let restore = fake.restore(CheckpointOptions::default());
    let error = fake
        .engine
        .restore("c", restore)
        .await
        .expect_err("is taken");
    assert!(error.to_string().contains("delete it first"), "{error}");
}

#[tokio::test]
async fn an_id_that_runsc_could_take_for_anothers_is_refused_and_never_reaches_the_other() {
    let fake = Fake::new(NEW).await;
    fs::write(fake.path("root/c2_sandbox:c2.state"), "").expect("written");
    for id in ["c", "c22"] {
        let error = fake
            .engine
            .restore(id, fake.restore(CheckpointOptions::default()))
            .await
            .expect_err("begins alike");
        let beside = format!("container {id} beside c2");
        assert!(error.to_string().contains(&beside), "{error}");
    }
    // A call on what is gone would be one on the other.
    for verb in ["delete", "kill"] {
        fake.on(verb, "exit 0");
    }
    let calls = fake.calls().len();
    fake.engine.delete("c", true).await.expect("is gone");
    let target = Target::Init(Pid::from_raw(PID));
    let error = fake.kill(term(), target).await;
    assert!(
        matches!(error, Err(Error::NoSuchProcess { .. })),
        "{error:?}"
    );
    assert_eq!(fake.calls().len(), calls);
}

#[tokio::test]
async fn a_call_that_met_the_deletion_of_another_container_is_tried_again() {
    let fake = Fake::new(NEW).await;
    let message = "loading container: open /r/c2_sandbox:c2.state: no such file or directory";
    let met = format!("[ -e again ] || {{ : > again; echo '{message}' >&2; exit 128; }}");
    fake.on("start", &met);
    fake.engine.start("c").await.expect("the second try works");
    assert_eq!(fake.calls().len(), 2);
}

#[tokio::test]
async fn a_failed_restore_is_deleted() {
    let fake = Fake::new(NEW).await;
    let restore = fake.restore(CheckpointOptions::default());
    // Its stderr is the container's; the reason is in the log.
    fake.on(
        "restore",
        r#"echo '{"msg": "EOF", "level": "error"}' >> bundle/log.json; exit 128"#,
    );
    let error = fake.engine.restore("c", restore).await.expect_err("fails");
    assert_eq!(error.to_string(), "runsc restore failed: EOF");
    assert_eq!(fake.last(GLOBALS), "delete --force c");
}

#[tokio::test]
async fn options_of_criu_are_refused_by_name() {
    let fake = Fake::new(NEW).await;
    let kept = CheckpointOptions {
        shell_job: true,
        file_locks: true,
        ..CheckpointOptions::default()
    };
    fake.engine
        .check_options(&kept)
        .expect("its kernel saves both");
    for (name, options) in [
        (
            "tcp_established",
            CheckpointOptions {
                tcp_established: true,
                ..kept.clone()
            },
        ),
        (
            "ext_unix_sk",
            CheckpointOptions {
                ext_unix_sk: true,
                ..kept.clone()
            },
        ),
        (
            "cgroup_mode",
            CheckpointOptions {
                cgroup_mode: CgroupMode::Soft,
                ..kept.clone()
            },
        ),
        (
            "empty_namespaces",
            CheckpointOptions {
                empty_namespaces: vec!["network".into()],
                ..kept
            },
        ),
    ] {
        let error = fake.engine.check_options(&options).expect_err("is refused");
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn ending_a_sandbox_that_has_gone_succeeds() {
    let fake = Fake::new(NEW).await;
    let mut child = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let raw = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).expect("it lives");
    fake.engine
        .end_frozen("c", pid, pidfd.as_fd())
        .await
        .expect("is ended");
    assert!(!child.wait().expect("is reaped").success());
    fake.engine
        .end_frozen("c", pid, pidfd.as_fd())
        .await
        .expect("has ended");
    assert!(fake.calls().is_empty());
}

#[tokio::test]
async fn a_release_without_features_has_none() {
    let fake = Fake::new("runsc version 0.0~20240729.0").await;
    let usage = "Use \"runsc flags\" for a list of top-level flags";
    fake.on("features", &format!("echo '{usage}' >&2; exit 128"));
    assert_eq!(fake.engine.features().await.expect("is answered"), None);
    fake.on("features", "exit 1");
    assert!(
        fake.engine
            .features()
            .await
            .is_err_and(|error| matches!(error, Error::Failed { .. }))
    );
}

#[tokio::test]
async fn the_constructor_of_gvisors_shim_has_its_defaults() {
    let fake = Fake::new(NEW).await;
    let binary = fake.engine.binary().display().to_string();
    let spec =
        serde_json::json!({"annotations": {"io.kubernetes.cri.sandbox-log-directory": "/logs"}});
    let (root, bundle) = (fake.path("root"), fake.path("bundle"));
    let new = |binary: String| {
        let (root, bundle, spec) = (root.clone(), bundle.clone(), spec.clone());
        async move {
            let config = BTreeMap::new();
            Runsc::new(
                &root,
                &bundle,
                "ns",
                &binary,
                config,
                &spec,
                Children::default(),
            )
            .await
        }
    };
    let engine = new(binary).await.expect("connects");
    engine.start("c").await.expect("works");
    let globals = "--root=DIR/root/ns --log=DIR/bundle/log.json --log-format=json ";
    assert_eq!(
        fake.last(globals),
        "--panic-log=/logs/gvisor_panic.log start c"
    );
    let runc = Fake::new("runc version 1.3.6").await;
    let error = new(runc.engine.binary().display().to_string())
        .await
        .expect_err("is no runsc");
    assert!(error.to_string().contains("runc 1.3.6"), "{error}");
}
