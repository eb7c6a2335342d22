//! A process to dump that has what programs have, and goes on proving that it is as it was.
//!
//! ```text
//! exerciser REPORT WORD...
//! ```
//!
//! For each word it has a child (and that a partner, where there are two ends), which uses what the
//! word says again and again, looks at what comes out, and counts the rounds in its number of the
//! file REPORT: eight bytes for each word, in the order of the command. Whatever is not as it
//! should be is written to `REPORT.failure`. When each has done a round it writes `ready` to its
//! standard output and points its standard streams to `/dev/null`.
//!
//! | word | uses |
//! |---|---|
//! | `pipes` | two pipes to a partner |
//! | `unix=PATH` | streams, datagrams and sequenced packets to a partner; whoever connects to PATH is answered |
//! | `tcp=PORT` | a connection to a partner; whoever connects to PORT is answered |
//! | `ghost=PATH` | a file that was deleted |
//! | `terminal` | a terminal that controls the partner, who leads a session on it |
//! | `shared=MIB` | memory that it shares with a partner |
//! | `memory=MIB` | memory |
//! | `lock=PATH` | a lock on a file |
//! | `ring` | io_uring |
//!
mod features;
#[path = "../silence.rs"]
mod silence;
mod sys;

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use silence::silence;
use sys::Fork;

/// What a process waits from one round to the next.
const BEAT: Duration = Duration::from_millis(1);

/// What a child does round after round.
type Round = Box<dyn FnMut(u64)>;

fn main() {
    let mut arguments = env::args().skip(1);
    let report = PathBuf::from(arguments.next().unwrap());
    let words: Vec<_> = arguments.collect();
    tell_failures(&report);
    // A test that starts it as a session leader already has it so.
    let _ = rustix::process::setsid();
    let file = fs::File::create(&report).unwrap();
    file.set_len(words.len() as u64 * 8).unwrap();
    drop(file);
    for (place, word) in words.iter().enumerate() {
        if let Fork::Child = sys::fork() {
            silence();
            exercise(word, &report, place as u64);
        }
    }
    let file = fs::File::open(&report).unwrap();
    for place in 0..words.len() as u64 {
        while count(&file, place) == 0 {
            std::thread::sleep(BEAT);
        }
    }
    drop(file);
    println!("ready");
    silence();
    loop {
        std::thread::sleep(BEAT);
    }
}

fn exercise(word: &str, report: &Path, place: u64) -> ! {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let mut round = features::of(name, value);
    let report = fs::File::options().write(true).open(report).unwrap();
    for number in 1.. {
        round(number);
        report
            .write_all_at(&number.to_ne_bytes(), place * 8)
            .unwrap();
        std::thread::sleep(BEAT);
    }
    unreachable!("rounds are counted for longer than anybody waits")
}

fn count(report: &fs::File, place: u64) -> u64 {
    let mut number = [0; 8];
    report.read_exact_at(&mut number, place * 8).unwrap();
    u64::from_ne_bytes(number)
}

/// Panics are for the test, whichever process and thread they are in.
fn tell_failures(report: &Path) {
    let mut path = report.as_os_str().to_owned();
    path.push(".failure");
    std::panic::set_hook(Box::new(move |panic| {
        let mut options = fs::File::options();
        let file = options.create(true).append(true).open(&path);
        // Nobody is left to be told that it could not be told.
        let _ = file.and_then(|mut file| writeln!(file, "{panic}"));
        std::process::abort();
    }));
}
