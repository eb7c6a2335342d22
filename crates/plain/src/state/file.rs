//! The file that a process state is kept in.
//!
//! It is written aside, synced and renamed, so that there is a whole one or none; for its owner
//! only, since it says what the processes were and did. Read back, it is input from outside: no
//! link is followed, and no more is read than a state can be long.

use std::{io, path::Path};

use stasis_linux::file::{Directory, replace, whole};

use super::{super::ProcessError, ProcessState};

/// The name of the file, in the directory of the images.
pub const FILE_NAME: &str = "process_state.json";

/// The longest that is read: some thousands of processes with some thousands of files.
const LONGEST: u64 = 256 << 20;

impl ProcessState {
    /// Writes it to [`FILE_NAME`] in the directory of the images.
    ///
    /// A failure is an error here. Cedana's is a line in its log, and the restore, for which the
    /// state is needed, fails.
    ///
    /// ```
    /// use stasis_plain::{ProcessState, Tree};
    ///
    /// # let images = tempfile::tempdir().unwrap();
    /// # let images = images.path();
    /// let state = ProcessState::fill(&Tree::read(std::process::id())?)?;
    /// state.save(images)?;
    /// assert_eq!(ProcessState::reload(images)?, state);
    /// # Ok::<(), stasis_plain::ProcessError>(())
    /// ```
    ///
    /// # Errors
    /// If it cannot be written, or is nested too deep to be read again: some sixty generations.
    pub fn save(&self, images: &Path) -> Result<(), ProcessError> {
        let path = images.join(FILE_NAME);
        let failed = |source| ProcessError::File {
            step: "write",
            path: path.clone(),
            source,
        };
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        // What cannot be read again is told now, when there is still a process to be dumped.
        parse(&text).map_err(failed)?;
        text.push(b'\n');
        replace(&path, &text, 0o600, true).map_err(failed)
    }

    /// Reads it from [`FILE_NAME`] in the directory of the images, whether it was written by
    /// [`ProcessState::save`] or by Cedana.
    ///
    /// # Errors
    /// If it is not there, is no regular file, too long, or no process state.
    pub fn reload(images: &Path) -> Result<Self, ProcessError> {
        let read = || {
            let file = Directory::from(images).open(Path::new(FILE_NAME))?;
            parse(&whole(file, LONGEST)?)
        };
        read().map_err(|source| ProcessError::File {
            step: "read the process state",
            path: images.join(FILE_NAME),
            source,
        })
    }
}

fn parse(text: &[u8]) -> io::Result<ProcessState> {
    serde_json::from_slice(text).map_err(Into::into)
}
