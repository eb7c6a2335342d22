//! Start: the container's init, a restore, or an exec.

use containerd_shim_protos::events::task::{TaskExecStarted, TaskStart};
use nix::unistd::Pid;

use super::{Process, Result, Shared, lock, pid_number};

impl Shared {
    /// Starts init (which restores the container if it was created from a checkpoint) or an
    /// exec, and announces it before its exit can be.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub async fn start(&self, exec: &str) -> Result<Pid> {
        let process = self.process(exec)?;
        let id = if exec.is_empty() {
            self.id.as_str()
        } else {
            exec
        };
        lock(&self.order).starting(id);
        let started = match &process {
            Process::Init(init) => init.start().await,
            Process::Exec(exec) => exec.start().await,
        };
        let free = match &started {
            Ok(pid) => {
                self.announce_start(exec, *pid);
                lock(&self.order).started(id)
            }
            Err(_) => lock(&self.order).not_started(id),
        };
        self.publish_exits(free);
        Ok(started?)
    }

    fn announce_start(&self, exec: &str, pid: Pid) {
        let (container_id, pid) = (self.id.clone(), pid_number(Some(pid)));
        if exec.is_empty() {
            let event = TaskStart {
                container_id,
                pid,
                ..TaskStart::default()
            };
            self.publisher.publish(&event);
        } else {
            let exec_id = exec.to_owned();
            let event = TaskExecStarted {
                container_id,
                exec_id,
                pid,
                ..TaskExecStarted::default()
            };
            self.publisher.publish(&event);
        }
    }
}
