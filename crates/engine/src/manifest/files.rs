//! The files of an image directory: listed, opened without following links, measured, hashed.

use std::{
    fs,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{
    document::File,
    error::Error,
    format::{ASIDE, NAME},
};

/// What is hashed at most of a file that may hold pages: many times what a sandbox's state takes
/// without them, and a tenth of a second.
const HASH_CAP: u64 = 64 << 20;

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// An image directory, held open so that all its files are of the same one.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    descriptor: OwnedFd,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let descriptor = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| Error::io("open the checkpoint image", path)(error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            descriptor,
        })
    }

    /// The names of its files, all of them regular, but for the manifest.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let listing = || Error::io("list the checkpoint image", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(listing())? {
            let entry = entry.map_err(listing())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type().map_err(listing())?.is_file() {
                return Err(Error::NotRegular {
                    image: self.path.clone(),
                    file: name,
                });
            }
            if name != NAME && name != ASIDE {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Opens a regular file in it; `None` if there is none of that name.
    pub(super) fn file(&self, name: &str) -> Result<Option<fs::File>, Error> {
        // A FIFO would otherwise hold us until somebody writes.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opening = || Error::io("open", self.path.join(name));
        let file = match openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(descriptor) => fs::File::from(descriptor),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.not_regular(name)),
            Err(error) => return Err(opening()(error.into())),
        };
        if !file.metadata().map_err(opening())?.is_file() {
            return Err(self.not_regular(name));
        }
        Ok(Some(file))
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let mut entries =
            fs::read_dir(&self.path).map_err(Error::io("list the checkpoint image", &self.path))?;
        Ok(entries.next().is_none())
    }

    /// The length of a file; `None` if there is none of that name.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        let metadata = file
            .metadata()
            .map_err(Error::io("look at", self.path.join(name)))?;
        Ok(Some(metadata.len()))
    }

    /// The file as the manifest has it; `None` if there is none of that name.
    pub(super) fn measure(&self, name: &str) -> Result<Option<File>, Error> {
        let Some(file) = self.file(name)? else {
            return Ok(None);
        };
        let reading = || Error::io("read", self.path.join(name));
        let size = file.metadata().map_err(reading())?.len();
        let sha256 = is_hashed(name, size)
            .then(|| hash(file))
            .transpose()
            .map_err(reading())?;
        Ok(Some(File { size, sha256 }))
    }

    /// Writes the files, and then the directory, to the disk.
    pub(super) fn sync(&self, names: &[String]) -> Result<(), Error> {
        for name in names {
            let path = self.path.join(name);
            if let Some(file) = self.file(name)? {
                file.sync_all().map_err(Error::io("sync", path))?;
            }
        }
        self.sync_entries()
    }

    /// Writes the directory itself to the disk.
    pub(super) fn sync_entries(&self) -> Result<(), Error> {
        rustix::fs::fsync(&self.descriptor)
            .map_err(|error| Error::io("sync", &self.path)(error.into()))
    }

    fn not_regular(&self, name: &str) -> Error {
        Error::NotRegular {
            image: self.path.clone(),
            file: name.to_owned(),
        }
    }
}

/// Whether a file is hashed. By name and size alone, so that sealing and verifying agree.
fn is_hashed(name: &str, size: u64) -> bool {
    match name {
        "pages.img" => false,
        // A single file with the pages in it where runsc compressed them.
        "checkpoint.img" => size <= HASH_CAP,
        _ => !(name.starts_with("pages-") && name.ends_with(".img")),
    }
}

fn hash(mut file: fs::File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
