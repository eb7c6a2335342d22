//! What goes wrong, or is told to: a process that was to be dumped runs on.

use std::{
    ffi::CStr,
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    mem::MaybeUninit,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use rustix::{
    fs::{CWD, FileType, Mode, inotify},
    process::{Pid, Signal, kill_process},
};

use crate::{
    command::{Done, Scratch, done, names, one_line, stasis},
    processes::{Held, PATIENCE, Victim, dump, only_child, readable},
};

#[test]
#[ignore = "needs the lab"]
fn a_process_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    let images = scratch.word("images");
    for command in ["dump", "pre-dump"] {
        // No kernel counts so far.
        let line = format!("{command} -t 999999999 -D {images}");
        assert_eq!(done(&line).failure(), "process 999999999 is gone");
        let (kind, _) = done(&format!("{line} --json")).failure_object();
        assert_eq!(kind, "gone");
        assert!(!fs::exists(&images).unwrap());
    }
}

#[test]
#[ignore = "needs the lab"]
fn an_images_directory_that_is_not_there_or_is_empty_is_named() {
    let scratch = Scratch::new();
    let images = scratch.word("images");
    let error = done(&format!("restore -d -D {images}")).failure();
    assert!(
        error.contains(&format!("{images} cannot be opened")),
        "{error}"
    );
    assert!(!fs::exists(&images).unwrap());

    fs::create_dir(&images).unwrap();
    let error = done(&format!("restore -d -D {images}")).failure();
    assert!(error.contains("an image is missing or empty"), "{error}");
    assert!(error.ends_with("; no process was restored"), "{error}");
    // Unless detached, such failures are told from those of the process.
    let restore = done(&format!("restore -D {images}"));
    assert_eq!(restore.status, 125, "{restore:?}");
}

#[test]
#[ignore = "needs the lab"]
fn a_full_disk_is_named_and_nothing_is_left_but_the_log() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 64);
    let small = scratch.path("small");
    fs::create_dir(&small).unwrap();
    let mount = |arguments: &[&str]| Command::new("mount").args(arguments).arg(&small).status();
    let mounted = mount(&["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).unwrap();
    assert!(mounted.success());

    let images = small.join("images");
    let line = format!("dump -t {} -D {} --json", victim.pid(), images.display());
    let (kind, error) = done(&line).failure_object();
    assert_eq!(kind, "failed");
    assert!(error.contains("the disk is full: free space"), "{error}");
    let log = format!("its log is {}/dump.log", images.display());
    assert!(error.contains(&log), "{error}");
    runs_on(&error, &victim);
    assert_eq!(names(&images), ["dump.log"]);
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
#[ignore = "needs the lab"]
fn a_signal_during_a_dump_cancels_it() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 512);
    let images = scratch.word("images");
    for (signal, name, status) in [
        (Signal::INT, "SIGINT", 130),
        (Signal::TERM, "SIGTERM", 143),
        (Signal::HUP, "SIGHUP", 129),
        (Signal::QUIT, "SIGQUIT", 131),
    ] {
        let mut dump = Writing::start(&victim, &images);
        dump.answers(signal, &format!("stasis: {name}: cancelling\n"));
        let (dump, last) = dump.goes_on();
        assert_eq!((dump.status, dump.stdout.as_str()), (status, ""), "{last}");
        assert!(
            last.starts_with("the dump was cancelled; process "),
            "{last}"
        );
        runs_on(&last, &victim);
        // Not even the directory is removed, which was there before.
        fs::remove_dir(&images).unwrap();
    }
    dump(&victim.held, &images);
    victim.was_dumped();
}

#[test]
#[ignore = "needs the lab"]
fn a_second_signal_does_not_hurry_a_cancellation() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 512);
    let images = scratch.word("images");
    let mut dump = Writing::start(&victim, &images);
    for answer in ["cancelling\n", "still cancelling, "] {
        dump.answers(Signal::INT, &format!("stasis: SIGINT: {answer}"));
    }
    let (dump, last) = dump.goes_on();
    assert_eq!(dump.status, 130, "{last}");
    assert!(
        last.starts_with("the dump was cancelled; process "),
        "{last}"
    );
    runs_on(&last, &victim);
}

#[test]
#[ignore = "needs the lab"]
fn a_deadline_that_passes_cancels_a_dump() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 512);
    let images = scratch.word("images");
    let line = format!(
        "dump -t {} -D {images} --deadline 0.05 --json",
        victim.pid()
    );
    let (kind, error) = done(&line).failure_object();
    assert_eq!(kind, "deadline");
    assert!(
        error.starts_with("the dump was not over within 50ms and was given up; "),
        "{error}"
    );
    runs_on(&error, &victim);
    assert!(!fs::exists(images).unwrap());
}

#[test]
#[ignore = "needs the lab"]
fn a_criu_that_hangs_from_its_start_on_is_given_up() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 1);
    let (criu, images) = (scratch.word("criu"), scratch.word("images"));
    let fifo = scratch.path("started");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let script = format!("#!/bin/sh\necho > {}\nexec sleep 600\n", fifo.display());
    fs::write(&criu, script).unwrap();
    fs::set_permissions(&criu, fs::Permissions::from_mode(0o700)).unwrap();
    let dump = format!("dump -t {} -D {images} --criu {criu}", victim.pid());
    let (kind, error) = done(&format!("{dump} --deadline 0.05 --json")).failure_object();
    assert_eq!(kind, "deadline");
    runs_on(&error, &victim);

    let mut dump = stasis(dump.split_whitespace());
    let dump = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let dump = dump.unwrap();
    fs::read(&fifo).unwrap();
    kill_process(Pid::from_child(&dump), Signal::INT).unwrap();
    let dump = Done::from(dump.wait_with_output().unwrap());
    assert_eq!(dump.status, 130, "{dump:?}");
    let (_, last) = dump.stderr.trim_end().split_once('\n').unwrap();
    runs_on(last, &victim);
}

#[test]
#[ignore = "needs the lab"]
fn a_deadline_beyond_the_end_of_time_is_none() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 1);
    let images = scratch.word("images");
    let dump = format!("dump -t {} -D {images} --deadline 1e19", victim.pid());
    done(&dump).success();
    victim.was_dumped();
}

#[test]
#[ignore = "needs the lab"]
fn nobody_has_to_read_what_is_said() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 1);
    let (pid, images) = (victim.pid().to_string(), scratch.word("images"));
    let dump = ["dump", "-t", &pid, "-D", &images, "--json"];
    for words in [&["criu", "features"][..], &["--help"], &dump] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = stasis(words).stdout(writer).output().unwrap();
        let done = Done::from(output);
        assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{words:?}");
    }
    victim.was_dumped();
}

#[test]
#[ignore = "needs the lab"]
fn what_cannot_be_said_does_not_hide_what_was_done() {
    let scratch = Scratch::new();
    let victim = Victim::start(&scratch, 1);
    let (pid, images) = (victim.pid().to_string(), scratch.word("images"));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = stasis(["dump", "-t", &pid, "-D", &images])
        .stdout(full)
        .output();
    let error = Done::from(output.unwrap()).failure();
    assert!(
        error.starts_with("cannot write to standard output: "),
        "{error}"
    );
    assert!(
        error.contains(&format!("; dumped process {pid}, which has ended")),
        "{error}"
    );
    victim.was_dumped();
}

/// A dump that writes pages, and whose CRIU is stopped, so that it cannot be over too soon.
struct Writing {
    dump: Child,
    stderr: BufReader<ChildStderr>,
    criu: Held,
}

impl Writing {
    /// Dumps a victim into the new directory `images`.
    fn start(victim: &Victim, images: &str) -> Self {
        fs::create_dir(images).unwrap();
        let begun = Begun::watch(Path::new(images));
        let pid = victim.pid().to_string();
        let mut dump = stasis(["dump", "-t", &pid, "-D", images])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        begun.wait();
        let criu = Held::new(only_child(dump.id()));
        criu.stop();
        Self {
            stderr: BufReader::new(dump.stderr.take().unwrap()),
            dump,
            criu,
        }
    }

    /// Sends it a signal, for which it has this answer.
    fn answers(&mut self, signal: Signal, answer: &str) {
        kill_process(Pid::from_child(&self.dump), signal).unwrap();
        let mut said = String::new();
        self.stderr.read_line(&mut said).unwrap();
        assert!(said.starts_with(answer), "{said}");
    }

    /// Lets it go on to its end, and gives what it says at last.
    fn goes_on(mut self) -> (Done, String) {
        self.criu.go_on();
        let mut last = String::new();
        self.stderr.read_to_string(&mut last).unwrap();
        let done = Done::from(self.dump.wait_with_output().unwrap());
        (done, one_line(&last))
    }
}

/// An error ends with the word that the process runs on, and so it does.
fn runs_on(error: &str, victim: &Victim) {
    let fate = format!("; process {} runs on as before", victim.pid());
    assert!(error.ends_with(&fate), "{error}");
    victim.is_well();
}

/// Tells when CRIU begins to write pages.
struct Begun(rustix::fd::OwnedFd);

impl Begun {
    fn watch(images: &Path) -> Self {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&events, images, inotify::WatchFlags::CREATE).unwrap();
        Self(events)
    }

    fn wait(self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            let ready = !events.is_buffer_empty() || readable(&self.0, PATIENCE);
            assert!(ready, "no pages are written");
            let event = events.next().unwrap();
            let name = event.file_name().map(CStr::to_bytes).unwrap_or_default();
            if name.starts_with(b"pages-") {
                return;
            }
        }
    }
}
