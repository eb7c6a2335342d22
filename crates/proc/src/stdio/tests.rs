//! Streams over real pipes and FIFOs. The container is the test itself, which holds its ends.

mod copy;

use std::{
    fs::File,
    io::{ErrorKind as IoErrorKind, Read as _, Write as _},
    path::Path,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::open,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::error::ErrorKind;

const ROOT: Owner = Owner { uid: 0, gid: 0 };
/// Longer than any machine stands still: it passes only if what is waited for never comes.
const LONG: Duration = Duration::from_secs(100);

fn fifo(dir: &TempDir, name: &str) -> String {
    let path = dir.path().join(name);
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The other side's end of a FIFO, as containerd opens it.
fn client(path: &str, access: OFlags) -> OwnedFd {
    open(
        Path::new(path),
        access | OFlags::NONBLOCK | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .unwrap()
}

fn receiver(path: &str) -> tokio::net::unix::pipe::Receiver {
    tokio::net::unix::pipe::OpenOptions::new()
        .open_receiver(path)
        .unwrap()
}

/// Bytes in which any loss, doubling or swap shows.
fn bytes(count: u32) -> Vec<u8> {
    (0..count / 4)
        .flat_map(|number| (number ^ 0x5a5a_5a5a).to_le_bytes())
        .collect()
}

/// Waits until a FIFO holds all that it can.
async fn full(path: &str) {
    let writer = client(path, OFlags::WRONLY);
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    while poll(&mut [PollFd::new(&writer, PollFlags::OUT)], Some(&now)).unwrap() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Writes to the container's end, which blocks, in a thread of its own.
fn write_all(end: OwnedFd, bytes: Vec<u8>) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || File::from(end).write_all(&bytes).unwrap())
}

/// Reads from the client's end, blocking, in a thread of its own. A [`receiver`] would wait for
/// ever for the end of a FIFO that has lost its writer before the reader came: epoll does not tell
/// of such an end (Linux, `pipe_poll`).
fn read_to_end(end: OwnedFd) -> tokio::task::JoinHandle<Vec<u8>> {
    tokio::task::spawn_blocking(move || {
        let flags = fcntl_getfl(&end).unwrap();
        fcntl_setfl(&end, flags - OFlags::NONBLOCK).unwrap();
        let mut got = Vec::new();
        File::from(end).read_to_end(&mut got).map(|_| got).unwrap()
    })
}

fn output(path: &str) -> StdioPaths {
    StdioPaths {
        stdout: path.to_owned(),
        ..StdioPaths::default()
    }
}

fn input(path: &str) -> StdioPaths {
    StdioPaths {
        stdin: path.to_owned(),
        ..StdioPaths::default()
    }
}

#[tokio::test(flavor = "current_thread")]
async fn sixteen_megabytes_survive_a_reader_that_pauses_and_one_that_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let streams = Streams::open(&output(&path), ROOT).unwrap();
    let sent = bytes(16 << 20);
    let writing = write_all(streams.container_ends().stdout.unwrap(), sent.clone());

    let mut got = Vec::new();
    // Each reader takes a few megabytes and goes; until the next comes all must wait.
    for _ in 0..4 {
        let mut part = vec![0; 3 << 20];
        receiver(&path).read_exact(&mut part).await.unwrap();
        got.extend(part);
        // Nobody reads until nothing more can be written.
        full(&path).await;
    }
    receiver(&path).read_to_end(&mut got).await.unwrap();
    writing.await.unwrap();
    assert!(
        got == sent,
        "{} of {} bytes, or others",
        got.len(),
        sent.len()
    );
    assert!(streams.drain(LONG).await);
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_written_before_any_reader_came_is_read_after_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let streams = Streams::open(&output(&path), ROOT).unwrap();
    let end = streams.container_ends().stdout.unwrap();
    write_all(end, b"last words".to_vec()).await.unwrap();
    assert!(streams.drain(LONG).await);
    // What came is drained; that no more will come the pump may have learned or not.
    let reading = read_to_end(client(&path, OFlags::RDONLY));
    assert_eq!(reading.await.unwrap(), b"last words");
}

#[tokio::test(flavor = "current_thread")]
async fn a_drain_does_not_wait_for_a_process_that_keeps_its_output_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let streams = Streams::open(&output(&path), ROOT).unwrap();
    let held = streams.container_ends().stdout.unwrap();
    rustix::io::write(&held, b"last words").unwrap();
    let mut reader = receiver(&path);
    assert!(streams.drain(LONG).await);
    streams.close();
    let mut text = String::new();
    reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last words");
}

#[tokio::test(flavor = "current_thread")]
async fn a_drain_gives_up_on_a_reader_that_does_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let streams = Streams::open(&output(&path), ROOT).unwrap();
    let writing = write_all(streams.container_ends().stdout.unwrap(), bytes(100_000));
    writing.await.unwrap();
    full(&path).await;
    assert!(!streams.drain(Duration::from_millis(10)).await);
    let mut reader = receiver(&path);
    streams.close();
    assert_ne!(reader.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn ends_that_no_runtime_took_do_not_hold_up_a_drain() {
    let dir = tempfile::tempdir().unwrap();
    let streams = Streams::open(&output(&fifo(&dir, "out")), ROOT).unwrap();
    assert!(streams.drain(LONG).await);
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_writer_may_attach_and_only_a_close_ends_the_input() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "in");
    let streams = Streams::open(&input(&path), ROOT).unwrap();
    let end = nonblocking(streams.container_ends().stdin.unwrap()).unwrap();
    let mut container = tokio::net::unix::pipe::Receiver::from_owned_fd(end).unwrap();
    let mut got = [0; 3];
    for sent in [b"one", b"two"] {
        File::from(client(&path, OFlags::WRONLY))
            .write_all(sent)
            .unwrap();
        container.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, sent);
    }
    let error = container.try_read(&mut got).unwrap_err();
    assert_eq!(error.kind(), IoErrorKind::WouldBlock);

    // A close with a writer still there, who has more to say.
    let mut writer = tokio::net::unix::pipe::OpenOptions::new()
        .open_sender(&path)
        .unwrap();
    streams.close_stdin();
    writer.write_all(b"end").await.unwrap();
    drop(writer);
    let mut rest = Vec::new();
    container.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"end");
}

#[tokio::test(flavor = "current_thread")]
async fn a_writer_learns_that_the_container_has_closed_its_input() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "in");
    let streams = Streams::open(&input(&path), ROOT).unwrap();
    let writer = tokio::net::unix::pipe::OpenOptions::new()
        .open_sender(&path)
        .unwrap();
    drop(streams.container_ends());
    let error = loop {
        writer.writable().await.unwrap();
        match writer.try_write(&[0; 4096]) {
            Err(error) if error.kind() != IoErrorKind::WouldBlock => break error,
            Ok(_) | Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(error.kind(), IoErrorKind::BrokenPipe);
}

#[tokio::test(flavor = "current_thread")]
async fn streams_are_set_or_not_in_any_mix() {
    let dir = tempfile::tempdir().unwrap();
    for mix in 0..8 {
        let name = |bit: u32, stream| {
            let path = || format!("fifo://{}", fifo(&dir, &format!("{mix}-{stream}")));
            if mix & (1 << bit) == 0 {
                String::new()
            } else {
                path()
            }
        };
        let (stdin, stdout, stderr) = (name(0, "in"), name(1, "out"), name(2, "err"));
        let paths = StdioPaths {
            stdin,
            stdout,
            stderr,
            terminal: false,
        };
        let ends = Streams::open(&paths, ROOT).unwrap().container_ends();
        let set = [&ends.stdin, &ends.stdout, &ends.stderr].map(Option::is_some);
        assert_eq!(set, [0, 1, 2].map(|bit| mix & (1 << bit) != 0));
    }
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "needs root, to give files away: make test"]
async fn the_containers_ends_block_and_have_the_owner_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let paths = StdioPaths {
        stdin: fifo(&dir, "in"),
        ..output(&fifo(&dir, "out"))
    };
    let ends = Streams::open(
        &paths,
        Owner {
            uid: 1234,
            gid: 4321,
        },
    )
    .unwrap()
    .container_ends();
    for end in [ends.stdin.unwrap(), ends.stdout.unwrap()] {
        let stat = rustix::fs::fstat(&end).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid), (1234, 4321));
        assert!(!fcntl_getfl(&end).unwrap().contains(OFlags::NONBLOCK));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_no_fifo_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let error = Streams::open(&output(file.to_str().unwrap()), ROOT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        error.to_string(),
        format!("stdout {} is not a FIFO", file.display())
    );

    let error = Streams::open(&input("/no/such/fifo"), ROOT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        error.to_string(),
        "cannot open the FIFO of stdin, /no/such/fifo"
    );
}

#[test]
fn other_schemes_are_refused_by_name_before_any_path_is_looked_at() {
    for scheme in ["file", "binary", "binary-v2", "vsock", ""] {
        let stderr = format!("{scheme}:///x");
        let paths = StdioPaths {
            stderr,
            ..output("/no/such/fifo")
        };
        let error = paths.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        let said = format!("stderr by {scheme}:// is not supported: use FIFOs, or no streams");
        assert_eq!(error.to_string(), said);
    }
}
