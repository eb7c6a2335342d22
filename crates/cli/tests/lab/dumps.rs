//! Dumps of all kinds, and what can be restored from them.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::{
    command::{Scratch, done, names, stasis},
    processes::{Counter, Held, Lines, Victim, dump, is_well},
};

#[test]
#[ignore = "needs the lab"]
fn a_process_that_is_left_running_can_be_restored_as_it_was() {
    let scratch = Scratch::new();
    let mut counter = Counter::new(&scratch);
    let process = counter.run("");
    assert_eq!(counter.ask(), 1);
    let (pid, images) = (process.pid, scratch.word("images"));
    let object = done(&format!("dump -t {pid} -D {images} --leave-running --json")).object();
    assert_eq!(object["pid"], pid);
    assert_eq!(object["process"], "running");
    assert_eq!(object["images_dir"], images);
    let written = object["stats"]["pages"]["written"].as_u64().unwrap();
    assert!(written > 0, "{object}");
    assert_eq!(counter.ask(), 2);

    // There cannot be two of one number.
    let (kind, error) = done(&format!("restore -D {images} -d --json")).failure_object();
    assert_eq!(kind, "failed");
    assert!(error.contains("is there already"), "{error}");
    assert!(error.ends_with("; no process was restored"), "{error}");
    assert_eq!(counter.ask(), 3);

    process.kill();
    let object = done(&format!("restore -D {images} -d --json")).object();
    assert_eq!(object["pid"], pid);
    let _restored = Held::new(pid);
    assert_eq!(counter.ask(), 2);
}

#[test]
#[ignore = "needs the lab"]
fn what_was_chosen_for_a_dump_need_not_be_said_again_for_its_restore() {
    let scratch = Scratch::new();
    let mut counter = Counter::new(&scratch);
    let (images, lock) = (scratch.word("images"), scratch.word("lock"));
    let is_locked = || {
        let mut flock = Command::new("flock");
        let flock = flock.args(["--nonblock", &lock, "true"]).status().unwrap();
        !flock.success()
    };
    let process = counter.run_with_lock(&lock);
    assert_eq!(counter.ask(), 1);
    assert!(is_locked());
    let pid = process.pid;
    done(&format!("dump -t {pid} -D {images} --file-locks")).success();
    assert!(!is_locked());

    done(&format!("restore -D {images} -d")).success();
    let _restored = Held::new(pid);
    assert_eq!(counter.ask(), 2);
    assert!(is_locked());
}

/// A pre-dump and a dump on it where the kernel tracks memory; elsewhere the reason why not.
#[test]
#[ignore = "needs the lab"]
fn a_chain_is_made_where_the_kernel_tracks_memory_and_refused_elsewhere() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 16);
    let pid = victim.pid();
    let (first, second) = (scratch.word("first"), scratch.word("second"));
    let pre_dump = done(&format!("pre-dump -t {pid} -D {first} --json"));
    if done("criu features --json").object()["mem_track"] == true {
        let object = pre_dump.object();
        assert_eq!(object["pid"], pid);
        let line = format!("dump -t {pid} -D {second} --parent ../first --json");
        let stats = &done(&line).object()["stats"];
        let skipped = stats["pages"]["skipped_parent"].as_u64().unwrap();
        assert!(skipped > 4000, "{stats}");
        victim.was_dumped();
        done(&format!("restore -D {second} -d")).success();
        let restored = Held::new(pid);
        is_well(restored.pid);
        return;
    }
    let (kind, error) = pre_dump.failure_object();
    assert_eq!(kind, "unavailable");
    assert!(
        error.contains("does not track which memory changes (soft-dirty); make a plain dump"),
        "{error}"
    );
    assert!(!fs::exists(&first).unwrap());

    done(&format!("dump -t {pid} -D {first} -R")).success();
    let line = format!("dump -t {pid} -D {second} --parent ../first");
    let error = done(&line).failure();
    assert!(
        error.contains("the kernel does not track changed memory"),
        "{error}"
    );
    // Not quite as before: a dump that fails may leave a gap in what is tracked, which it says.
    let fate = format!("; process {pid} runs on");
    assert!(error.contains(&fate), "{error}");
    assert_eq!(names(&scratch.path("second")), ["dump.log"]);
    victim.is_well();
}

#[test]
#[ignore = "needs the lab"]
fn a_parent_that_is_not_there_is_refused() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 1);
    let images = scratch.word("images");
    let line = format!("dump -t {} -D {images} --parent ../none", victim.pid());
    let error = done(&line).failure();
    assert!(error.contains("none cannot be opened"), "{error}");
    assert!(!fs::exists(images).unwrap());
    victim.is_well();
}

#[test]
#[ignore = "needs the lab"]
fn pages_go_to_a_page_server_and_are_restored_from_there() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 64);
    let (pid, images, pages) = (victim.pid(), scratch.word("images"), scratch.word("pages"));
    let words = [
        "page-server",
        "--json",
        "--address",
        "127.0.0.1",
        "-D",
        &pages,
    ];
    let mut server = stasis(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = Lines::new(server.stdout.take().unwrap());
    let object: serde_json::Value = serde_json::from_str(&said.next()).unwrap();
    let port = object["port"].as_u64().unwrap();

    let line = format!("dump -t {pid} -D {images} --page-server --address 127.0.0.1 --port {port}");
    done(&line).success();
    victim.was_dumped();
    assert_eq!(said.rest(), "");
    assert_eq!(server.wait().unwrap().code(), Some(0));
    let here = names(&scratch.path("images"));
    assert!(!here.iter().any(|name| name.starts_with("pages-")));

    for name in here {
        fs::rename(
            scratch.path("images").join(&name),
            scratch.path("pages").join(&name),
        )
        .unwrap();
    }
    done(&format!("restore -D {pages} -d")).success();
    let restored = Held::new(pid);
    is_well(restored.pid);
}

#[test]
#[ignore = "needs the lab"]
fn a_page_server_that_nobody_comes_to_gives_up() {
    let scratch = Scratch::new();
    let pages = scratch.word("pages");
    let server = done(&format!(
        "page-server --address 127.0.0.1 -D {pages} --deadline 0.2"
    ));
    assert_eq!(server.status, 1, "{server:?}");
    assert!(
        server.stdout.starts_with("it listens at 127.0.0.1:"),
        "{server:?}"
    );
    let error = "stasis: not all pages of a dump came within 200ms\n";
    assert_eq!(server.stderr, error);
    assert!(!fs::exists(pages).unwrap());
}

#[test]
#[ignore = "needs the lab"]
fn a_page_server_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 1);
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let images = scratch.word("images");
    let line = format!(
        "dump -t {} -D {images} --page-server --address 127.0.0.1 --port {port} --json",
        victim.pid()
    );
    let (kind, error) = done(&line).failure_object();
    assert_eq!(kind, "pages");
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(!fs::exists(images).unwrap());
    victim.is_well();
}

#[test]
#[ignore = "needs the lab"]
fn one_process_is_dumped_and_restored_again_and_again() {
    let scratch = Scratch::new();
    let mut counter = Counter::new(&scratch);
    let mut process = counter.run("");
    for round in 1..=5 {
        assert_eq!(counter.ask(), round);
        let images = scratch.word(&round.to_string());
        dump(&process, &images);
        done(&format!("restore -D {images} -d")).success();
        process = Held::new(process.pid);
    }
}
