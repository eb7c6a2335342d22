//! Start: the container's init, a restore, or an exec.

use super::{ProcessRef, Result, Shared, lock, pid_number};
use crate::events::Event;

impl Shared {
    /// Starts init (which restores the container if it was created from a checkpoint) or an
    /// exec, and announces it before its exit can be.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub async fn start(&self, exec: &str) -> Result<u32> {
        let process = self.process(exec)?;
        let id = if exec.is_empty() {
            self.id.as_str()
        } else {
            exec
        };
        lock(&self.order).starting(id);
        let started = match &process {
            ProcessRef::Init(init) => init.start().await,
            ProcessRef::Exec(exec) => exec.start().await,
        };
        let free = match &started {
            Ok(pid) => {
                self.announce_start(exec, pid_number(Some(*pid)));
                lock(&self.order).started(id)
            }
            Err(_) => lock(&self.order).not_started(id),
        };
        self.publish_exits(free);
        Ok(pid_number(Some(started?)))
    }

    fn announce_start(&self, exec: &str, pid: u32) {
        self.publish(if exec.is_empty() {
            Event::Started { pid }
        } else {
            let exec = exec.to_owned();
            Event::ExecStarted { exec, pid }
        });
    }
}
