//! What programs do about their streams when tests have heard that they are ready.

use std::fs;

/// Standard streams of which nobody is the other end.
pub fn silence() {
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    rustix::stdio::dup2_stdin(&null).unwrap();
    rustix::stdio::dup2_stderr(&null).unwrap();
    drop(null);
    // Whoever started it waits for the end of this one.
    rustix::stdio::dup2_stdout(rustix::stdio::stdin()).unwrap();
}
