//! io_uring, which CRIU cannot dump.

use crate::{FileKind, ProcessError, Tree};

/// Refuses a tree in which a process uses io_uring, by the name of the process.
///
/// CRIU itself fails in the middle of the dump with "Message reply from daemon is trimmed", which
/// tells nobody what to do. Cedana looks for `io_uring` anywhere in the paths of open files, and so
/// refuses a program that has `/srv/io_uring.log` open, and misses one that has closed its ring and
/// kept it mapped.
///
/// ```
/// use stasis_plain::{Tree, adapters::refuse_io_uring};
///
/// refuse_io_uring(&Tree::read(std::process::id())?)?;
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
///
/// # Errors
/// [`ProcessError::IoUring`] for the first process that does.
pub fn refuse_io_uring(tree: &Tree) -> Result<(), ProcessError> {
    for process in tree.processes() {
        let ring = process
            .files
            .iter()
            .find(|file| file.kind == FileKind::IoUring);
        if ring.is_some() || process.maps_io_uring {
            return Err(ProcessError::IoUring {
                pid: process.pid,
                fd: ring.map(|file| file.fd),
            });
        }
    }
    Ok(())
}
