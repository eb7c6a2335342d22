//! The end of a chain of images.
//!
//! An image with a parent has what changed since the parent was made, as the kernel tracked it
//! (soft-dirty). CRIU has the kernel begin anew as soon as it has mapped the pages out, long before
//! they are written: if a dump fails or is cancelled then, what changed until then is in no image,
//! and one with the same parent would be restored without it, in silence (seen of CRIU 4.1.1 in 6 of
//! 10 pre-dumps cancelled at random instants). So the parent is marked, and refused as a parent
//! from then on. It can be restored as before.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};

/// The mark: a file beside the images, which CRIU does not look at.
pub(crate) const MARK: &str = "stasis-no-parent";
/// What whoever comes upon it is told.
const TEXT: &str = "A dump with these images as its parent failed after the kernel had begun to \
                    track changes anew. What changed before is in no image: the next dump has to \
                    be one without a parent. These images can be restored as before.\n";

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether no image may follow those in `directory`.
pub(crate) fn has_ended(directory: &Path) -> bool {
    directory.join(MARK).exists()
}

/// What a dump that has the kernel track changes anew would break if it failed.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The images that it follows.
    parent: Option<OwnedFd>,
}

impl Chain {
    /// A dump into `images`, upon the images in `parent`. What is made in `images` can be followed
    /// again, whatever was there before.
    pub fn goes_on(images: Option<&impl AsFd>, parent: Option<&Path>) -> Self {
        if let Some(images) = images {
            // Where it cannot be removed nothing can be written.
            let _ = unlinkat(images, MARK, AtFlags::empty());
        }
        let open = |parent| openat(CWD, parent, DIRECTORY, Mode::empty()).ok();
        Self {
            parent: parent.and_then(open),
        }
    }

    /// The dump failed: nothing may follow its parent.
    pub fn end(&self) {
        let Some(parent) = &self.parent else { return };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let marked = openat(parent, MARK, flags, mode)
            .map_err(io::Error::from)
            .and_then(|file| File::from(file).write_all(TEXT.as_bytes()));
        if let Err(error) = marked {
            // The caller is told anyway that nothing may follow it.
            tracing::warn!(%error, "cannot mark the parent of a failed dump");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_failed_dump_ends_the_chain_at_its_parent_until_that_is_made_anew() {
        let all = tempfile::tempdir().unwrap();
        let [first, second] = ["1", "2"].map(|name| all.path().join(name));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        let open = |path| File::open(path).unwrap();

        let chain = Chain::goes_on(Some(&open(&second)), Some(&first));
        assert!(!has_ended(&first));
        chain.end();
        assert!(has_ended(&first));
        assert!(!has_ended(&second));

        Chain::goes_on(Some(&open(&first)), None).end();
        assert!(!has_ended(&first));
    }
}
