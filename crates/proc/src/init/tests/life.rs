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

/// `runc delete --force` sleeps whatever there is to kill.
#[tokio::test(flavor = "current_thread")]
async fn what_has_ended_is_deleted_by_force_only_if_the_runtime_takes_it_for_alive() {
    for (fails, deletes) in [
        ("nothing", &["delete c false"][..]),
        ("delete c false", &["delete c false", "delete c true"]),
    ] {
        let fixture = Fixture::running().await;
        fixture.die().await;
        fixture.engine.fail(fails);
        assert_eq!(fixture.init.delete().await.unwrap().status, 137);
        let mut calls = fixture.engine.calls();
        calls.retain(|call| call.starts_with("delete"));
        assert_eq!(calls, deletes);
    }
}

/// Its rootfs may not have been unmounted the first time.
#[tokio::test(flavor = "current_thread")]
async fn a_deleted_container_can_be_deleted_again_and_tells_the_same_exit() {
    let fixture = Fixture::running().await;
    fixture.die().await;
    let exit = fixture.init.delete().await.unwrap();
    let calls = fixture.engine.calls();
    assert_eq!(fixture.init.delete().await.unwrap(), exit);
    assert_eq!(fixture.engine.calls(), calls);
    assert_eq!(fixture.init.status(), Status::Deleted);
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
async fn a_container_that_cannot_be_watched_is_removed_again() {
    let fixture = Fixture::new("exit 0");
    fixture.engine.fail("pid");
    let error = fixture
        .init
        .create(CreateConfig::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot watch process {} of c", i32::MAX)
    );
    assert_eq!(fixture.engine.calls(), ["create c", "delete c true"]);

    let fixture = Fixture::pending("exec sleep 1000").await;
    fixture.engine.fail("pid");
    assert_eq!(
        fixture.init.start().await.unwrap_err().kind(),
        ErrorKind::Internal
    );
    assert_eq!(
        fixture.engine.calls(),
        ["restore c /image", "delete c true"]
    );
    assert_eq!(fixture.init.status(), Status::Stopped);
}

#[tokio::test(flavor = "current_thread")]
async fn a_restore_may_name_another_image_than_the_create_did() {
    let mut fixture = Fixture::pending("exit 0").await;
    let config = RestoreConfig {
        image: "/other".into(),
        ..fixture.restore_config()
    };
    fixture.init.restore(config.clone()).await.unwrap();
    assert_eq!(fixture.engine.calls(), ["restore c /other"]);
    assert_eq!(fixture.exits.recv().await.unwrap().status, 0);
    assert_eq!(
        text(fixture.init.restore(config).await),
        "cannot restore a stopped container"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_answers_while_it_is_being_restored() {
    let fixture = Fixture::pending("exec sleep 1000").await;
    let gate = fixture.engine.hold("restore");
    let meanwhile = async {
        fixture.engine.called("restore c /image").await;
        assert_eq!(
            (fixture.init.status(), fixture.init.pid()),
            (Status::Created, None)
        );
        assert_eq!(
            text(fixture.init.delete().await),
            "cannot delete: a restore is in progress"
        );
        assert_eq!(
            text(fixture.init.kill(Signal::new(15).unwrap()).await),
            "cannot kill: a restore is in progress"
        );
        gate.add_permits(1);
    };
    let (restored, ()) = tokio::join!(fixture.init.start(), meanwhile);
    restored.unwrap();
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_restore_that_hangs_can_be_killed() {
    let mut fixture = Fixture::pending("exec sleep 1000").await;
    let refusal = "cannot kill a not yet restored container: nothing of it runs; delete it";
    assert_eq!(text(fixture.init.kill(Signal::KILL).await), refusal);
    let _gate = fixture.engine.hold("restore");
    let meanwhile = async {
        fixture.engine.called("restore c /image").await;
        fixture.init.kill(Signal::KILL).await.unwrap();
        fixture.init.wait().await
    };
    let (restored, exit) = tokio::join!(fixture.init.start(), meanwhile);
    assert_eq!(restored.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(exit.status, NO_STATUS);
    assert_eq!(fixture.init.delete().await.unwrap(), exit);
    assert_eq!(fixture.exits.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test(flavor = "current_thread")]
async fn an_end_that_was_seen_by_other_means_counts_and_is_told_once() {
    let mut fixture = Fixture::running().await;
    let exit = Exit {
        status: 9,
        ..Exit::without_status("c")
    };
    fixture.init.set_exited(exit.clone());
    fixture.init.set_exited(Exit::without_status("c"));
    assert_eq!(fixture.init.wait().await, exit);
    assert_eq!(fixture.init.delete().await.unwrap(), exit);
    assert_eq!(fixture.exits.recv().await, Some(exit));
    assert_eq!(fixture.exits.try_recv(), Err(TryRecvError::Empty));
}
