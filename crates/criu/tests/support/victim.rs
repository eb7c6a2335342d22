//! A process to dump: it does nothing much, visibly.
//!
//! ```text
//! victim [--memory MIB] [--children N] [--threads N] [--connect PORT] [--listen PORT]
//! ```
//!
//! It becomes the leader of a session of its own, writes `ready` to its standard output, points
//! its standard streams to `/dev/null`, and then wakes up each millisecond, in each of its
//! threads and children. On a connection it answers each byte with the next higher one. Memory is
//! filled with what does not compress.

#[path = "silence.rs"]
mod silence;

use std::{
    env,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    process, thread,
    time::Duration,
};

use silence::silence;

/// What a process wakes up for.
const BEAT: Duration = Duration::from_millis(1);

fn main() {
    // A test that starts it as a session leader already has it so.
    let _ = rustix::process::setsid();
    let mut arguments = env::args().skip(1);
    let mut memory = Vec::new();
    let mut children = 0;
    while let Some(flag) = arguments.next() {
        let number: u32 = arguments.next().unwrap().parse().unwrap();
        match flag.as_str() {
            "--memory" => memory = filled(number),
            "--children" => children = number,
            "--threads" => {
                for _ in 0..number {
                    thread::spawn(beat);
                }
            }
            "--connect" => {
                let port = number.try_into().unwrap();
                answer_on(TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
            "--listen" => {
                let port = number.try_into().unwrap();
                let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
                thread::spawn(move || {
                    listener
                        .incoming()
                        .for_each(|stream| answer_on(stream.unwrap()))
                });
            }
            other => panic!("victim: no option {other}"),
        }
    }
    let children: Vec<_> = (0..children).map(|_| child()).collect();
    for mut child in children {
        // It points its streams elsewhere when it is ready.
        let mut said = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        assert_eq!(said, "ready\n");
    }
    println!("ready");
    silence();
    let memory = memory;
    beat();
    drop(memory);
}

/// Another one of this program, in the same session.
fn child() -> process::Child {
    process::Command::new(env::current_exe().unwrap())
        .stdin(process::Stdio::null())
        .stdout(process::Stdio::piped())
        .spawn()
        .unwrap()
}

fn beat() {
    loop {
        thread::sleep(BEAT);
    }
}

fn answer_on(mut stream: TcpStream) {
    thread::spawn(move || {
        // It wakes up like the others.
        stream.set_read_timeout(Some(BEAT)).unwrap();
        let mut byte = [0; 1];
        loop {
            match stream.read(&mut byte) {
                Ok(1) => stream.write_all(&[byte[0].wrapping_add(1)]).unwrap(),
                Ok(_) => return,
                // Being stopped for a dump interrupts it.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("victim: {error}"),
            }
        }
    });
}

/// `mib` of numbers that follow no pattern (xorshift).
fn filled(mib: u32) -> Vec<u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..u64::from(mib) << 17)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
        .collect()
}
