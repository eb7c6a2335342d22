//! The whole table of states and verbs.

use std::process::{Command, Stdio};

use nix::unistd::Pid;
use stasis_engine::{CheckpointOptions, Children};

use super::*;
use crate::{error::ErrorKind, monitor::ProcessMonitor};

const VERBS: [Verb; 9] = [
    Verb::Create,
    Verb::Start,
    Verb::Restore,
    Verb::Exec,
    Verb::Pause,
    Verb::Resume,
    Verb::Checkpoint,
    Verb::Kill,
    Verb::Delete,
];

/// One row for each state, one column for each of [`VERBS`]: `+` where it is permitted.
const TABLE: [(&str, &str); 9] = [
    //             c s r e p r c k d
    ("not yet created", "+ . . . . . . . ."),
    ("created", ". + . . . . . + +"),
    ("not yet restored", ". + + . . . . . +"),
    ("running", ". . . + + . + + ."),
    ("paused", ". . . . . + + + ."),
    ("killed", ". . . . . + . + ."),
    ("stopped", ". . . . . . . . +"),
    ("stopped", ". . . . . + . . +"),
    ("deleted", ". . . . . . . . +"),
];

fn restore_config() -> RestoreConfig {
    let (image, work) = ("/image".into(), "/work".into());
    RestoreConfig {
        image,
        work,
        options: CheckpointOptions::default(),
    }
}

/// A process to be in a state with. Its input is ours, and it ends with us.
#[expect(clippy::zombie_processes, reason = "who adopts it reaps it")]
fn process() -> Watched {
    let child = Command::new("cat")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    ProcessMonitor::new(Children::default())
        .expect_birth()
        .adopt(pid)
        .unwrap()
}

/// Every state, in the order of [`TABLE`].
fn states() -> [InitState; 9] {
    let process = process();
    [
        InitState::New,
        InitState::Created(process.clone()),
        InitState::CreatedFromCheckpoint(restore_config()),
        InitState::Running(process.clone()),
        InitState::Paused(process.clone()),
        InitState::Killed(process),
        InitState::Stopped {
            checkpointed: false,
        },
        InitState::Stopped { checkpointed: true },
        InitState::Deleted,
    ]
}

fn life(state: InitState) -> Arc<Lifecycle> {
    let life = Lifecycle::new();
    life.inner().state = state;
    life
}

fn exit() -> Exit {
    Exit::without_status("c")
}

#[tokio::test(flavor = "current_thread")]
async fn every_verb_is_permitted_in_its_states_only_and_else_names_verb_and_state() {
    for (state, (name, row)) in states().into_iter().zip(TABLE) {
        assert_eq!(state.name(), name);
        let life = life(state);
        for (verb, cell) in VERBS.into_iter().zip(row.split(' ')) {
            let permit = life.permit(verb);
            assert_eq!(
                permit.is_ok(),
                cell == "+",
                "{verb:?} of a {name} container"
            );
            if let Err(error) = permit {
                assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
                let said = format!("cannot {} a {name} container", verb.name());
                assert!(error.to_string().starts_with(&said), "{error}");
            }
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_verb_in_progress_excludes_every_other_and_both_are_named() {
    for state in states() {
        let life = life(state);
        for held in VERBS {
            let Ok(permit) = life.permit(held) else {
                continue;
            };
            for verb in VERBS {
                let together = held == Verb::Exec && matches!(verb, Verb::Exec | Verb::Delete);
                match life.check(verb) {
                    Ok(()) => assert!(together, "{verb:?} during {held:?}"),
                    Err(Error::Busy { .. }) => assert!(!together, "{verb:?} during {held:?}"),
                    Err(error) => assert!(matches!(error, Error::WrongState { .. })),
                }
            }
            drop(permit);
            drop(life.permit(held).unwrap());
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_exit_wins_over_every_commit_but_a_deletion() {
    let process = process();
    for state in states() {
        let name = state.name();
        let life = life(state);
        let Some(permit) = VERBS.iter().find_map(|&verb| life.permit(verb).ok()) else {
            continue;
        };
        let stopped = life.stop(exit());
        assert_eq!(
            stopped,
            !matches!(name, "not yet created" | "stopped" | "deleted"),
            "{name}"
        );
        if !stopped {
            continue;
        }
        permit.commit(InitState::Running(process.clone()));
        assert_eq!(life.look(|state, _| state.name()), "stopped", "was {name}");
        permit.commit(InitState::Deleted);
        assert_eq!(life.look(|state, _| state.name()), "deleted", "was {name}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn whoever_can_be_killed_can_be_whatever_is_in_progress() {
    for (state, (name, row)) in states().into_iter().zip(TABLE) {
        let life = life(state);
        let _permit = life.permit(Verb::Checkpoint);
        match life.target("c") {
            Ok(_) => assert!(row.ends_with("+ .") || row.ends_with("+ +"), "{name}"),
            Err(error) if matches!(name, "stopped" | "deleted") => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::FailedPrecondition),
        }
    }
}

#[test]
fn only_the_first_exit_counts() {
    let life = life(InitState::CreatedFromCheckpoint(restore_config()));
    let first = Exit {
        status: 1,
        ..exit()
    };
    assert!(life.stop(first.clone()));
    assert!(!life.stop(exit()));
    assert_eq!(life.exit(), Some(first));
}
