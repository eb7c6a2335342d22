//! Which containers runsc knows, and which it would take an id for.
//!
//! It reads an id as the beginning of one, and an exact match is no better to it than any.

use std::{fs, io, path::Path};

use crate::error::{Error, Result};

/// Whether runsc has a state file of the container.
pub(super) fn knows(root: &Path, id: &str) -> Result<bool> {
    Ok(ids(root)?.iter().any(|known| known == id))
}

/// The containers of which runsc has a state file: `ID_sandbox:SANDBOX.state`.
fn ids(root: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", root))?,
    };
    let id = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (id, _) = name.strip_suffix(".state")?.split_once("_sandbox:")?;
        Some(id.to_owned())
    };
    Ok(entries.flatten().filter_map(id).collect())
}

/// A container that runsc could take for this one, or this one for. With both there, no call on
/// the shorter succeeds, and after its end they would reach the longer.
pub(super) fn alike(root: &Path, id: &str) -> Result<Option<String>> {
    let alike =
        |known: &String| known != id && (known.starts_with(id) || id.starts_with(known.as_str()));
    Ok(ids(root)?.into_iter().find(alike))
}

/// Whether runsc, told this id, would take another container for it: the one is gone, and there
/// is one whose id begins like it.
pub(super) fn would_reach_another(root: &Path, id: &str) -> Result<bool> {
    let known = ids(root)?;
    Ok(!known.iter().any(|known| known == id) && known.iter().any(|known| known.starts_with(id)))
}
