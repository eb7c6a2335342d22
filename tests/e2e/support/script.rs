//! Programs that a test puts in the place of an engine.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// Writes an executable shell script.
pub fn write_script(path: &Path, body: &str) {
    // By a child: were it open for writing here while the thread of another test forks, that fork
    // would hold it open as well, and running it would fail with ETXTBSY.
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut stdin = writer.stdin.take().expect("is piped");
    write!(stdin, "#!/bin/sh\n{body}\n").expect("room");
    drop(stdin);
    assert!(writer.wait().expect("is waited for").success());
}
