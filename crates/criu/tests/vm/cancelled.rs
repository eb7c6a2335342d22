//! Pre-dumps, and dumps of a connection, that are cancelled at random instants.

use std::{
    fs,
    time::{Duration, Instant},
};

use stasis_criu::{Error, Leftover, Options};

use crate::{
    cancelling::cancel_dumps,
    memory::Memory,
    sys,
    victim::{self, Dice, Victim},
};

/// How often they are cancelled.
const CANCELLATIONS: usize = 20;

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn a_tree_lives_through_twenty_cancelled_pre_dumps_and_can_be_dumped_after_them() {
    let criu = crate::criu();
    let directory = crate::directory();
    let mut victim = Victim::start(&["--memory", "32", "--children", "2", "--threads", "3"]);
    let tree = victim.tree();
    let options = |images| Options::pid(victim::options(images), tree[0]);
    let descriptors = victim::descriptors();
    let children = victim::children();

    let images = directory.path().join("images");
    // The first one, which reads all programs from the disk, tells nothing.
    let mut typical = Duration::ZERO;
    for _ in 0..2 {
        fs::create_dir(&images).unwrap();
        let began = Instant::now();
        criu.pre_dump(&options(images.clone())).await.unwrap();
        typical = began.elapsed();
        fs::remove_dir_all(&images).unwrap();
    }

    let mut dice = Dice::new(5);
    let (mut cancelled, mut untracked, mut complete) = (0, 0, 0);
    let mut slowest = Duration::ZERO;
    while cancelled < CANCELLATIONS {
        fs::create_dir(&images).unwrap();
        let delay = dice.below(typical);
        let began = Instant::now();
        let options = options(images.clone());
        let call = criu.pre_dump(&options).until(tokio::time::sleep(delay));
        match call.await {
            Err(Error::Cancelled { left, .. }) => {
                slowest = slowest.max(began.elapsed().saturating_sub(delay));
                cancelled += 1;
                // Or a chain that goes on from an earlier image would miss what this one had. Before
                // CRIU is asked for the pre-dump itself nothing is cleared.
                match left.iter().collect::<Vec<_>>().as_slice() {
                    [] => {}
                    [Leftover::Untracked] => untracked += 1,
                    _ => panic!("after {delay:?}{left}"),
                }
                assert_eq!(fs::read_dir(&images).unwrap().count(), 0, "after {delay:?}");
            }
            Ok(_) => complete += 1,
            Err(other) => panic!("after {delay:?}: {other:?}"),
        }
        victim.is_well(&tree);
        assert_eq!(victim::children(), children, "after {delay:?}");
        assert_eq!(victim::descriptors(), descriptors, "after {delay:?}");
        fs::remove_dir_all(&images).unwrap();
    }
    println!(
        "{cancelled} cancelled within {typical:?}, {untracked} of them under way, {complete} complete \
         before, the slowest took {slowest:?}"
    );
    assert!(untracked > 0);

    let memory = Memory::of(victim.pid());
    let next = directory.path().join("next");
    fs::create_dir(&images).unwrap();
    fs::create_dir(&next).unwrap();
    criu.pre_dump(&options(images)).await.unwrap();
    memory.fill(100, 200, 7);
    let contents = memory.read();
    criu.dump(
        &options(next.clone())
            .parent_img("../images")
            .track_mem(true),
    )
    .await
    .unwrap();
    assert!(victim.has_ended());
    sys::await_free(&tree, victim::PATIENCE);
    let restored = criu.restore(&victim::options(next)).await.unwrap();
    assert!(memory.read() == contents, "the memory is another");
    victim.is_well(&tree);
    crate::end(restored.pid);
}

#[tokio::test]
#[ignore = "needs the lab's virtual machine"]
async fn an_established_connection_lives_through_twenty_cancelled_dumps() {
    crate::criu();
    let start = || Victim::connected(&["--memory", "16", "--children", "2"]);
    cancel_dumps(CANCELLATIONS, start, |o| o.tcp_established(true), 6).await;
}
