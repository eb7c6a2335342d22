//! The directory of an image, claimed before anything is frozen.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::{
    error::{Error, Result},
    work_dir::{WorkDir, make},
};

/// With less room than this a disk is full: the last write did not fit, and left some pages free.
const FULL: u64 = 64 << 10;

/// An empty image directory that takes a checkpoint. Unless it is kept, what was written into it
/// is removed again, and so is the directory itself if it was made here.
#[derive(Debug)]
pub struct ImageDir {
    path: PathBuf,
    made: bool,
    kept: bool,
}

impl ImageDir {
    /// Makes the directory, or takes an empty one, and sees that it can be written.
    pub fn claim(path: &Path) -> Result<Self> {
        let failed = |source| Error::ImageDirectory {
            image: path.to_owned(),
            source,
        };
        let made = make(path).map_err(failed)?;
        let dir = Self {
            path: path.to_owned(),
            made,
            kept: false,
        };
        let mut entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(source) => {
                dir.keep();
                return Err(failed(source));
            }
        };
        if let Some(entry) = entries.next() {
            let entry = entry.map(|entry| entry.file_name());
            dir.keep();
            let entry = entry.map_err(failed)?.to_string_lossy().into_owned();
            return Err(Error::ImageDirectoryInUse {
                image: path.to_owned(),
                entry,
            });
        }
        probe(path).map_err(failed)?;
        Ok(dir)
    }

    /// What a failed write into it comes from, where its disk is full: runtimes say that in many
    /// words, and runsc of 2024 only by a nil pointer.
    pub fn explain(&self, error: Error) -> Error {
        let free = match rustix::fs::statvfs(&self.path) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(_) => return error,
        };
        if free >= FULL {
            return error;
        }
        let (image, source) = (self.path.clone(), Box::new(error));
        Error::DiskFull {
            image,
            free,
            source,
        }
    }

    /// CRIU's work directory for this dump, `own` if it is in the bundle. What it holds must outlive
    /// a failed dump, which the image directory does not, and is nothing that a seal could take in.
    pub fn work_dir(&self, work: &WorkDir, own: &Path) -> Result<PathBuf> {
        let overlap = |work: &Path| Error::Overlap {
            image: self.path.clone(),
            work: work.to_owned(),
        };
        // Our own is emptied first.
        if *work == WorkDir::Bundle && lies_in(&self.path, own) {
            return Err(overlap(own));
        }
        let work = work.make(own)?;
        if lies_in(&work, &self.path) {
            return Err(overlap(&work));
        }
        Ok(work)
    }

    /// Removes what was written into it, which may be gigabytes, as a drop does.
    pub async fn discard(self) {
        if let Err(fault) = spawn_blocking(move || drop(self)).await {
            tracing::error!("removing what is left of a checkpoint failed: {fault}");
        }
    }

    /// Leaves the directory as it is, and tells where it is.
    pub fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }
}

impl Drop for ImageDir {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = self.clear() {
            tracing::warn!(
                "cannot remove what is left of checkpoint {}: {error}",
                self.path.display()
            );
        }
    }
}

impl ImageDir {
    fn clear(&self) -> io::Result<()> {
        if self.made {
            return fs::remove_dir_all(&self.path);
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether `inner` is `outer` or lies below it, whatever links lead there. What is not there lies
/// nowhere.
fn lies_in(inner: &Path, outer: &Path) -> bool {
    match (inner.canonicalize(), outer.canonicalize()) {
        (Ok(inner), Ok(outer)) => inner.starts_with(outer),
        _ => false,
    }
}

/// Fails where a file cannot be made: a read-only file system, for instance, which CRIU would
/// tell only after it has frozen the container.
fn probe(path: &Path) -> io::Result<()> {
    let probe = path.join(".stasis-probe");
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)?;
    fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_something_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("precious"), "x").unwrap();
        let error = ImageDir::claim(dir.path()).unwrap_err();
        assert!(error.to_string().contains("precious"), "{error}");
        assert_eq!(
            fs::read_to_string(dir.path().join("precious")).unwrap(),
            "x"
        );
    }

    #[test]
    fn a_failed_checkpoint_leaves_the_directory_as_it_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let (found, made) = (dir.path().join("found"), dir.path().join("new/deep"));
        fs::create_dir(&found).unwrap();
        for path in [&found, &made] {
            let image = ImageDir::claim(path).unwrap();
            fs::write(path.join("pages-1.img"), "half").unwrap();
            drop(image);
        }
        assert_eq!(fs::read_dir(&found).unwrap().count(), 0);
        assert!(!made.exists());
    }

    #[test]
    fn a_sealed_image_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let image = ImageDir::claim(&path).unwrap();
        fs::write(path.join("stasis.json"), "{}").unwrap();
        image.keep();
        assert!(path.join("stasis.json").exists());
    }

    #[test]
    fn a_failure_with_room_on_the_disk_is_not_put_down_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let image = ImageDir::claim(dir.path()).unwrap();
        let error = Error::ParentCheckpoint {
            parent: "/parent".into(),
        };
        assert!(matches!(
            image.explain(error),
            Error::ParentCheckpoint { .. }
        ));
    }

    #[test]
    fn an_image_path_that_is_a_file_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let error = ImageDir::claim(&path).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_work_directory_in_the_image_directory_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("image"), dir.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for work in [path.clone(), path.join("work"), link.join("a/work")] {
            let image = ImageDir::claim(&path).unwrap();
            let error = image
                .work_dir(&WorkDir::Requested(work.clone()), dir.path())
                .unwrap_err();
            assert!(matches!(error, Error::Overlap { .. }), "{error}");
            assert!(
                error.to_string().contains(work.to_str().unwrap()),
                "{error}"
            );
            drop(image);
            assert!(!path.exists(), "nothing is left of {}", work.display());
        }
        let image = ImageDir::claim(&path).unwrap();
        let below = WorkDir::Requested(dir.path().to_owned());
        image.work_dir(&below, dir.path()).unwrap();
        assert!(
            path.exists(),
            "an image below the work directory is out of its way"
        );
    }

    #[test]
    fn an_image_directory_in_our_own_work_directory_is_not_emptied_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("criu-dump");
        for path in [own.clone(), own.join("image")] {
            let image = ImageDir::claim(&path).unwrap();
            let error = image.work_dir(&WorkDir::Bundle, &own).unwrap_err();
            assert!(matches!(error, Error::Overlap { .. }), "{error}");
            assert!(path.exists());
        }
    }
}
