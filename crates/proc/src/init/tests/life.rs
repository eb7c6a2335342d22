//! A container from its create to its delete, and what may go wrong between.

use super::*;

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
