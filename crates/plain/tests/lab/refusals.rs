//! Bad input and bad luck: each is an error that tells the cause, processes run on, and nothing is
//! left but the log.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount},
    process::{WaitOptions, waitpid},
};
use stasis_criu::{CrErrno, Criu, Diagnosis, Error, KnownCause, Request};
use stasis_plain::{DumpPlan, Managed, ProcessError, ProcessState, RestorePlan, RestoreStdio};
use tempfile::TempDir;

use crate::{
    conversation::{Bound, Conversation},
    exerciser::{self, Exerciser},
    victim::{self, Victim},
};

/// Why CRIU failed, as it says.
fn diagnosis(error: &Error) -> &Diagnosis {
    match error {
        Error::Failed { diagnosis, .. } | Error::NoReply { diagnosis, .. } => diagnosis,
        other => panic!("{other:?}"),
    }
}

/// What a directory has in it.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A directory for images.
fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A small file system.
struct Small(TempDir);

impl Small {
    fn of_one_mebibyte() -> Self {
        let directory = directory();
        let size = c"size=1m";
        let flags = MountFlags::empty();
        mount(c"none", directory.path(), c"tmpfs", flags, size).unwrap();
        Self(directory)
    }

    fn make_read_only(&self) {
        mount_remount(self.0.path(), MountFlags::RDONLY, c"").unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::empty()).unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_process_that_is_not_there_is_not_dumped() {
    let criu = victim::criu();
    let descriptors = victim::descriptors();
    let images = directory();
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let options = victim::options(images.path()).pid(child.id());
    let error = criu.dump(&options).await.unwrap_err();
    let diagnosis = diagnosis(&error);
    assert_eq!(diagnosis.errno, Some(CrErrno::NoSuchProcess));
    assert_eq!(diagnosis.known, Some(KnownCause::NoSuchProcess), "{error}");
    assert_eq!(names(images.path()), ["dump.log"]);
    drop(images);
    assert_eq!(victim::children(), [0; 0]);
    assert_eq!(victim::descriptors(), descriptors);

    let error = DumpPlan::detect(child.id()).unwrap_err();
    assert!(matches!(error, ProcessError::Gone { pid } if pid == child.id()));
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_process_whose_number_is_taken_is_not_restored_and_who_has_it_goes_on() {
    let criu = victim::criu();
    let exerciser = Exerciser::start(&["pipes", "memory=4"]);
    let tree = exerciser.tree();
    let images = directory();
    let options = victim::options(images.path());
    let dump = options.clone().pid(exerciser.pid()).leave_running(true);
    criu.dump(&dump).await.unwrap();
    let error = criu.restore(&options).await.unwrap_err();
    let diagnosis = diagnosis(&error);
    assert_eq!(diagnosis.errno, Some(CrErrno::Exists));
    assert_eq!(diagnosis.known, Some(KnownCause::PidTaken), "{error}");
    exerciser.goes_on(&tree);
    exerciser.end();
    criu.restore(&options).await.unwrap();
    exerciser.goes_on(&tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_directory_that_is_missing_read_only_or_full_gets_no_images() {
    let criu = victim::criu();
    let exerciser = Exerciser::start(&["pipes", "memory=16"]);
    let tree = exerciser.tree();
    let options = |images: &Path| victim::options(images).pid(exerciser.pid());

    let missing = exerciser.path("none");
    let error = criu.dump(&options(&missing)).await.unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
    assert!(matches!(error, Error::Options(_)), "{error:?}");
    exerciser.goes_on(&tree);

    let small = Small::of_one_mebibyte();
    let error = criu.dump(&options(small.0.path())).await.unwrap_err();
    let full = diagnosis(&error);
    assert_eq!(full.known, Some(KnownCause::NoSpace), "{error}");
    assert_eq!(names(small.0.path()), ["dump.log"]);
    exerciser.goes_on(&tree);

    fs::remove_file(small.0.path().join("dump.log")).unwrap();
    small.make_read_only();
    let error = criu.dump(&options(small.0.path())).await.unwrap_err();
    let read_only = diagnosis(&error);
    assert_eq!(read_only.errno, Some(CrErrno::BadRequest));
    assert_eq!(read_only.known, Some(KnownCause::LogNotWritable), "{error}");
    exerciser.goes_on(&tree);
    drop(small);

    // And none of it stands in the way of the next dump.
    let images = directory();
    criu.dump(&options(images.path())).await.unwrap();
    exerciser.has_ended(&tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn what_criu_cannot_take_is_told_as_such() {
    let criu = victim::criu();
    let exerciser = Exerciser::start(&["pipes"]);
    let tree = exerciser.tree();
    let images = directory();
    let options = victim::options(images.path()).pid(exerciser.pid());

    // A configuration file that it does not understand.
    let file = exerciser.path("criu.conf");
    fs::write(&file, "no-such-option\n").unwrap();
    let error = criu.dump(&options.clone().config_file(file)).await;
    let error = error.unwrap_err();
    let bad = diagnosis(&error);
    assert_eq!(bad.errno, Some(CrErrno::BadRequest));
    assert_eq!(bad.known, Some(KnownCause::BadArgument), "{error}");

    // A parent that is not there would make it a full dump, in silence.
    let parent = options.clone().parent_img("../none").track_mem(true);
    let error = criu.dump(&parent).await.unwrap_err();
    assert!(matches!(error, Error::Options(_)), "{error:?}");
    assert!(error.to_string().contains("../none"), "{error}");

    // No such program.
    let error = Criu::with_binary("/no/such/criu").dump(&options).await;
    let error = error.unwrap_err();
    let request = Request::Dump;
    assert!(matches!(error, Error::Start { request: r, .. } if r == request));

    assert_eq!(names(images.path()), [""; 0]);
    exerciser.goes_on(&tree);
    let criu = Criu::new();
    criu.dump(&options.leave_running(true)).await.unwrap();
    exerciser.goes_on(&tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn io_uring_is_refused_by_the_name_of_the_process_and_fails_without_harm() {
    let criu = victim::criu();
    let exerciser = Exerciser::start(&["pipes", "ring"]);
    let tree = exerciser.tree();
    let error = DumpPlan::detect(exerciser.pid()).unwrap_err();
    let ProcessError::IoUring { pid, fd: Some(fd) } = error else {
        panic!("{error:?}");
    };
    let held = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    assert_eq!(held, Path::new("anon_inode:[io_uring]"));
    assert!(tree.contains(&pid));

    let images = directory();
    let options = victim::options(images.path()).pid(exerciser.pid());
    let error = criu.dump(&options).await.unwrap_err();
    let known = diagnosis(&error).known;
    assert_eq!(known, Some(KnownCause::IoUring), "{error}");
    assert_eq!(names(images.path()), ["dump.log"]);
    exerciser.goes_on(&tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_pre_dump_without_tracked_memory_is_refused_before_criu_is_asked() {
    let criu = victim::criu();
    let exerciser = Exerciser::start(&["pipes", "memory=4"]);
    let tree = exerciser.tree();
    let images = directory();
    let options = victim::options(images.path()).pid(exerciser.pid());
    let pre_dumped = criu.pre_dump(&options).await;
    if criu.features().await.unwrap().mem_track {
        pre_dumped.unwrap();
    } else {
        let error = pre_dumped.unwrap_err();
        let Error::Unavailable { request, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*request, Request::SinglePreDump);
        assert_eq!(names(images.path()), [""; 0]);
    }
    exerciser.goes_on(&tree);
    for pid in tree {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        assert!(!maps.contains("CRIUMFD"), "{maps}");
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn half_of_a_unix_stream_is_not_dumped_unless_it_is_named_nor_restored_unless_it_is_given() {
    let criu = victim::criu();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (process, mut talk) = repeating(ours, theirs);
    let images = directory();
    let options = victim::options(images.path());
    let plain = options.clone().pid(process.0.pid());
    let causes = [
        (plain.clone(), KnownCause::ExternalUnixSocket),
        (plain.ext_unix_sk(true), KnownCause::HalfUnixStream),
    ];
    for (options, cause) in causes {
        let error = criu.dump(&options).await.unwrap_err();
        assert_eq!(diagnosis(&error).known, Some(cause), "{error}");
        assert_eq!(names(images.path()), ["dump.log"]);
        talk.goes_on("before");
    }

    let plan = DumpPlan::detect(process.0.pid()).unwrap();
    assert_eq!(plan.sockets().halves.len(), 1);
    plan.state().save(images.path()).unwrap();
    criu.dump(&plan.apply(options.clone())).await.unwrap();
    process.0.exited().await.unwrap();
    let state = ProcessState::reload(images.path()).unwrap();
    let mut plan = RestorePlan::new(&state, RestoreStdio::Keep).unwrap();
    let missing: Vec<_> = plan.missing().cloned().collect();
    let [half] = &missing[..] else {
        panic!("{missing:?}");
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    plan.inherit(&half.key, OwnedFd::from(theirs));
    let restored = criu.restore(&plan.apply(options)).await.unwrap();
    let pid = restored.pid.as_raw_pid().cast_unsigned();
    let _process = Bound(plan.take_over(pid).unwrap());
    let mut talk = Conversation::with(ours);
    talk.goes_on("after");
}

/// A program that repeats what comes over a socket.
#[expect(clippy::zombie_processes, reason = "it is managed, and that reaps it")]
fn repeating(ours: UnixStream, theirs: UnixStream) -> (Bound, Conversation) {
    let null = || fs::File::options().write(true).open("/dev/null").unwrap();
    let child = Command::new("setsid")
        .arg("cat")
        .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
        .stdout(OwnedFd::from(theirs))
        .stderr(null())
        .spawn()
        .unwrap();
    let mut talk = Conversation::with(ours);
    talk.goes_on("ready");
    (Bound(Managed::take_over(child.id()).unwrap()), talk)
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn images_that_are_missing_or_damaged_bring_nothing_back() {
    let criu = victim::criu();
    let empty = directory();
    let error = criu.restore(&victim::options(empty.path())).await;
    let error = error.unwrap_err();
    let known = diagnosis(&error).known;
    assert_eq!(known, Some(KnownCause::ImageMissing), "{error}");
    let none = victim::options(empty.path().join("none"));
    let error = criu.restore(&none).await.unwrap_err();
    assert!(matches!(error, Error::Options(_)), "{error:?}");

    let exerciser = Exerciser::start(&["pipes", "memory=4"]);
    let tree = exerciser.tree();
    let images = directory();
    let options = victim::options(images.path());
    let dump = options.clone().pid(exerciser.pid());
    criu.dump(&dump).await.unwrap();
    exerciser.has_ended(&tree);

    let core = images.path().join(format!("core-{}.img", exerciser.pid()));
    let whole = cut(&core);
    let error = criu.restore(&options).await.unwrap_err();
    let known = diagnosis(&error).known;
    assert_eq!(known, Some(KnownCause::ImageDamaged), "{error}");
    exerciser::await_end(&tree);
    fs::write(&core, whole).unwrap();

    let whole = cut(&largest(images.path()));
    let error = criu.restore(&options).await.unwrap_err();
    let known = diagnosis(&error).known;
    assert_eq!(known, Some(KnownCause::PagesMissing), "{error}");
    exerciser::await_end(&tree);
    fs::write(largest(images.path()), whole).unwrap();

    criu.restore(&options).await.unwrap();
    exerciser.goes_on(&tree);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_restore_that_waits_for_missing_pages_ends_with_its_deadline() {
    let grace = Duration::from_millis(500);
    let criu = victim::criu().grace(grace);
    // Of a process that shares no memory with a parent CRIU reads what is not there for ever.
    let mut victim = Victim::start(&["--memory", "4"]);
    let tree = victim.tree();
    let images = directory();
    let options = victim::options(images.path());
    let dump = options.clone().pid(victim.pid());
    criu.dump(&dump).await.unwrap();
    assert!(victim.has_ended());
    let pages = largest(images.path());
    let whole = cut(&pages);
    let error = criu.restore(&options).within(grace).await.unwrap_err();
    let Error::Deadline { left, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(left.is_empty(), "{left}");
    exerciser::await_end(&tree);
    fs::write(&pages, whole).unwrap();
    let restored = criu.restore(&options).await.unwrap();
    victim.is_well(&tree);
    drop(victim);
    waitpid(Some(restored.pid), WaitOptions::empty()).unwrap();
}

/// Leaves half of a file, and gives what was in it.
fn cut(file: &Path) -> Vec<u8> {
    let whole = fs::read(file).unwrap();
    fs::write(file, &whole[..whole.len() / 2]).unwrap();
    whole
}

/// The image with the most in it, which is one of pages.
fn largest(images: &Path) -> PathBuf {
    let paths = fs::read_dir(images)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap()
}
