//! Programs that a test puts in the place of an engine.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// Writes an executable shell script.
pub fn write_script(path: &Path, body: &str) {
    let file = fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o755)
        .open(path);
    let mut file = file.expect("a directory of our own");
    write!(file, "#!/bin/sh\n{body}\n").expect("room");
}
