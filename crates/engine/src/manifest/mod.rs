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
mod seal;
mod verify;

#[cfg(test)]
mod tests;

pub use document::{File, Manifest};
pub use error::Error;
pub use seal::{Parts, reserve_room, seal};
pub use verify::verify;

/// The name of the manifest in the image directory.
pub const NAME: &str = "stasis.json";

/// The length of the longest manifest that is written or read: of a hundred thousand files, of
/// which CRIU writes seven for a process of one thread.
const CAP: u64 = 16 << 20;

/// The format that this release writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;
