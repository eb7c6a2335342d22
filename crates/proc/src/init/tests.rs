//! The life of a container over an engine whose containers are shell scripts.

use std::{fs, path::Path};

use nix::{
    sys::{
        signal::{Signal as NixSignal, kill},
        stat::Mode,
    },
    unistd::mkfifo,
};
use serde_json::json;
use stasis_engine::Checkpoint;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

use super::*;
use crate::{ErrorKind, NO_STATUS, fake::FakeEngine};

/// A container called `c`, with everything around it.
struct Fixture {
    dir: TempDir,
    engine: Arc<FakeEngine>,
    exits: UnboundedReceiver<Exit>,
    init: Arc<Init>,
}

impl Fixture {
    fn new(script: &str) -> Self {
        Self::with(script, false)
    }

    fn with(script: &str, kill_all_on_exit: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("init.sh"), script).unwrap();
        let engine = FakeEngine::new();
        let (sender, exits) = unbounded_channel();
        let init = Init::new(InitConfig {
            id: "c".to_owned(),
            bundle: dir.path().to_owned(),
            work_dir: dir.path().join("work"),
            engine: Arc::clone(&engine) as Arc<dyn Engine>,
            monitor: ProcessMonitor::new(stasis_engine::Children::default()),
            exits: sender,
            io_uid: 0,
            io_gid: 0,
            sandbox: true,
            user_log: None,
            kill_all_on_exit,
        });
        Self {
            dir,
            engine,
            exits,
            init,
        }
    }

    /// One that runs until it is killed.
    async fn running() -> Self {
        let fixture = Self::new("exec sleep 1000");
        fixture.init.create(CreateConfig::default()).await.unwrap();
        fixture.init.start().await.unwrap();
        fixture
    }

    /// One that was created from a checkpoint.
    async fn pending(script: &str) -> Self {
        let fixture = Self::new(script);
        let restore = Some(fixture.restore_config());
        fixture
            .init
            .create(CreateConfig {
                restore,
                ..CreateConfig::default()
            })
            .await
            .unwrap();
        fixture
    }

    fn restore_config(&self) -> RestoreConfig {
        RestoreConfig {
            image: "/image".into(),
            work: self.dir.path().to_owned(),
            options: CheckpointOptions::default(),
        }
    }

    fn checkpoint(&self, end_by_criu: bool) -> Checkpoint {
        Checkpoint {
            image: "/image".into(),
            work: self.dir.path().to_owned(),
            bundle: self.dir.path().to_owned(),
            options: CheckpointOptions::default(),
            end_by_criu,
        }
    }

    fn fifo(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn exec(&self, id: &str, script: &str) -> Result<Arc<Exec>> {
        self.init.exec(ExecConfig {
            id: id.to_owned(),
            stdio: StdioPaths::default(),
            process: json!({"terminal": true, "args": ["sh", "-c", script]}),
        })
    }

    /// The files of the bundle that are not the fixture's.
    fn files(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| name(entry.unwrap()))
            .collect();
        names.retain(|name| name != "init.sh" && name != "go");
        names
    }

    async fn die(&self) {
        self.init.kill(Signal::KILL).await.unwrap();
        assert_eq!(self.init.wait().await.status, 137);
    }
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("is refused").to_string()
}

/// Opens a FIFO for reading, as a client does before it asks for anything.
fn reader(path: &str) -> fs::File {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .unwrap()
}

/// Reads to the end, in a thread of its own.
async fn read_to_end(mut reader: fs::File) -> String {
    use std::io::Read as _;
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::empty()).unwrap();
    let read = move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text).unwrap()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_ends_with_the_status_of_its_init_and_tells_it_once() {
    let mut fixture = Fixture::new("exit 7");
    fixture.init.create(CreateConfig::default()).await.unwrap();
    assert_eq!(fixture.init.status(), Status::Created);
    let pid = fixture.init.start().await.unwrap();
    let exit = fixture.exits.recv().await.unwrap();
    assert_eq!((exit.status, exit.id.as_str()), (7, "c"));
    assert_eq!(fixture.init.wait().await, exit);
    assert_eq!(fixture.init.exited_at(), Some(exit.timestamp));
    assert_eq!(
        (fixture.init.status(), fixture.init.pid()),
        (Status::Stopped, Some(pid))
    );
    assert_eq!(fixture.init.delete().await.unwrap(), exit);
    assert_eq!(fixture.init.status(), Status::Deleted);
    assert_eq!(fixture.exits.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(fixture.files(), [""; 0]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_is_killed_before_its_start_is_noticed() {
    let mut fixture = Fixture::new("exit 0");
    fixture.init.create(CreateConfig::default()).await.unwrap();
    kill(fixture.init.pid().unwrap(), NixSignal::SIGTERM).unwrap();
    assert_eq!(fixture.exits.recv().await.unwrap().status, 143);
    assert_eq!(
        text(fixture.init.start().await),
        "cannot start a stopped container"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_failed_create_leaves_nothing_and_can_be_tried_again() {
    let mut fixture = Fixture::new("exit 0");
    let stdio = StdioPaths {
        stdout: fixture.fifo("out"),
        ..StdioPaths::default()
    };
    fixture.engine.fail("create");
    let create = || {
        fixture.init.create(CreateConfig {
            stdio: stdio.clone(),
            restore: None,
        })
    };
    let reader = reader(&stdio.stdout);
    assert_eq!(create().await.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(read_to_end(reader).await, "");
    assert_eq!(fixture.engine.calls(), ["create c", "delete c true"]);
    assert_eq!(fixture.files(), ["out"]);
    assert_eq!(fixture.exits.try_recv(), Err(TryRecvError::Empty));
    fixture.engine.mend("create");
    create().await.unwrap();
    fixture.init.start().await.unwrap();
    assert_eq!(fixture.exits.recv().await.unwrap().status, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn streams_that_cannot_be_served_are_refused_before_anything_is_made() {
    let fixture = Fixture::new("exit 0");
    let refuse = |stdio| {
        fixture.init.create(CreateConfig {
            stdio,
            restore: None,
        })
    };
    let stdio = StdioPaths {
        stdout: "binary:///bin/log".to_owned(),
        ..StdioPaths::default()
    };
    let error = refuse(stdio).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert!(
        error
            .to_string()
            .starts_with("stdout by binary:// is not supported"),
        "{error}"
    );
    let error = refuse(StdioPaths {
        terminal: true,
        ..StdioPaths::default()
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert_eq!(fixture.engine.calls(), [""; 0]);
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_runs_of_a_container_from_a_checkpoint_until_its_start_restores_it() {
    let mut fixture = Fixture::pending("exit 3").await;
    assert_eq!(
        (fixture.init.status(), fixture.init.pid()),
        (Status::Created, None)
    );
    assert_eq!(fixture.init.processes().await.unwrap(), [0; 0]);
    assert_eq!(fixture.engine.calls(), [""; 0]);
    let pid = fixture.init.start().await.unwrap();
    assert_eq!(fixture.init.pid(), Some(pid));
    assert_eq!(fixture.engine.calls(), ["restore c /image"]);
    assert_eq!(fixture.exits.recv().await.unwrap().status, 3);
}

#[tokio::test(flavor = "current_thread")]
async fn a_failed_restore_can_be_deleted_and_waited_for_at_once() {
    let mut fixture = Fixture::pending("exit 0").await;
    fixture.engine.fail("restore");
    let (waited, started) = tokio::join!(fixture.init.wait(), fixture.init.start());
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(
        (waited.status, fixture.init.status()),
        (NO_STATUS, Status::Stopped)
    );
    assert_eq!(fixture.init.delete().await.unwrap(), waited);
    assert_eq!(fixture.exits.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_was_never_restored_can_be_deleted() {
    let fixture = Fixture::pending("exit 0").await;
    let (waited, deleted) = tokio::join!(fixture.init.wait(), fixture.init.delete());
    assert_eq!(deleted.unwrap(), waited);
    assert_eq!(waited.status, NO_STATUS);
    assert_eq!(fixture.engine.calls(), [""; 0]);
}

#[tokio::test(flavor = "current_thread")]
async fn deleting_a_created_container_kills_it_and_a_running_one_is_refused() {
    let fixture = Fixture::new("exit 0");
    fixture.init.create(CreateConfig::default()).await.unwrap();
    assert_eq!(fixture.init.delete().await.unwrap().status, 137);
    let fixture = Fixture::running().await;
    let refusal = "cannot delete a running container: kill it first";
    assert_eq!(text(fixture.init.delete().await), refusal);
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_delete_that_the_runtime_refuses_can_be_tried_again() {
    let fixture = Fixture::running().await;
    fixture.die().await;
    fixture.engine.fail("delete");
    assert_eq!(
        fixture.init.delete().await.unwrap_err().kind(),
        ErrorKind::Unknown
    );
    assert_eq!(fixture.init.status(), Status::Stopped);
    fixture.engine.mend("delete");
    assert_eq!(fixture.init.delete().await.unwrap().status, 137);
}

#[tokio::test(flavor = "current_thread")]
async fn what_has_ended_cannot_be_killed() {
    let fixture = Fixture::running().await;
    fixture.die().await;
    for refused in [
        fixture.init.kill(Signal::KILL).await,
        fixture.init.kill_all(Signal::KILL).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "process already finished: c");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_survives_init_is_killed_before_the_exit_is_told() {
    let mut fixture = Fixture::with("exit 0", true);
    fixture.init.create(CreateConfig::default()).await.unwrap();
    fixture.init.start().await.unwrap();
    fixture.exits.recv().await.unwrap();
    assert_eq!(fixture.engine.calls().last().unwrap(), "kill c 9 all");
}

#[tokio::test(flavor = "current_thread")]
async fn output_is_whole_when_a_delete_returns() {
    let fixture = Fixture::new("head -c 1000000 /dev/zero | tr '\\0' x; echo ; echo end >&2");
    let (stdout, stderr) = (fixture.fifo("out"), fixture.fifo("err"));
    let paths = StdioPaths {
        stdout: stdout.clone(),
        stderr: stderr.clone(),
        ..StdioPaths::default()
    };
    let (out, err) = (reader(&stdout), reader(&stderr));
    fixture
        .init
        .create(CreateConfig {
            stdio: paths.clone(),
            restore: None,
        })
        .await
        .unwrap();
    let life = async {
        fixture.init.start().await.unwrap();
        fixture.init.wait().await;
        fixture.init.delete().await.unwrap()
    };
    let (_, out, err) = tokio::join!(life, read_to_end(out), read_to_end(err));
    assert_eq!((out.len(), err.as_str()), (1_000_001, "end\n"));
    assert_eq!(fixture.init.stdio(), paths);
}

#[tokio::test(flavor = "current_thread")]
async fn input_ends_when_it_is_closed_and_not_when_a_writer_goes() {
    let mut fixture = Fixture::new("test \"$(cat)\" = ab");
    let stdin = fixture.fifo("in");
    let stdio = StdioPaths {
        stdin: stdin.clone(),
        ..StdioPaths::default()
    };
    fixture
        .init
        .create(CreateConfig {
            stdio,
            restore: None,
        })
        .await
        .unwrap();
    fixture.init.start().await.unwrap();
    fs::write(Path::new(&stdin), "a").unwrap();
    fs::write(Path::new(&stdin), "b").unwrap();
    assert_eq!(fixture.init.status(), Status::Running);
    fixture.init.close_stdin().await;
    assert_eq!(fixture.exits.recv().await.unwrap().status, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn one_verb_at_a_time_and_both_are_named() {
    let fixture = Fixture::running().await;
    let gate = fixture.engine.hold("pause");
    let init = &fixture.init;
    let meanwhile = async {
        fixture.engine.called("pause c").await;
        assert_eq!(init.status(), Status::Pausing);
        assert_eq!(
            text(init.pause().await),
            "cannot pause: a pause is in progress"
        );
        assert_eq!(
            text(init.begin_checkpoint()),
            "cannot checkpoint: a pause is in progress"
        );
        assert_eq!(
            text(fixture.exec("e", "")),
            "cannot exec in: a pause is in progress"
        );
        assert_eq!(init.processes().await.unwrap().len(), 1);
        gate.add_permits(1);
    };
    let (paused, ()) = tokio::join!(init.pause(), meanwhile);
    paused.unwrap();
    assert_eq!(init.status(), Status::Paused);
    init.resume().await.unwrap();
    assert_eq!(init.status(), Status::Running);
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_exit_stops_the_container_whatever_is_in_progress() {
    let fixture = Fixture::running().await;
    let gate = fixture.engine.hold("pause");
    let meanwhile = async {
        fixture.engine.called("pause c").await;
        fixture.die().await;
        assert_eq!(fixture.init.status(), Status::Stopped);
        gate.add_permits(1);
    };
    let (paused, ()) = tokio::join!(fixture.init.pause(), meanwhile);
    paused.unwrap();
    assert_eq!(fixture.init.status(), Status::Stopped);
}

#[tokio::test(flavor = "current_thread")]
async fn a_verb_that_is_given_up_makes_way_for_the_next() {
    let fixture = Fixture::running().await;
    let gate = fixture.engine.hold("pause");
    tokio::select! {
        _ = fixture.init.pause() => unreachable!("it is held up"),
        () = fixture.engine.called("pause c") => {}
    }
    gate.add_permits(1);
    fixture.init.pause().await.unwrap();
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_checkpoint_leaves_a_container_as_it_came() {
    let fixture = Fixture::running().await;
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    assert!(!checkpointing.was_paused());
    checkpointing.freeze().await.unwrap();
    checkpointing
        .capture(&fixture.checkpoint(false))
        .await
        .unwrap();
    assert_eq!(fixture.init.status(), Status::Paused);
    assert_eq!(
        text(fixture.init.resume().await),
        "cannot resume: a checkpoint is in progress"
    );
    checkpointing.release().await.unwrap();
    assert_eq!(fixture.init.status(), Status::Running);

    fixture.init.pause().await.unwrap();
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    assert!(checkpointing.was_paused());
    checkpointing.freeze().await.unwrap();
    checkpointing.release().await.unwrap();
    assert_eq!(fixture.init.status(), Status::Paused);
    let verbs = [
        "create c",
        "start c",
        "pause c",
        "checkpoint c /image",
        "resume c",
        "pause c",
    ];
    assert_eq!(fixture.engine.calls(), verbs);
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_its_checkpoint_ended_can_be_resumed_in_vain_and_deleted() {
    let mut fixture = Fixture::running().await;
    fixture.init.pause().await.unwrap();
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    checkpointing
        .capture(&fixture.checkpoint(false))
        .await
        .unwrap();
    let exit = checkpointing.end().await.unwrap();
    assert_eq!((exit.status, fixture.init.status()), (137, Status::Stopped));
    assert_eq!(fixture.exits.recv().await.unwrap(), exit);
    fixture.init.resume().await.unwrap();
    assert_eq!(fixture.init.status(), Status::Stopped);
    assert_eq!(fixture.engine.calls().last().unwrap(), "end_frozen c");
    fixture.init.delete().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_criu_ended_can_be_resumed_in_vain() {
    let fixture = Fixture::running().await;
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    checkpointing
        .capture(&fixture.checkpoint(true))
        .await
        .unwrap();
    assert_eq!(checkpointing.ended_by_criu().await.unwrap().status, 137);
    fixture.init.resume().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_cannot_be_ended_goes_on() {
    let fixture = Fixture::running().await;
    fixture.engine.fail("end_frozen");
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    checkpointing.freeze().await.unwrap();
    assert_eq!(
        checkpointing.end().await.unwrap_err().kind(),
        ErrorKind::Unknown
    );
    assert_eq!(fixture.init.status(), Status::Running);
    fixture.die().await;
    assert_eq!(
        text(fixture.init.resume().await),
        "cannot resume a stopped container"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_ends_during_its_checkpoint_is_let_be() {
    let fixture = Fixture::running().await;
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    checkpointing.freeze().await.unwrap();
    fixture.die().await;
    assert_eq!(checkpointing.end().await.unwrap().status, 137);
    assert!(!fixture.engine.calls().contains(&"end_frozen c".to_owned()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_abandoned_checkpoint_opens_the_container_to_other_verbs() {
    let fixture = Fixture::running().await;
    drop(fixture.init.begin_checkpoint().unwrap());
    fixture.init.pause().await.unwrap();
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_exec_ends_with_a_status_of_its_own_and_leaves_no_file() {
    let mut fixture = Fixture::running().await;
    let exec = fixture.exec("../../e\n", "exit 5").unwrap();
    assert_eq!((exec.status(), exec.pid()), (Status::Created, None));
    let pid = exec.start().await.unwrap();
    let exit = fixture.exits.recv().await.unwrap();
    assert_eq!((exit.id.as_str(), exit.status), ("../../e\n", 5));
    assert_eq!((exec.pid(), exec.inner_pid()), (Some(pid), Some(7)));
    assert_eq!(
        (exec.status(), exec.exit_status()),
        (Status::Stopped, Some(5))
    );
    assert_eq!(exec.delete().await.unwrap(), exit);
    assert_eq!(
        exec.kill(Signal::KILL).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(fixture.files(), ["init.pid"]);
    // The request knew no terminal, whatever the document said.
    let document = r#"exec c {"terminal":false,"args":["sh","-c","exit 5"]}"#;
    assert_eq!(fixture.engine.calls().last().unwrap(), document);
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_exec_is_signalled_by_itself_and_freezes_with_its_container() {
    let mut fixture = Fixture::running().await;
    let exec = fixture.exec("e", "exec sleep 1000").unwrap();
    let refusal = "cannot kill a not yet started exec process: start it first";
    assert_eq!(text(exec.kill(Signal::KILL).await), refusal);
    exec.start().await.unwrap();
    assert_eq!(
        text(exec.start().await),
        "cannot start a running exec process"
    );
    assert_eq!(
        text(exec.delete().await),
        "cannot delete a running exec process: kill it first"
    );
    fixture.init.pause().await.unwrap();
    assert_eq!(exec.status(), Status::Paused);
    fixture.init.resume().await.unwrap();
    exec.kill(Signal::KILL).await.unwrap();
    assert_eq!(fixture.engine.calls().last().unwrap(), "kill c 9 exec");
    assert_eq!(fixture.exits.recv().await.unwrap().status, 137);
    assert_eq!(fixture.init.status(), Status::Running);
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_failed_exec_can_be_deleted_and_waited_for_at_once() {
    let fixture = Fixture::running().await;
    fixture.engine.fail("exec");
    let exec = fixture.exec("e", "exit 0").unwrap();
    let (waited, started) = tokio::join!(exec.wait(), exec.start());
    assert_eq!(started.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(waited.status, NO_STATUS);
    assert_eq!(exec.delete().await.unwrap(), waited);
    assert_eq!(fixture.files(), ["init.pid"]);
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_exec_that_is_being_started_holds_up_a_checkpoint_but_no_other_exec() {
    let fixture = Fixture::running().await;
    let gate = fixture.engine.hold("exec");
    let (one, two) = (
        fixture.exec("1", "").unwrap(),
        fixture.exec("2", "").unwrap(),
    );
    let meanwhile = async {
        fixture
            .engine
            .called(r#"exec c {"terminal":false,"args":["sh","-c",""]}"#)
            .await;
        let refusal = "cannot checkpoint: an exec is in progress";
        assert_eq!(text(fixture.init.begin_checkpoint()), refusal);
        gate.add_permits(2);
    };
    let (one, two, ()) = tokio::join!(one.start(), two.start(), meanwhile);
    assert_ne!(one.unwrap(), two.unwrap());
    drop(fixture.init.begin_checkpoint().unwrap());
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_exec_wants_a_running_container_and_a_process_document() {
    let fixture = Fixture::running().await;
    let stdio = StdioPaths::default();
    let config = ExecConfig {
        id: "e".to_owned(),
        stdio,
        process: json!("sh"),
    };
    assert_eq!(
        fixture.init.exec(config).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let late = fixture.exec("late", "exit 0").unwrap();
    fixture.die().await;
    assert_eq!(
        text(fixture.exec("e", "")),
        "cannot exec in a stopped container"
    );
    assert_eq!(
        text(late.start().await),
        "cannot exec in a stopped container"
    );
    assert_eq!(late.delete().await.unwrap().status, NO_STATUS);
}
