//! Which containers runsc knows, and which it would take an id for.
//!
//! It reads an id as the beginning of one, and an exact match is no better to it than any.

use std::{fs, io};

use super::Runsc;
use crate::error::{Error, Result};

impl Runsc {
    /// Whether runsc has a state file of the container.
    pub(super) fn knows(&self, id: &str) -> Result<bool> {
        Ok(self.ids()?.iter().any(|known| known == id))
    }

    /// The containers of which runsc has a state file: `ID_sandbox:SANDBOX.state`.
    fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("list", &self.root))?,
        };
        let id = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let (id, _) = name.strip_suffix(".state")?.split_once("_sandbox:")?;
            Some(id.to_owned())
        };
        Ok(entries.flatten().filter_map(id).collect())
    }

    /// Refuses an id that runsc could take for another's. With both there, no call on the
    /// shorter succeeds, and after its end they would reach the longer.
    pub(super) fn check_id(&self, id: &str) -> Result<()> {
        let alike = |known: &String| {
            known != id && (known.starts_with(id) || id.starts_with(known.as_str()))
        };
        let Some(known) = self.ids()?.into_iter().find(alike) else {
            return Ok(());
        };
        let what = format!("container {id} beside {known}: it takes the beginning of an id for it");
        let advice = "use ids of which none begins like another, such as ids of one length";
        Err(self.runtime.unsupported(what, advice))
    }

    /// Whether runsc, told this id, would take another container for it: the one is gone, and
    /// there is one whose id begins like it.
    pub(super) fn would_reach_another(&self, id: &str) -> Result<bool> {
        let known = self.ids()?;
        Ok(!known.iter().any(|known| known == id)
            && known.iter().any(|known| known.starts_with(id)))
    }
}
