//! The file that tells others the number of a process.

use std::path::Path;

use stasis_linux::file::replace;

use crate::ProcessError;

/// Writes a number to a file, in decimal and without a line end, as runc does.
///
/// It is written aside and renamed, so that whoever waits for the file never reads half a number;
/// what was there before is replaced, and a link is replaced and not followed. A failure is an
/// error: Cedana's is a message to its caller, who then waits for a file that never comes.
///
/// ```
/// use stasis_plain::adapters::write_pid_file;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let file = directory.path().join("pid");
/// write_pid_file(&file, 4711)?;
/// assert_eq!(std::fs::read_to_string(&file).unwrap(), "4711");
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
///
/// # Errors
/// If it cannot be written.
pub fn write_pid_file(file: &Path, pid: u32) -> Result<(), ProcessError> {
    replace(file, pid.to_string().as_bytes(), 0o644, true).map_err(|source| ProcessError::File {
        step: "write the pid file",
        path: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (victim, file) = (
            directory.path().join("victim"),
            directory.path().join("pid"),
        );
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &file).unwrap();
        write_pid_file(&file, 7).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&file).unwrap(), "7");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("none/pid");
        let error = write_pid_file(&file, 7).unwrap_err();
        assert!(error.to_string().contains("none/pid"), "{error}");
        // A directory cannot be replaced; what was written aside goes.
        assert!(write_pid_file(directory.path(), 7).is_err());
    }
}
