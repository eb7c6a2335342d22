//! The small files that the shim keeps in the bundle, whole or not there.
//!
//! The largest of them is [`RuntimeRecord`]; the others are a line each.

mod record;

use std::{io, path::Path};

use stasis_linux::file::{self, Directory};

pub use self::record::{RecordError, RuntimeRecord};

/// Where the server listens. containerd 1.6 and 1.7 find it there after a restart.
pub const ADDRESS: &str = "address";

/// The pid of the server, for people and for tools of gVisor's shim.
pub const SHIM_PID: &str = "shim.pid";

/// The pid of the container's init or sandbox, written by the runtime.
pub const INIT_PID: &str = "init.pid";

/// The most that is read of a file with an address or a pid.
pub const MAX_LINE: u64 = 4096;

/// Writes a file aside and renames it, so that nobody ever sees half of it. It is not synced: no
/// container outlives a crash of the machine.
///
/// # Errors
/// If the file cannot be written.
pub fn write(bundle: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    file::replace(&bundle.join(name), content, 0o600, false)
}

/// Reads a file of at most `limit` bytes; `None` if it is not there.
///
/// # Errors
/// If it cannot be read, is longer, or is not text.
pub fn read(bundle: &Path, name: &str, limit: u64) -> io::Result<Option<String>> {
    let file = match Directory::from(bundle).open(Path::new(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = file::whole(file, limit)?;
    String::from_utf8(text)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();

        write(dir.path(), "file", b"a longer content").unwrap();
        write(dir.path(), "file", b"new").unwrap();

        assert_eq!(
            read(dir.path(), "file", 100).unwrap().as_deref(),
            Some("new")
        );
        let mode = fs::metadata(dir.path().join("file"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_missing_is_no_error_and_one_that_is_too_long_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("long"), "12345").unwrap();

        assert_eq!(read(dir.path(), "missing", 4).unwrap(), None);
        read(dir.path(), "long", 4).unwrap_err();
        read(dir.path(), "long", 5).unwrap();
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("target"), "secret").unwrap();
        std::os::unix::fs::symlink("target", dir.path().join("link")).unwrap();

        read(dir.path(), "link", 100).unwrap_err();
        write(dir.path(), "link", b"x").unwrap();
        let target = fs::read_to_string(dir.path().join("target")).unwrap();
        assert_eq!(target, "secret");
        assert_eq!(read(dir.path(), "link", 100).unwrap().as_deref(), Some("x"));
    }
}
