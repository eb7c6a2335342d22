//! A container is frozen for its dump and left as it came.

use super::*;

#[tokio::test]
async fn a_running_container_is_frozen_for_its_dump_and_thawed_whatever_comes_of_it() {
    let fake = Fake::new(RUNC).await;
    fake.on("state", &state("running"));
    let mut request = fake.checkpoint(CheckpointOptions::default());
    let verbs = || -> Vec<_> {
        let calls = fake.calls();
        let verb = |call: &String| call.split(' ').nth(6).map(str::to_owned);
        calls.iter().rev().take(4).rev().filter_map(verb).collect()
    };
    for script in ["", "exit 1"] {
        fake.on("checkpoint", script);
        let result = fake.engine.checkpoint("c", &request).await;
        assert_eq!(result.is_ok(), script.is_empty(), "{result:?}");
        assert_eq!(verbs(), ["state", "pause", "checkpoint", "resume"]);
    }
    request.afterwards = Afterwards::EndsByCriu { frozen: false };
    fake.on("checkpoint", "");
    fake.engine.checkpoint("c", &request).await.expect("works");
    assert_eq!(verbs()[1..], ["state", "pause", "checkpoint"]);
}

/// The runtime, with a container that is frozen while there is a file of that name.
async fn freezable(version: &str) -> Fake {
    let fake = Fake::new(version).await;
    fake.on(
        "state",
        &state("$([ -e frozen ] && echo paused || echo running)"),
    );
    fake.on("pause", "touch frozen");
    fake.on("resume", "rm frozen");
    fake
}

#[tokio::test]
async fn a_checkpoint_that_leaves_its_container_frozen_has_failed() {
    for version in [RUNC, CRUN] {
        let fake = freezable(version).await;
        let request = fake.checkpoint(CheckpointOptions::default());
        let checkpoint = || fake.engine.checkpoint("c", &request);
        fake.on("resume", "echo 'it is stuck' >&2; exit 1");
        let error = checkpoint().await.expect_err("is left frozen");
        let Error::Left { frozen, source, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(*frozen);
        assert!(error.to_string().contains("resume it"), "{error}");
        assert!(source.to_string().contains("it is stuck"), "{source}");

        fs::remove_file(fake.path("frozen")).expect("removed");
        fake.on(
            "checkpoint",
            "echo '(0.1) Error (criu/x.c:1): no dump' > work/dump.log; exit 1",
        );
        let error = checkpoint().await.expect_err("is not dumped, either");
        let Error::Left { frozen, source, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(*frozen);
        assert!(source.to_string().contains("no dump"), "{source}");
    }
}

#[tokio::test]
async fn a_thaw_that_finds_nothing_to_thaw_is_no_failure() {
    let stopped = r#"echo '{"status": "stopped", "pid": 0}'"#;
    let running = state("running");
    for (afterwards, root) in [(stopped, "c"), (running.as_str(), "c"), ("exit 1", "gone")] {
        let fake = freezable(RUNC).await;
        fake.on("resume", "exit 1");
        // What it says of its state once it was dumped.
        fs::write(fake.path("afterwards"), afterwards).expect("written");
        fs::create_dir(fake.path("root").join(root)).expect("made");
        fake.on("checkpoint", "cp afterwards on-state");
        let request = fake.checkpoint(CheckpointOptions::default());
        fake.engine
            .checkpoint("c", &request)
            .await
            .unwrap_or_else(|error| panic!("{afterwards}: {error}"));
        assert!(fake.last(GLOBALS).starts_with("state "));
    }
}

#[tokio::test]
async fn one_that_came_frozen_and_cannot_be_frozen_again_is_said_to_run() {
    let fake = freezable(RUNC).await;
    let settings = fake.settings.clone();
    let identity = identify(&settings.binary, &settings.children).await;
    let runc = Runc::connected(identity.expect("runs"), settings);
    let failed = || Err::<(), _>(answer::known_already(Kind::Runc, "restore"));
    let back = runc.pause("c", Pid::this()).await;
    let error = freeze::put_back(&runc, "c", true, back, failed()).await;
    assert!(matches!(error, Err(Error::Failed { .. })), "{error:?}");
    assert!(fake.path("frozen").exists(), "it is again as it came");

    fs::remove_file(fake.path("frozen")).expect("removed");
    fake.on("pause", "exit 1");
    let back = runc.pause("c", Pid::this()).await;
    let error = freeze::put_back(&runc, "c", true, back, failed()).await;
    let frozen = match &error {
        Err(Error::Left { frozen, .. }) => frozen,
        other => panic!("{other:?}"),
    };
    assert!(!frozen);
}

#[tokio::test]
async fn what_the_caller_froze_stays_frozen_though_crun_calls_it_running() {
    for (afterwards, script) in [
        (Afterwards::StaysFrozen, ""),
        (Afterwards::StaysFrozen, "exit 1"),
        (Afterwards::EndsByCriu { frozen: true }, "exit 1"),
    ] {
        let fake = Fake::new(CRUN).await;
        fake.on("state", &state("running"));
        fake.on("checkpoint", script);
        let mut request = fake.checkpoint(CheckpointOptions::default());
        request.afterwards = afterwards;
        let result = fake.engine.checkpoint("c", &request).await;
        assert_eq!(result.is_ok(), script.is_empty(), "{result:?}");
        assert!(fake.last(GLOBALS).starts_with("checkpoint "));
        assert_eq!(fake.calls().len(), 2, "{:?}", fake.calls());
    }
}
