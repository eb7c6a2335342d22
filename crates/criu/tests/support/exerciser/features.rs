//! What is exercised, word by word.

use std::{
    fs,
    io::{Read, Write, pipe},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            fs::FileExt,
            net::{UnixDatagram, UnixListener, UnixStream},
        },
    },
    sync::atomic::Ordering,
    thread,
};

use rustix::{
    fs::{FlockOperation, flock},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

use crate::{
    BEAT, Round,
    sys::{self, Fork},
};

/// A mebibyte in numbers.
const MEBIBYTE: usize = (1 << 20) / 8;

pub fn of(name: &str, value: &str) -> Round {
    match name {
        "pipes" => pipes(),
        "unix" => unix(value),
        "tcp" => tcp(value.parse().unwrap()),
        "ghost" => ghost(value),
        "terminal" => terminal(),
        "shared" => shared(value.parse().unwrap()),
        "memory" => memory(value.parse().unwrap()),
        "lock" => lock(value),
        "ring" => ring(),
        other => panic!("no word {other}"),
    }
}

/// Forks a partner, who does `partner` and nothing else.
fn with_partner(partner: impl FnOnce()) {
    if let Fork::Child = sys::fork() {
        partner();
        panic!("the partner's work ended");
    }
}

fn pipes() -> Round {
    let (their_input, mut our_output) = pipe().unwrap();
    let (mut our_input, their_output) = pipe().unwrap();
    with_partner(|| answer(their_input, their_output));
    Box::new(move |number| ask(&mut our_output, &mut our_input, number))
}

fn unix(path: &str) -> Round {
    let listener = UnixListener::bind(path).unwrap();
    let (stream, their_stream) = UnixStream::pair().unwrap();
    let (datagrams, their_datagrams) = UnixDatagram::pair().unwrap();
    let (packets, their_packets) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::empty(),
        None,
    )
    .unwrap();
    let connected = UnixStream::connect(path).unwrap();
    with_partner(|| {
        serve(move || listener.accept().unwrap().0);
        thread::spawn(move || {
            let mut bytes = [0; 8];
            loop {
                retrying(|| their_datagrams.recv(&mut bytes));
                their_datagrams.send(&next(bytes)).unwrap();
                retrying(|| receive(&their_packets, &mut bytes));
                send(&their_packets, &next(bytes));
            }
        });
        answer(their_stream.try_clone().unwrap(), their_stream);
    });
    let (mut one, mut other) = (stream.try_clone().unwrap(), stream);
    let (mut to, mut from) = (connected.try_clone().unwrap(), connected);
    Box::new(move |number| {
        ask(&mut one, &mut other, number);
        ask(&mut to, &mut from, number);
        let mut bytes = [0; 8];
        datagrams.send(&number.to_ne_bytes()).unwrap();
        retrying(|| datagrams.recv(&mut bytes));
        assert_eq!(u64::from_ne_bytes(bytes), number + 1, "a datagram");
        send(&packets, &number.to_ne_bytes());
        retrying(|| receive(&packets, &mut bytes));
        assert_eq!(u64::from_ne_bytes(bytes), number + 1, "a sequenced packet");
    })
}

fn tcp(port: u16) -> Round {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut to = TcpStream::connect(("127.0.0.1", port)).unwrap();
    to.set_nodelay(true).unwrap();
    let mut from = to.try_clone().unwrap();
    with_partner(|| {
        let accept = move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        let first = accept();
        serve(accept);
        answer(first.try_clone().unwrap(), first);
    });
    Box::new(move |number| ask(&mut to, &mut from, number))
}

fn ghost(path: &str) -> Round {
    /// More than the first number, and still a ghost that CRIU takes without being asked to.
    const LENGTH: u64 = 512 << 10;
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    let whole: Vec<_> = (0..LENGTH / 8)
        .flat_map(|at| pattern(at).to_ne_bytes())
        .collect();
    file.write_all_at(&whole, 0).unwrap();
    fs::remove_file(path).unwrap();
    Box::new(move |number| {
        let mut is = vec![0; whole.len()];
        file.read_exact_at(&mut is, 0).unwrap();
        assert!(is[8..] == whole[8..], "the deleted file is another");
        let last = if number == 1 { pattern(0) } else { number - 1 };
        assert_eq!(
            is[..8],
            last.to_ne_bytes(),
            "the deleted file is of another time"
        );
        file.write_all_at(&number.to_ne_bytes(), 0).unwrap();
    })
}

fn terminal() -> Round {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let name = name.into_string().unwrap();
    let mut master = fs::File::from(master);
    with_partner(|| {
        rustix::process::setsid().unwrap();
        let terminal = fs::File::options()
            .read(true)
            .write(true)
            .open(name)
            .unwrap();
        rustix::process::ioctl_tiocsctty(&terminal).unwrap();
        let mut settings = tcgetattr(&terminal).unwrap();
        settings.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &settings).unwrap();
        // It can be spoken to from now on.
        (&terminal).write_all(b"!").unwrap();
        loop {
            let mut bytes = [0; 8];
            (&terminal).read_exact(&mut bytes).unwrap();
            let controls = fs::File::options().write(true).open("/dev/tty").unwrap();
            (&controls).write_all(&next(bytes)).unwrap();
        }
    });
    master.read_exact(&mut [0; 1]).unwrap();
    let mut again = master.try_clone().unwrap();
    Box::new(move |number| ask(&mut master, &mut again, number))
}

fn shared(mebibytes: usize) -> Round {
    let numbers = sys::shared(mebibytes * MEBIBYTE);
    for (at, number) in numbers.iter().enumerate().skip(1) {
        number.store(pattern(at as u64), Ordering::Relaxed);
    }
    let holds = || {
        let mut rest = numbers.iter().enumerate().skip(1);
        rest.all(|(at, number)| number.load(Ordering::Relaxed) == pattern(at as u64))
    };
    let turn = &numbers[0];
    // Odd numbers are the partner's turn.
    with_partner(|| {
        loop {
            assert!(holds(), "the partner's shared memory is another");
            let mut now = turn.load(Ordering::Acquire);
            while now.is_multiple_of(2) {
                thread::sleep(BEAT);
                now = turn.load(Ordering::Acquire);
            }
            turn.store(now + 1, Ordering::Release);
        }
    });
    Box::new(move |number| {
        assert!(holds(), "the shared memory is another");
        turn.store(number * 2 - 1, Ordering::Release);
        while turn.load(Ordering::Acquire) != number * 2 {
            thread::sleep(BEAT);
        }
    })
}

fn memory(mebibytes: usize) -> Round {
    // Each mebibyte is the first one, turned by its number: filled and compared in no time, by a
    // program without optimizations too.
    let first: Vec<_> = (0..MEBIBYTE as u64).map(pattern).collect();
    let mut all = Vec::with_capacity(mebibytes * MEBIBYTE);
    for by in 0..mebibytes {
        all.extend_from_slice(&first[by..]);
        all.extend_from_slice(&first[..by]);
    }
    Box::new(move |_| {
        assert!((0..).map(pattern).zip(&first).all(|(is, was)| is == *was));
        for (by, mebibyte) in all.chunks(MEBIBYTE).enumerate() {
            let (begin, end) = mebibyte.split_at(MEBIBYTE - by);
            let same = begin == &first[by..] && end == &first[..by];
            assert!(same, "the memory is another in mebibyte {by}");
        }
    })
}

fn lock(path: &str) -> Round {
    let ours = fs::File::create(path).unwrap();
    flock(&ours, FlockOperation::LockExclusive).unwrap();
    let path = path.to_owned();
    Box::new(move |_| {
        let other = fs::File::open(&path).unwrap();
        let taken = flock(&other, FlockOperation::NonBlockingLockShared);
        assert_eq!(
            taken,
            Err(rustix::io::Errno::WOULDBLOCK),
            "the lock is lost"
        );
        // Not to be forgotten: it is what holds the lock.
        let _ = &ours;
    })
}

fn ring() -> Round {
    let ring = sys::ring().unwrap();
    Box::new(move |_| {
        rustix::fs::fstat(&ring).unwrap();
    })
}

/// What memory and files are filled with: every number another, and none that compresses.
fn pattern(at: u64) -> u64 {
    (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Sends a number and awaits the next higher one.
fn ask(to: &mut impl Write, from: &mut impl Read, number: u64) {
    to.write_all(&number.to_ne_bytes()).unwrap();
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).unwrap();
    assert_eq!(u64::from_ne_bytes(bytes), number + 1);
}

/// Answers each number with the next higher one, until there are no more.
fn answer(mut from: impl Read, mut to: impl Write) {
    let mut bytes = [0; 8];
    while from.read_exact(&mut bytes).is_ok() {
        to.write_all(&next(bytes)).unwrap();
    }
}

/// Answers whoever connects.
fn serve<S: Read + Write + Send + 'static>(mut accept: impl FnMut() -> S + Send + 'static) {
    thread::spawn(move || {
        loop {
            let mut stream = accept();
            thread::spawn(move || {
                let mut bytes = [0; 8];
                while stream.read_exact(&mut bytes).is_ok() {
                    stream.write_all(&next(bytes)).unwrap();
                }
            });
        }
    });
}

fn next(bytes: [u8; 8]) -> [u8; 8] {
    (u64::from_ne_bytes(bytes) + 1).to_ne_bytes()
}

fn send(socket: &OwnedFd, bytes: &[u8]) {
    rustix::net::send(socket, bytes, SendFlags::empty()).unwrap();
}

fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> std::io::Result<usize> {
    let (received, _) = rustix::net::recv(socket, bytes, RecvFlags::empty())?;
    Ok(received)
}

/// Being stopped for a dump interrupts what waits.
fn retrying(mut receive: impl FnMut() -> std::io::Result<usize>) {
    loop {
        match receive() {
            Ok(8) => return,
            Ok(other) => panic!("{other} bytes in place of 8"),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
}
