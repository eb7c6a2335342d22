//! The manifest of a checkpoint image, `stasis.json`: the seal that marks an image whole.
//!
//! An image is a flat directory of regular files, as containerd tars it. The manifest is written
//! last ([`seal()`]): aside, and then renamed, so that an image has a whole one or none. A restore
//! checks the image by it before anything is made ([`verify()`]).
//!
//! Every file has its size here, and all but the page files their SHA-256: hashing a gigabyte
//! costs more than dumping it, and a truncated page file shows by its size. `checkpoint.img` of
//! runsc is hashed up to a cap, since it holds the pages too where runsc compressed them.
//!
//! Images are input from outside: nothing is read without a cap, no link is followed, and no name
//! leaves the directory.

mod document;
mod error;
mod files;
mod format;
mod seal;
mod verify;

#[cfg(test)]
mod tests;

pub use document::{File, Manifest, Phase};
pub use error::Error;
pub use format::{FORMAT_VERSION, NAME};
pub use seal::{Parts, reserve_room, seal};
pub use verify::verify;
