//! The pump's other way, for what cannot be spliced.

use rustix::fs::inotify;

use super::*;

#[tokio::test(flavor = "current_thread")]
async fn where_splice_refuses_bytes_are_copied() {
    // The kernel splices nothing out of an inotify descriptor.
    let dir = tempfile::tempdir().unwrap();
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let source = inotify::init(flags).unwrap();
    inotify::add_watch(&source, dir.path(), inotify::WatchFlags::CREATE).unwrap();
    let (read, write) = pipe(ROOT).unwrap();
    let pump = tokio::spawn(
        Pump::new(source, nonblocking(write).unwrap())
            .unwrap()
            .run(),
    );
    File::create(dir.path().join("made")).unwrap();
    let read = nonblocking(read).unwrap();
    let mut event = [0; 64];
    let read = tokio::net::unix::pipe::Receiver::from_owned_fd(read)
        .unwrap()
        .read(&mut event)
        .await;
    assert!(
        event[..read.unwrap()]
            .windows(4)
            .any(|name| name == b"made")
    );
    pump.abort();
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_in_the_buffer_is_not_moved_yet() {
    let (from, source) = pipe(ROOT).unwrap();
    let (sink, to) = pipe(ROOT).unwrap();
    let pump = Pump::new(nonblocking(from).unwrap(), nonblocking(to).unwrap()).unwrap();
    let rest = pump.rest();
    assert!(rest.is_empty());
    let pumping = tokio::spawn(async move { pump.copy().await });
    // More than the sink takes, by less than the buffer takes.
    write_all(source, bytes(68 << 10)).await.unwrap();
    let stuck = || ioctl_fionread(&sink).unwrap() == 64 << 10;
    while !stuck() {
        tokio::task::yield_now().await;
    }
    assert!(!rest.is_empty());
    let mut got = Vec::new();
    let mut sink = nonblocking(sink)
        .and_then(|sink| {
            tokio::net::unix::pipe::Receiver::from_owned_fd(sink)
                .map_err(Error::system("watch a pipe"))
        })
        .unwrap();
    sink.read_to_end(&mut got).await.unwrap();
    pumping.await.unwrap().unwrap();
    assert!(rest.is_empty());
    assert!(got == bytes(68 << 10));
}

#[tokio::test(flavor = "current_thread")]
async fn the_copying_pump_loses_nothing() {
    let (from, source) = pipe(ROOT).unwrap();
    let (sink, to) = pipe(ROOT).unwrap();
    let pump = Pump::new(nonblocking(from).unwrap(), nonblocking(to).unwrap()).unwrap();
    let pumping = tokio::spawn(async move { pump.copy().await });
    let sent = bytes(1 << 20);
    let writing = write_all(source, sent.clone());
    let reading = read_to_end(sink);
    pumping.await.unwrap().unwrap();
    writing.await.unwrap();
    assert!(reading.await.unwrap() == sent);
}
