//! Trees that are dumped and come back with all that they have.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use stasis_criu::{Criu, Error, Options, UndumpableSocket};
use stasis_plain::{DumpPlan, ProcessState, RestorePlan, RestoreStdio};

use crate::{
    exerciser::{self, Exerciser},
    victim::{self, PATIENCE},
};

/// Dumps a tree as its plan says, and brings it back.
async fn there_and_back(
    criu: &Criu,
    exerciser: &Exerciser,
    adjust: impl Fn(Options) -> Options,
) -> ProcessState {
    let tree = exerciser.tree();
    let images = exerciser.path("images");
    let _ = fs::remove_dir_all(&images);
    fs::create_dir(&images).unwrap();
    let options = adjust(victim::options(&images));
    let plan = DumpPlan::detect(exerciser.pid()).unwrap();
    plan.state().save(&images).unwrap();
    criu.dump(&plan.apply(options.clone())).await.unwrap();
    exerciser.has_ended(&tree);
    let state = ProcessState::reload(&images).unwrap();
    let plan = RestorePlan::new(&state, RestoreStdio::Keep).unwrap();
    let missing: Vec<_> = plan.missing().collect();
    assert!(missing.is_empty(), "{missing:?} of {state:?}");
    let restored = criu.restore(&plan.apply(options)).await.unwrap();
    assert_eq!(restored.pid, exerciser.root());
    exerciser.goes_on(&tree);
    state
}

/// Asks the exerciser for the next higher number.
fn ask(mut stream: impl Read + Write, number: u64) {
    stream.write_all(&number.to_ne_bytes()).unwrap();
    answers(stream, number);
}

fn answers(mut stream: impl Read, number: u64) {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(u64::from_ne_bytes(bytes), number + 1);
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn pipes_sockets_a_terminal_files_locks_and_memory_come_back() {
    let words = [
        "pipes",
        "unix=/socket",
        "ghost=/ghost",
        "terminal",
        "shared=4",
        "memory=16",
        "lock=/lock",
    ];
    let exerciser = Exerciser::start(&words);
    assert!(exerciser.tree().len() > words.len());
    there_and_back(&victim::criu(), &exerciser, |o| o.file_locks(true)).await;
    // It listens as it did.
    let stream = UnixStream::connect(exerciser.path("socket")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(stream, 41);
    // And what came back can be dumped again.
    there_and_back(&victim::criu(), &exerciser, |o| o.file_locks(true)).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn connections_within_a_tree_and_to_a_peer_outside_go_on() {
    let criu = victim::criu();
    victim::forget_rules();
    let rules = victim::rules();
    let port = exerciser::free_port();
    let exerciser = Exerciser::start(&[&format!("tcp={port}")]);
    let outside = connect(port);
    ask(&outside, 1);
    if !exerciser::dumps_inet(&criu).await {
        println!("CRIU before 4.2 on this kernel: its refusal is seen to, and no connection");
        is_refused(&criu, &exerciser).await;
        ask(&outside, 2);
        return;
    }
    let state = there_and_back(&criu, &exerciser, |options| options).await;
    assert!(state.choices.unwrap().tcp_established);
    ask(&outside, 2);
    // It listens as it did.
    ask(connect(port), 3);

    // What is sent while nobody is there arrives afterwards.
    let tree = exerciser.tree();
    let images = exerciser.path("again");
    fs::create_dir(&images).unwrap();
    let options = victim::options(images).tcp_established(true);
    criu.dump(&options.clone().pid(exerciser.pid()))
        .await
        .unwrap();
    exerciser.has_ended(&tree);
    (&outside).write_all(&4_u64.to_ne_bytes()).unwrap();
    criu.restore(&options).await.unwrap();
    answers(&outside, 4);
    exerciser.goes_on(&tree);
    assert_eq!(victim::rules(), rules);
}

/// Before anything is frozen or written, by what has the socket and by what could dump it.
async fn is_refused(criu: &Criu, exerciser: &Exerciser) {
    let tree = exerciser.tree();
    let images = exerciser.path("images");
    fs::create_dir(&images).unwrap();
    let options = victim::options(&images).tcp_established(true);
    let error = criu.dump(&options.pid(exerciser.pid())).await.unwrap_err();
    let Error::Processes { source, .. } = &error else {
        panic!("{error:?}");
    };
    let UndumpableSocket {
        pid, fd, version, ..
    } = source;
    assert!(tree.contains(pid), "{source}");
    let held = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    assert!(held.to_str().unwrap().starts_with("socket:["), "{source}");
    assert_eq!(*version, criu.version().await.unwrap());
    assert!(source.to_string().contains("CRIU 4.2 can"), "{source}");
    assert_eq!(fs::read_dir(&images).unwrap().count(), 0);
    exerciser.goes_on(&tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_gibibyte_comes_back_to_the_byte() {
    let exerciser = Exerciser::start(&["memory=1024"]);
    there_and_back(&victim::criu(), &exerciser, |options| options).await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_tree_that_is_left_running_is_dumped_again_and_comes_back_from_either() {
    let criu = victim::criu();
    let exerciser = Exerciser::start(&["pipes", "ghost=/ghost", "shared=1", "memory=8"]);
    let tree = exerciser.tree();
    let images = ["first", "second"].map(|name| exerciser.path(name));
    for images in &images {
        fs::create_dir(images).unwrap();
        let options = victim::options(images).pid(exerciser.pid());
        criu.dump(&options.leave_running(true)).await.unwrap();
        exerciser.goes_on(&tree);
    }
    for images in &images {
        exerciser.end();
        criu.restore(&victim::options(images)).await.unwrap();
        exerciser.goes_on(&tree);
    }
}
