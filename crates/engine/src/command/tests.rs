//! Calls of fake runtimes: shell scripts that record what they were given.

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::errno::Errno;

use super::runtime::{Runtime, TRIES};
use crate::{
    children::Children,
    error::{Error, Result},
    identity::{Identity, Kind, RuntimeVersion},
    settings::Timeouts,
};

/// Makes an executable shell script.
pub(crate) fn script(directory: &Path, name: &str, body: &str) -> PathBuf {
    let path = directory.join(name);
    // Written by a child: were it open for writing here while another test's thread forks, that
    // fork would hold it open as well, and running it would fail with ETXTBSY.
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut stdin = writer.stdin.take().expect("is piped");
    stdin
        .write_all(format!("#!/bin/sh\n{body}\n").as_bytes())
        .expect("is written");
    drop(stdin);
    assert!(writer.wait().expect("is waited for").success());
    path
}

fn runtime(directory: &Path, body: &str) -> Runtime {
    let log = directory.join("log.json");
    Runtime {
        identity: Identity {
            binary: script(
                directory,
                "runtime",
                &format!("cd {}\n{body}", directory.display()),
            ),
            kind: Kind::Runc,
            version: RuntimeVersion::new("1.3.6"),
            stamp: None,
        },
        globals: vec!["--log".into(), log.clone().into()],
        log,
        passing: |message| message == "busy",
        timeouts: Timeouts::default(),
        children: Children::default(),
    }
}

fn fails(result: Result<Vec<u8>>) -> String {
    result.expect_err("the runtime fails").to_string()
}

#[tokio::test]
async fn globals_come_before_the_verb_and_arguments_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = runtime(directory.path(), "printf '%s\\n' \"$@\"");
    let call = runtime
        .call("verb", None)
        .flag("--yes", true)
        .flag("--no", false);
    let printed = call
        .option("--name", "value")
        .arg("id")
        .run()
        .await
        .expect("works");
    let log = runtime.log.display();
    assert_eq!(
        String::from_utf8_lossy(&printed),
        format!("--log\n{log}\nverb\n--yes\n--name\nvalue\nid\n")
    );
}

#[tokio::test]
async fn the_log_of_this_call_explains_a_failure_better_than_stderr() {
    let directory = tempfile::tempdir().expect("a directory");
    let body =
        "echo usage >&2; echo '{\"level\":\"error\",\"msg\":\"the cause\"}' >> log.json; exit 1";
    let call = runtime(directory.path(), body);
    assert_eq!(
        fails(call.call("verb", None).run().await),
        "runc verb failed: the cause"
    );
}

#[tokio::test]
async fn without_a_log_entry_the_last_line_of_stderr_explains() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(
        directory.path().join("log.json"),
        "{\"level\":\"error\",\"msg\":\"old\"}",
    )
    .expect("written");
    let call = runtime(directory.path(), "printf 'first\\nlast\\n\\n' >&2; exit 3");
    assert_eq!(
        fails(call.call("verb", None).run().await),
        "runc verb failed: last"
    );
    let silent = runtime(directory.path(), "exit 3");
    assert!(fails(silent.call("verb", None).run().await).contains("exit status: 3"));
}

#[tokio::test]
async fn a_failure_of_the_system_is_not_put_down_to_the_binary() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut runtime = runtime(directory.path(), "");
    // More than the kernel takes for one argument.
    let call = runtime.call("verb", None).arg("x".repeat(1 << 20));
    let error = call.run().await.expect_err("cannot be run");
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let binary = runtime.identity.binary.display().to_string();
    assert_eq!(error.to_string(), format!("cannot run {binary}"));
    for (errno, is_its_own) in [
        (Errno::ENOENT, true),
        (Errno::EACCES, true),
        (Errno::ENOEXEC, true),
        (Errno::EMFILE, false),
        (Errno::EAGAIN, false),
        (Errno::ENOMEM, false),
    ] {
        let error = Error::run("runc")(errno.into());
        assert_eq!(matches!(error, Error::Binary { .. }), is_its_own, "{errno}");
    }
    runtime.identity.binary = directory.path().join("gone");
    let error = runtime.call("verb", None).run().await;
    assert!(matches!(error, Err(Error::Binary { .. })), "{error:?}");
}

#[tokio::test]
async fn a_deadline_ends_the_whole_group() {
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("held");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let runtime = runtime(directory.path(), "sleep 1000 3> held & sleep 1000");
    let deadline = Duration::from_secs(500);
    let (runs, started) = tokio::sync::oneshot::channel();
    // Opening waits for the grandchild; the end of the file, for its death.
    let grandchild = tokio::task::spawn_blocking(move || {
        let mut held = fs::File::open(fifo)?;
        runs.send(()).expect("somebody waits");
        held.read_to_end(&mut Vec::new())
    });
    // However long it takes to start, it passes only then.
    let passes = async {
        started.await.expect("it starts");
        tokio::time::pause();
        tokio::time::advance(deadline).await;
        tokio::time::resume();
    };
    let began = Instant::now();
    let call = runtime.call("verb", Some(deadline));
    let (error, ()) = tokio::join!(call.run(), passes);
    let error = error.expect_err("hangs");
    assert!(
        matches!(error, Error::Deadline { verb: "verb", .. }),
        "{error:?}"
    );
    assert_eq!(grandchild.await.expect("joins").expect("reads"), 0);
    assert!(began.elapsed() < Duration::from_secs(100));
}

#[tokio::test]
async fn a_dropped_call_leaves_no_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("held");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let runtime = runtime(directory.path(), "exec 3> held; echo >&3; sleep 1000");
    let (runs, started) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let mut held = fs::File::open(fifo)?;
        held.read_exact(&mut [0])?;
        runs.send(()).expect("somebody waits");
        held.read_to_end(&mut Vec::new())
    });
    tokio::select! {
        result = runtime.call("verb", None).run() => panic!("it hangs, but: {result:?}"),
        started = started => started.expect("it starts"),
    }
    // The end of the file comes when the process has gone.
    assert_eq!(reader.await.expect("joins").expect("reads"), 0);
}

#[tokio::test]
async fn a_survivor_that_holds_the_pipes_is_not_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = runtime(directory.path(), "sleep 1000 & echo $!");
    let printed = runtime.call("verb", None).run().await.expect("works");
    let pid = String::from_utf8_lossy(&printed)
        .trim()
        .parse()
        .expect("a pid");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("it still runs");
}

#[tokio::test]
async fn output_beyond_the_cap_is_drained() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = runtime(
        directory.path(),
        "head -c 1000000 /dev/zero >&2; echo done; exit 1",
    );
    let error = fails(runtime.call("verb", None).run().await);
    assert!(error.len() < 10_000, "{}", error.len());
    let runtime = self::runtime(directory.path(), "head -c 5000000 /dev/zero");
    assert_eq!(
        runtime.call("verb", None).run().await.expect("works").len(),
        4 << 20
    );
}

#[tokio::test]
async fn streams_that_are_handed_over_are_the_childs_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = runtime(directory.path(), "cat; echo said >&2");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("in"), "heard").expect("written");
    let open = |name: &str| fs::File::create(path(name)).map(Into::into).ok();
    let stdio = crate::Stdio {
        stdin: fs::File::open(path("in")).map(Into::into).ok(),
        stdout: open("out"),
        stderr: open("err"),
    };
    let printed = runtime
        .call("verb", None)
        .stdio(stdio)
        .run()
        .await
        .expect("works");
    assert!(printed.is_empty());
    assert_eq!(fs::read_to_string(path("out")).expect("read"), "heard");
    assert_eq!(fs::read_to_string(path("err")).expect("read"), "said\n");
}

#[tokio::test]
async fn a_binary_that_has_gone_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = runtime(directory.path(), "true");
    fs::remove_file(&runtime.identity.binary).expect("removed");
    let error = runtime
        .call("verb", None)
        .run()
        .await
        .expect_err("cannot run");
    assert!(matches!(error, Error::Binary { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains(&runtime.identity.binary.display().to_string()),
        "{error}"
    );
}

/// A runtime that is busy at each of its first calls, and what it was called.
fn busy(directory: &Path, calls: usize) -> (Runtime, impl Fn() -> usize) {
    let body =
        format!("echo >> calls; [ $(wc -l < calls) -gt {calls} ] || {{ echo busy >&2; exit 1; }}");
    let log = directory.join("calls");
    let count = move || {
        fs::read_to_string(&log)
            .expect("was called")
            .lines()
            .count()
    };
    (runtime(directory, &body), count)
}

#[tokio::test]
async fn a_call_whose_failure_passes_is_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (runtime, calls) = busy(directory.path(), 1);
    runtime
        .call("start", None)
        .arg("c1")
        .run()
        .await
        .expect("the second try works");
    assert_eq!(calls(), 2);
}

#[tokio::test]
async fn a_failure_that_does_not_pass_is_told_in_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let (runtime, calls) = busy(directory.path(), TRIES);
    assert_eq!(
        fails(runtime.call("start", None).run().await),
        "runc start failed: busy"
    );
    assert_eq!(calls(), TRIES);
}

#[tokio::test]
async fn a_call_that_handed_its_streams_over_is_not_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let (runtime, calls) = busy(directory.path(), 1);
    let call = runtime.call("create", None).stdio(crate::Stdio::default());
    call.run().await.expect_err("the first try fails");
    assert_eq!(calls(), 1);
}
