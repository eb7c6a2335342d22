//! Exec processes.

use super::*;

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
async fn an_exec_is_not_signalled_once_it_is_reaped() {
    let mut fixture = Fixture::running().await;
    // Nobody reads it, so that the exit is not told at once.
    let stdout = fixture.fifo("out");
    let config = ExecConfig {
        stdio: StdioPaths {
            stdout,
            ..StdioPaths::default()
        },
        ..config("e", "echo unread")
    };
    let exec = fixture.init.exec(config).unwrap();
    let mut ends = fixture.init.monitor().subscribe();
    let pid = exec.start().await.unwrap();
    assert_eq!(ends.recv().await.unwrap().pid, pid);
    assert_eq!(exec.status(), Status::Running);
    let error = exec.kill(Signal::KILL).await.unwrap_err();
    assert_eq!(error.to_string(), "process already finished: e");
    assert!(!fixture.engine.calls().contains(&"kill c 9 exec".to_owned()));
    assert_eq!(fixture.exits.recv().await.unwrap().status, 0);
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
