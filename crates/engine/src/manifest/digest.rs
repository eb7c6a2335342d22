//! SHA-256 of a file, in bounded memory.

use std::{
    fmt::Write,
    fs::File,
    io::{self, Read},
};

use sha2::{Digest, Sha256};

/// How much is read at once.
const CHUNK: usize = 128 << 10;

/// The SHA-256 of what is left to read of `file`, in hexadecimal.
pub(super) fn sha256(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => hash.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
