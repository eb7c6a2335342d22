//! The same again and again.

use std::{fs, time::Instant};

use crate::{
    exerciser,
    victim::{self, Victim},
};

#[tokio::test]
#[ignore = "needs the lab"]
async fn two_hundred_dumps_and_restores_leak_nothing() {
    let criu = victim::criu();
    let directory = tempfile::tempdir().unwrap();
    let mut victim = Victim::start(&["--children", "4"]);
    let tree = victim.tree();
    let root = rustix::process::Pid::from_raw(victim.pid().cast_signed()).unwrap();
    let descriptors = victim::descriptors();
    let children = victim::children();
    let began = Instant::now();
    for round in 0..200 {
        let images = directory.path().join("images");
        fs::create_dir(&images).unwrap();
        let options = victim::options(&images);
        criu.dump(&options.clone().pid(victim.pid())).await.unwrap();
        rustix::process::waitpid(Some(root), rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!(victim::children(), [0; 0], "round {round}");
        // The root's children are reaped by the lab's first process.
        exerciser::await_end(&tree);
        let restored = criu.restore(&options).await.unwrap();
        assert_eq!(restored.pid, root);
        victim.is_well(&tree);
        fs::remove_dir_all(&images).unwrap();
        assert_eq!(victim::descriptors(), descriptors, "round {round}");
        assert_eq!(victim::children(), children, "round {round}");
    }
    println!("200 dumps and restores in {:?}", began.elapsed());
}
