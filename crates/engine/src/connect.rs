//! From a binary to the engine that drives it.

use std::sync::Arc;

use crate::{
    engine::Engine,
    error::Result,
    identify::identify,
    identity::{Identity, Kind},
    runc::Runc,
    runsc::Runsc,
    settings::Settings,
};

/// Asks the binary what it is, and gives the engine for it.
///
/// # Errors
/// If the binary is missing, cannot be run or is no runtime that this crate drives.
pub async fn connect(settings: Settings) -> Result<Arc<dyn Engine>> {
    let identity = identify(&settings.binary, &settings.children).await?;
    Ok(connect_as(identity, settings))
}

/// Gives the engine for a binary that was asked before, as one whose settings depend on the
/// answer is. [`Settings::binary`] has no further say.
#[must_use]
pub fn connect_as(identity: Identity, settings: Settings) -> Arc<dyn Engine> {
    match identity.kind {
        Kind::Runsc => Arc::new(Runsc::connected(identity, settings)),
        Kind::Runc | Kind::Crun => Arc::new(Runc::connected(identity, settings)),
    }
}
