//! A container's part in a checkpoint, and other verbs that meet each other or an exit.

use super::*;

#[tokio::test(flavor = "current_thread")]
async fn a_checkpoint_leaves_a_container_as_it_came() {
    let fixture = Fixture::running().await;
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    assert!(!checkpointing.was_paused());
    checkpointing.freeze().await.unwrap();
    checkpointing
        .dump(&fixture.checkpoint(Afterwards::StaysFrozen))
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
        .dump(&fixture.checkpoint(Afterwards::StaysFrozen))
        .await
        .unwrap();
    let exit = checkpointing.end().await.unwrap().unwrap();
    assert_eq!((exit.status, fixture.init.status()), (137, Status::Stopped));
    assert_eq!(fixture.exits.recv().await.unwrap(), exit);
    fixture.init.resume().await.unwrap();
    assert_eq!(fixture.init.status(), Status::Stopped);
    assert_eq!(fixture.engine.calls().last().unwrap(), "end_frozen c");
    fixture.init.delete().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_the_runtime_leaves_otherwise_is_what_it_is_said_to_be() {
    let fixture = Fixture::running().await;
    fixture.engine.fail("put back");
    let request = fixture.checkpoint(Afterwards::GoesOn);
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    checkpointing.dump(&request).await.unwrap_err();
    assert_eq!(fixture.init.status(), Status::Paused);
    // The way back is tried once more.
    checkpointing.release().await.unwrap();
    assert_eq!(fixture.init.status(), Status::Running);

    fixture.init.pause().await.unwrap();
    let request = fixture.checkpoint(Afterwards::StaysFrozen);
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    checkpointing.dump(&request).await.unwrap_err();
    checkpointing.release().await.unwrap();
    assert_eq!(fixture.init.status(), Status::Running);
    fixture.die().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_container_that_criu_ended_can_be_resumed_in_vain() {
    let fixture = Fixture::running().await;
    let checkpointing = fixture.init.begin_checkpoint().unwrap();
    checkpointing
        .dump(&fixture.checkpoint(Afterwards::EndsByCriu { frozen: false }))
        .await
        .unwrap();
    assert_eq!(checkpointing.ended_by_criu().await.unwrap().status, 137);
    fixture.init.resume().await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_slow_end_is_no_failure_of_the_checkpoint_that_killed() {
    for by_criu in [false, true] {
        let mut fixture = Fixture::running().await;
        fixture.engine.fail("death");
        let checkpointing = fixture.init.begin_checkpoint().unwrap();
        // Nothing happens meanwhile, so that the limit is reached at once.
        tokio::time::pause();
        let exit = if by_criu {
            let request = fixture.checkpoint(Afterwards::EndsByCriu { frozen: false });
            checkpointing.dump(&request).await.unwrap();
            checkpointing.ended_by_criu().await
        } else {
            checkpointing.end().await.unwrap()
        };
        tokio::time::resume();
        assert_eq!(exit, None);
        // containerd resumes it now, and deletes it when it has ended.
        assert!(!fixture.init.resume().await.unwrap());
        assert!(!fixture.engine.calls().contains(&"resume c".to_owned()));
        assert_eq!(
            text(fixture.init.delete().await),
            "cannot delete a killed container: wait for its end"
        );
        assert_eq!(fixture.init.status(), Status::Running);
        fixture.die().await;
        assert_eq!(fixture.exits.recv().await.unwrap().status, 137);
        assert!(!fixture.init.resume().await.unwrap());
        fixture.init.delete().await.unwrap();
    }
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
    assert_eq!(checkpointing.end().await.unwrap().unwrap().status, 137);
    assert!(!fixture.engine.calls().contains(&"end_frozen c".to_owned()));
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
async fn an_abandoned_checkpoint_opens_the_container_to_other_verbs() {
    let fixture = Fixture::running().await;
    drop(fixture.init.begin_checkpoint().unwrap());
    fixture.init.pause().await.unwrap();
    fixture.die().await;
}
