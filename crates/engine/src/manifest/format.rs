//! Names and limits of the format.

/// The name of the manifest in the image directory.
pub const NAME: &str = "stasis.json";

/// The length of the longest manifest that is written or read: of a hundred thousand files, of
/// which CRIU writes seven for a process of one thread.
pub(super) const CAP: u64 = 16 << 20;

/// The format that this release writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Where the manifest is written before it is renamed.
pub(super) const ASIDE: &str = ".stasis.json.part";
