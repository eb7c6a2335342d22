//! The end of a chain of images.
//!
//! An image with a parent has what changed since the parent was made, as the kernel tracked it
//! (soft-dirty). CRIU has the kernel begin anew as soon as it has mapped the pages out, long before
//! they are written: if a dump fails or is cancelled then, what changed until then is in no image,
//! and one with the same parent would be restored without it, in silence (seen of CRIU 4.1.1 in 6 of
//! 10 pre-dumps cancelled at random instants). So the parent is marked, and refused as a parent
//! from then on. It can be restored as before. What was in the dump's own directory before it is
//! marked too, since it is of another tracking, until a dump into it succeeds.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, unlinkat},
    io::Errno,
};

/// The mark: a file beside the images, which CRIU does not look at.
pub(crate) const MARK: &str = "stasis-no-parent";
/// What whoever comes upon it is told.
const TEXT: &str = "A dump with these images as its parent, or one in their place, failed after the \
                    kernel had begun to track changes anew. What changed before is in no image: \
                    the next dump has to be one without a parent. These images can be restored as \
                    before.\n";
/// What the names of the images that tell of memory begin with.
const MEMORY: &[u8] = b"pagemap-";

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether no image may follow those in `directory`.
pub(crate) fn has_ended(directory: &Path) -> bool {
    directory.join(MARK).exists()
}

/// What a dump that has the kernel track changes anew would break if it failed.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Where it writes its own.
    images: Option<Arc<OwnedFd>>,
    /// The images that it follows.
    parent: Option<OwnedFd>,
}

impl Chain {
    /// A dump into `images`, upon the images in `parent`.
    pub fn goes_on(images: Option<Arc<OwnedFd>>, parent: Option<&Path>) -> io::Result<Self> {
        let parent = match parent.map(|parent| openat(CWD, parent, DIRECTORY, Mode::empty())) {
            Some(Ok(parent)) => Some(parent),
            // What is not there nothing can follow.
            None | Some(Err(Errno::NOENT | Errno::NOTDIR)) => None,
            Some(Err(error)) => return Err(error.into()),
        };
        Ok(Self { images, parent })
    }

    /// The dump succeeded: its images can be followed, whatever was there before.
    pub fn succeeded(&self) {
        let Some(images) = &self.images else { return };
        if let Err(error) = unlinkat(images, MARK, AtFlags::empty())
            && error != Errno::NOENT
        {
            tracing::warn!(%error, "cannot take the mark of a failed dump off these images");
        }
    }

    /// The dump failed, and what it had written is gone: nothing may follow its parent, nor what
    /// was in its place before.
    pub fn end(&self) {
        let before = self.images.as_deref().filter(|images| has_images(images));
        for images in self.parent.iter().chain(before) {
            if let Err(error) = mark(images) {
                // The caller is told anyway that nothing may follow them.
                tracing::warn!(%error, "cannot mark the images that a failed dump ends the chain of");
            }
        }
    }
}

/// Are there images of memory, or can that not be told?
fn has_images(directory: &OwnedFd) -> bool {
    Dir::read_from(directory).map_or(true, |mut entries| {
        entries.any(|entry| {
            entry.map_or(true, |entry| {
                entry.file_name().to_bytes().starts_with(MEMORY)
            })
        })
    })
}

fn mark(directory: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, MARK, flags, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(TEXT.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    /// Two directories of images, the first with an image of memory in it.
    fn directories() -> (tempfile::TempDir, [PathBuf; 2]) {
        let all = tempfile::tempdir().unwrap();
        let paths = ["1", "2"].map(|name| all.path().join(name));
        for path in &paths {
            fs::create_dir(path).unwrap();
        }
        fs::write(paths[0].join("pagemap-7.img"), "").unwrap();
        (all, paths)
    }

    fn open(path: &Path) -> Option<Arc<OwnedFd>> {
        Some(Arc::new(File::open(path).unwrap().into()))
    }

    #[test]
    fn a_failed_dump_ends_the_chain_at_its_parent_until_that_is_made_anew() {
        let (_all, [first, second]) = directories();
        let chain = Chain::goes_on(open(&second), Some(&first)).unwrap();
        assert!(!has_ended(&first));
        chain.end();
        assert!(has_ended(&first));
        assert!(!has_ended(&second));

        // Not by one that fails in its turn.
        let again = Chain::goes_on(open(&first), None).unwrap();
        assert!(has_ended(&first));
        again.end();
        assert!(has_ended(&first));
        Chain::goes_on(open(&first), None).unwrap().succeeded();
        assert!(!has_ended(&first));
    }

    #[test]
    fn a_failed_dump_in_the_place_of_older_images_ends_their_chain() {
        let (_all, [first, _]) = directories();
        let chain = Chain::goes_on(open(&first), None).unwrap();
        assert!(!has_ended(&first));
        chain.end();
        assert!(has_ended(&first));
    }

    #[test]
    fn a_parent_that_cannot_be_opened_for_its_mark_is_an_error_and_none_is_not() {
        let (all, [first, _]) = directories();
        let none = all.path().join("none");
        Chain::goes_on(open(&first), Some(&none)).unwrap().end();
        let link = all.path().join("link");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        Chain::goes_on(open(&first), Some(&link)).unwrap_err();
    }
}
