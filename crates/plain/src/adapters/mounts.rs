//! Mounts of a mount namespace of the tree's own.

use stasis_criu::{
    Options, Request,
    options::{AutoMounts, External},
};

use crate::{ProcessError, Tree, tree::Namespaces};

/// Does the tree see other mounts than this process, and so than CRIU? Only then CRIU dumps
/// mounts at all, and refuses those that come from outside unless it is told of them.
///
/// ```
/// use stasis_plain::{Tree, adapters::has_external_mounts};
///
/// assert!(!has_external_mounts(&Tree::read(std::process::id())?)?);
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
///
/// # Errors
/// If our own namespaces cannot be read.
pub fn has_external_mounts(tree: &Tree) -> Result<bool, ProcessError> {
    let ours = Namespaces::ours()?.mount;
    Ok(tree
        .processes()
        .iter()
        .filter_map(|process| process.namespaces)
        .any(|namespaces| namespaces.mount != ours))
}

/// Lets CRIU find external mounts by itself: on a dump those that follow a master outside too, on
/// a restore all that were found.
///
/// Cedana asks for `mnt[]:ms`, of which CRIU reads the first letter, and sets the same by two other
/// options, `auto_ext_mnt` and `ext_masters`, for trees without mounts of their own as well.
///
/// ```
/// use stasis_criu::{Options, Request};
/// use stasis_plain::adapters::external_mounts;
///
/// let dump = external_mounts(Options::new("/var/lib/images/1"), Request::Dump);
/// let restore = external_mounts(Options::new("/var/lib/images/1"), Request::Restore);
/// ```
#[must_use]
pub fn external_mounts(options: Options, request: Request) -> Options {
    if request == Request::Restore {
        return options.external_unless_named(External::AutoMounts(AutoMounts::Private));
    }
    options
        .external_unless_named(External::AutoMounts(AutoMounts::Sharing))
        .ext_masters(true)
}
