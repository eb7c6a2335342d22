//! Dumps that are cancelled at random instants, and what is looked at after each.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use stasis_criu::{Criu, Error, Options};

use crate::victim::{self, Dice, Victim};

/// Cancels dumps of what `start` makes until `times` were cancelled. A dump that was complete
/// before it was cancelled ends the processes, as it should; others are started then.
pub async fn cancel_dumps(
    times: usize,
    start: impl Fn() -> Victim,
    adjust: impl Fn(Options) -> Options,
    seed: u64,
) {
    let criu = victim::criu();
    victim::forget_rules();
    let rules = victim::rules();
    let descriptors = victim::descriptors();
    let directory = tempfile::tempdir().unwrap();
    let images = directory.path();
    let options = |victim: &Victim| adjust(victim::options(images).pid(victim.pid()));

    let mut victim = start();
    let typical = typical(&criu, options(&victim), images).await;
    let mut within = typical;
    assert!(victim.has_ended());
    victim = start();
    let mut tree = victim.tree();
    let mut dice = Dice::new(seed);
    let (mut cancelled, mut complete, mut slowest) = (0, 0, Duration::ZERO);
    while cancelled < times {
        let delay = dice.below(within);
        let began = Instant::now();
        let options = options(&victim);
        let call = criu.dump(&options);
        // Both ways to cancel, in turns.
        let outcome = if cancelled % 2 == 0 {
            call.until(tokio::time::sleep(delay)).await.map(drop)
        } else {
            let dropped = tokio::time::timeout(delay, call.into_future()).await;
            criu.idle().await;
            match dropped {
                Ok(done) => done.map(drop),
                // Nobody heard the end.
                Err(_) if victim.has_ended() => Ok(()),
                Err(_) => Err(Error::Cancelled {
                    request: stasis_criu::Request::Dump,
                    left: Vec::new().into(),
                }),
            }
        };
        match outcome {
            Err(Error::Cancelled { left, .. }) => {
                slowest = slowest.max(began.elapsed().saturating_sub(delay));
                assert!(left.is_empty(), "after {delay:?}{left}");
                cancelled += 1;
                victim.is_well(&tree);
                assert_eq!(victim::rules(), rules);
            }
            Ok(()) => {
                complete += 1;
                // The first dump may have met a busy machine.
                within = delay;
                assert!(victim.has_ended());
                empty(images);
                // A complete dump keeps its connections silent until they are restored.
                victim::forget_rules();
                victim = start();
                tree = victim.tree();
            }
            Err(other) => panic!("after {delay:?}: {other:?}"),
        }
        assert_eq!(fs::read_dir(images).unwrap().count(), 0, "after {delay:?}");
    }
    println!(
        "{cancelled} cancelled within {typical:?}, later {within:?}, {complete} complete before, the slowest took {slowest:?}"
    );
    drop(victim);
    assert_eq!(victim::children(), [0; 0]);
    assert_eq!(victim::descriptors(), descriptors);
}

/// How long a dump takes that is not cancelled.
async fn typical(criu: &Criu, options: Options, images: &Path) -> Duration {
    let began = Instant::now();
    criu.dump(&options).await.unwrap();
    let typical = began.elapsed();
    empty(images);
    victim::forget_rules();
    typical
}

pub fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
}
