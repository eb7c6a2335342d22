//! Why CRIU failed, out of `dump.log` or `restore.log`.
//!
//! A line reads `(SECONDS) Error (FILE:LINE): TEXT`. The runtime says no more than "criu failed:
//! type DUMP errno 0" (runc) or the last line of all (crun); the cause is the first error that is
//! no noise, with what follows from it after it. An exception is a full disk: it shows late,
//! behind whatever failed to be written first.
//!
//! Seen of CRIU 4.1.1 and 4.2.1.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// What a dump writes to its work directory.
pub const DUMP: &str = "dump.log";
/// What a restore writes to its work directory.
pub const RESTORE: &str = "restore.log";

/// A log of level 4 of thousands of processes is not nearly as long. Of a longer one the end is
/// read.
const CAP: u64 = 16 << 20;
/// The version is among the first lines.
const HEAD: u64 = 8 << 10;

/// Errors in the logs of runs that succeeded, or that only say that it has failed.
const NOISE: &[&str] = &[
    // Without CAP_SYS_RESOURCE.
    "Can't setup RLIMIT_NOFILE for self",
    "Dumping FAILED",
    "Restoring FAILED",
];

/// What the disk says when it is full, in whatever sentence.
const FULL: &[&str] = &["No space left on device", "Disk quota exceeded"];

/// The line of the log at `path` that tells why CRIU failed, without time and place. `None` if
/// there is no such file or no error in it.
#[must_use]
pub fn cause(path: &Path) -> Option<String> {
    cause_in(&String::from_utf8_lossy(&tail(path).ok()?))
}

/// CRIU's version as its log at `path` has it.
#[must_use]
pub fn version(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path)
        .ok()?
        .take(HEAD)
        .read_to_end(&mut head)
        .ok()?;
    version_in(&String::from_utf8_lossy(&head))
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(CAP)))?;
    let mut bytes = Vec::new();
    file.take(CAP).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn cause_in(log: &str) -> Option<String> {
    let contains = |text: &str, parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let mut errors = log
        .lines()
        .filter_map(error)
        .filter(|text| !contains(text, NOISE));
    let first = errors.next();
    // tar and gzip, which CRIU has pack a tmpfs, write their own lines.
    let full = log.lines().find(|line| contains(line, FULL));
    match (first, full) {
        (Some(first), Some(_)) if contains(first, FULL) => Some(first.to_owned()),
        (_, Some(full)) => Some(error(full).unwrap_or(full).to_owned()),
        (first, None) => first.map(str::to_owned),
    }
}

/// The text of a line that reports an error.
fn error(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("Error (")?;
    let (_place, text) = rest.split_once("): ")?;
    Some(text.trim())
}

fn version_in(log: &str) -> Option<String> {
    let (_, rest) = log
        .lines()
        .find_map(|line| line.split_once(") Version: "))?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "(00.000000) CRIU run id = 1d5722e8\n\
        (00.003092) Version: 4.2.1 (gitid 0)\n\
        (00.053721) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
        (00.053800) Dumping processes (pid: 107 comm: sh)\n";

    fn cause_of(lines: &str) -> Option<String> {
        cause_in(&format!("{HEADER}{lines}"))
    }

    #[test]
    fn the_cause_is_the_first_error_that_is_no_noise() {
        let descriptor = "(00.066078) Error (criu/files-reg.c:1790): Can't lookup mount=68 for fd=1 path=/scratch/o\n\
            (00.066096) Error (criu/cr-dump.c:1545): Dump files (pid: 107) failed with -1\n\
            (00.117293) Error (criu/cr-dump.c:1975): Dumping FAILED.\n";
        assert_eq!(
            cause_of(descriptor).as_deref(),
            Some("Can't lookup mount=68 for fd=1 path=/scratch/o")
        );
        let mount = "(00.002515) Error (criu/mount.c:3141): mnt: No mapping for 109:(null) mountpoint\n\
            (00.003369) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory\n";
        assert_eq!(
            cause_of(mount).as_deref(),
            Some("mnt: No mapping for 109:(null) mountpoint")
        );
    }

    #[test]
    fn a_log_of_success_has_no_cause() {
        assert_eq!(cause_of("Error: ipv4: Address already assigned.\n"), None);
        assert_eq!(
            cause_of("(00.2) Error (criu/cr-dump.c:1975): Dumping FAILED.\n"),
            None
        );
        assert_eq!(cause_in(""), None);
    }

    #[test]
    fn a_full_disk_comes_out_as_such() {
        let splice = "(00.156540) Error (criu/page-xfer.c:263): page-xfer: Unable to spice data: No space left on device\n\
            (00.156576) Error (criu/mem.c:718): Can't dump page with parasite\n";
        assert_eq!(
            cause_of(splice).as_deref(),
            Some("page-xfer: Unable to spice data: No space left on device")
        );
        let tmpfs = "gzip: stdout: No space left on device\n\
            tar: Error is not recoverable: exiting now\n\
            (00.146773) Error (criu/util.c:657): exited, status=2\n\
            (00.146789) Error (criu/filesystems.c:426): Can't dump tmpfs content\n\
            (00.146823) Error (criu/bfd.c:131): bfd: Error flushing image: No space left on device\n";
        assert_eq!(
            cause_of(tmpfs).as_deref(),
            Some("gzip: stdout: No space left on device")
        );
    }

    #[test]
    fn the_version_is_read_and_a_missing_log_is_none() {
        assert_eq!(version_in(HEADER).as_deref(), Some("4.2.1"));
        assert_eq!(version_in("(00.1) nothing\n"), None);
        assert_eq!(cause(Path::new("/no/such/log")), None);
        assert_eq!(version(Path::new("/no/such/log")), None);
    }
}
