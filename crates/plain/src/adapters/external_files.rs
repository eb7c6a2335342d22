//! Open files that are of no mount the tree sees.

use std::collections::HashSet;

use stasis_criu::options::External;

use crate::{FileKind, Tree};

/// The files that CRIU could not find again: opened by a path, over a mount that no process of the
/// tree sees, so that the path means nothing in there. Each becomes `external file[..]`, and comes
/// back by a descriptor that is handed over on restore.
///
/// They are to be looked for again when the tree is frozen (the hook `query-ext-files`), since a
/// running program may open one behind the first look: [`DumpPlan::externals`] does that.
///
/// Cedana does the same, but takes every path that begins with "pipe", "socket" or "anon_inode" for
/// something without a path. Here a file is what the kernel says that it is. Terminals are the
/// matter of [`Terminals`](super::Terminals).
///
/// ```
/// use stasis_criu::Options;
/// use stasis_plain::{Tree, adapters::external_files};
///
/// let mut options = Options::new("/var/lib/images").pid(std::process::id());
/// for file in external_files(&Tree::read(std::process::id())?) {
///     options = options.external(file);
/// }
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
///
/// [`DumpPlan::externals`]: crate::DumpPlan::externals
#[must_use]
pub fn external_files(tree: &Tree) -> Vec<External> {
    let mut seen = HashSet::new();
    tree.files()
        .filter(|(_, file)| file.has_path() && file.kind != FileKind::Terminal)
        .filter_map(|(_, file)| Some((file.mount_id?, file.inode)))
        .filter(|(mount, inode)| !tree.has_mount(*mount) && seen.insert((*mount, *inode)))
        .map(|(mount, inode)| External::File { mount, inode })
        .collect()
}
