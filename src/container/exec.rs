//! Exec: adds one more process, to be started by Start.

use stasis_proc::ExecConfig;

use super::{Error, Result, Shared, lock};
use crate::events::Event;

impl Shared {
    /// Adds an exec process.
    ///
    /// # Errors
    /// If the id is taken or empty, the container does not run, or the streams are of a kind that
    /// is not supported.
    pub async fn exec(&self, config: ExecConfig) -> Result<()> {
        let id = config.id.clone();
        if id.is_empty() {
            let wanted = "an exec needs an id of its own";
            return Err(Error::Invalid {
                what: "exec id",
                value: id,
                wanted,
            });
        }
        if id == self.id || lock(&self.execs).contains_key(&id) {
            return Err(Error::Exists { what: "exec", id });
        }
        let exec = self.init.exec(config)?;
        lock(&self.execs).insert(id.clone(), exec);
        self.publish(Event::ExecAdded { exec: id });
        Ok(())
    }
}
