//! The file that a process state is kept in.
//!
//! It is written aside, synced and renamed, so that there is a whole one or none; for its owner
//! only, since it says what the processes were and did. Read back, it is input from outside: no
//! link is followed, and no more is read than a state can be long.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{super::ProcessError, ProcessState};
use stasis_linux::file::{Directory, head};

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
        write_whole(&path, &text, 0o600).map_err(failed)
    }

    /// Reads it from [`FILE_NAME`] in the directory of the images, whether it was written by
    /// [`ProcessState::save`] or by Cedana.
    ///
    /// # Errors
    /// If it is not there, is no regular file, too long, or no process state.
    pub fn reload(images: &Path) -> Result<Self, ProcessError> {
        let read = || {
            let file = Directory::from(images).open(Path::new(FILE_NAME))?;
            let text = head(file, LONGEST)?;
            if text.len() as u64 > LONGEST {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            parse(&text)
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

/// Replaces a file by one with these contents, so that whoever reads it sees the one before or
/// the whole new one, even after a power cut.
pub(crate) fn write_whole(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    /// Tells apart those of this process that write at the same time.
    static WRITES: AtomicU32 = AtomicU32::new(0);

    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut aside = OsString::from(".");
    aside.push(name);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    aside.push(format!(".{}.{write}", process::id()));
    let aside: PathBuf = directory.join(aside);
    let written = (|| {
        // A link that was laid there is not followed: the name is new, or this fails.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&aside)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    })();
    if let Err(error) = written {
        if error.kind() != io::ErrorKind::AlreadyExists {
            // It is ours; what keeps it from going is what was told already.
            let _ = fs::remove_file(&aside);
        }
        return Err(error);
    }
    File::open(directory)?.sync_all()
}
