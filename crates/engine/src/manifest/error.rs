//! What can be wrong with an image.

use std::{io, path::PathBuf};

/// Why an image cannot be sealed or restored. A message names directory, file and way out.
#[derive(Debug, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "the one error of this module, as in `std::io`"
)]
pub enum Error {
    /// There is nothing in the directory.
    #[error("the checkpoint image {image} is empty: name the directory that a checkpoint was written to", image = image.display())]
    Empty {
        /// The directory.
        image: PathBuf,
    },
    /// The directory is no image, or a part of one.
    #[error("{image} is no checkpoint image of {engine}: it has no {missing} (and no stasis.json); take an image that {engine} made, or make it anew", image = image.display())]
    NoImage {
        /// The directory.
        image: PathBuf,
        /// The runtime that was to restore it.
        engine: &'static str,
        /// The file that each of its images has.
        missing: &'static str,
    },
    /// A file that the seal names is not there.
    #[error("the checkpoint image {image} is incomplete: {file} is missing; copy the image again, or make it anew", image = image.display())]
    Missing {
        /// The directory.
        image: PathBuf,
        /// The file.
        file: String,
    },
    /// A file has not the size that it was sealed with.
    #[error("the checkpoint image {image} is broken: {file} has {found} bytes instead of {sealed}; copy the image again, or make it anew", image = image.display())]
    Size {
        /// The directory.
        image: PathBuf,
        /// The file.
        file: String,
        /// Its size when it was sealed.
        sealed: u64,
        /// Its size now.
        found: u64,
    },
    /// A file has not the content that it was sealed with.
    #[error("the checkpoint image {image} is broken: {file} was changed (its SHA-256 is {found} instead of {sealed}); copy the image again, or make it anew", image = image.display())]
    Content {
        /// The directory.
        image: PathBuf,
        /// The file.
        file: String,
        /// Its hash when it was sealed.
        sealed: String,
        /// Its hash now.
        found: String,
    },
    /// Something in the directory is no regular file.
    #[error("{file} in the checkpoint image {image} is no regular file, and an image holds nothing else: remove it, or name another directory", image = image.display())]
    NotRegular {
        /// The directory.
        image: PathBuf,
        /// The entry.
        file: String,
    },
    /// The seal of so many files would be longer than what is read of one.
    #[error("the checkpoint image {image} has {files} files, more than stasis.json may name: checkpoint a container of fewer processes", image = image.display())]
    TooManyFiles {
        /// The directory.
        image: PathBuf,
        /// How many files are in it.
        files: usize,
    },
    /// The seal names a file outside of the directory.
    #[error("stasis.json in {image} names the file {file:?}, which is no plain name: do not trust this image", image = image.display())]
    Name {
        /// The directory.
        image: PathBuf,
        /// The name.
        file: String,
    },
    /// The seal cannot be understood.
    #[error("stasis.json in the checkpoint image {image} is broken: copy the image again, or make it anew", image = image.display())]
    Document {
        /// The directory.
        image: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The seal is of a release that knows more than this one.
    #[error("the checkpoint image {image} has format version {found}, and this release of Stasis knows {known}: restore it with a newer one", image = image.display())]
    Format {
        /// The directory.
        image: PathBuf,
        /// The version that it has.
        found: u32,
        /// The version that this release has.
        known: u32,
    },
    /// Another runtime, or another build of it, made the image.
    #[error("the checkpoint image {image} was made by {made_by} and cannot be restored by {engine}: configure the runtime that made it", image = image.display())]
    Foreign {
        /// The directory.
        image: PathBuf,
        /// What made it.
        made_by: String,
        /// What was to restore it.
        engine: String,
    },
    /// A file could not be read or written.
    #[error("cannot {step} {path}", path = path.display())]
    Io {
        /// What was done to the file.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`, as [`crate::Error::io`].
    pub(super) fn io(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }
}
