//! Exec processes in the container of a [`Shim`].

use std::path::Path;

use containerd_shim_protos::{api, protobuf::well_known_types::any::Any, ttrpc};
use serde_json::json;

use super::shim::Shim;

impl Shim {
    /// Exec of `command`, which is only taken note of.
    pub fn exec(&self, exec_id: &str, terminal: bool, command: &[&str]) -> ttrpc::Result<()> {
        let request = self.exec_request(exec_id, terminal, command);
        self.task().exec(self.context(), &request).map(drop)
    }

    /// The same with a FIFO for its output.
    pub fn exec_to(&self, stdout: &Path, exec_id: &str, command: &[&str]) -> ttrpc::Result<()> {
        let request = api::ExecProcessRequest {
            stdout: stdout.display().to_string(),
            ..self.exec_request(exec_id, false, command)
        };
        self.task().exec(self.context(), &request).map(drop)
    }

    fn exec_request(
        &self,
        exec_id: &str,
        terminal: bool,
        command: &[&str],
    ) -> api::ExecProcessRequest {
        let process = json!({
            "args": command, "env": ["PATH=/bin"], "cwd": "/", "user": { "uid": 0, "gid": 0 },
            "terminal": terminal,
        });
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: process.to_string().into_bytes(),
            ..Any::default()
        };
        api::ExecProcessRequest {
            id: self.id(),
            exec_id: exec_id.into(),
            terminal,
            spec: Some(spec).into(),
            ..Default::default()
        }
    }

    /// Start of an exec.
    pub fn start_exec(&self, exec_id: &str) -> ttrpc::Result<u32> {
        let exec_id = exec_id.to_owned();
        let request = api::StartRequest {
            id: self.id(),
            exec_id,
            ..Default::default()
        };
        self.task()
            .start(self.context(), &request)
            .map(|response| response.pid)
    }

    /// Wait for an exec's end. Its exit status.
    pub fn wait_exec(&self, exec_id: &str) -> ttrpc::Result<u32> {
        let exec_id = exec_id.to_owned();
        let request = api::WaitRequest {
            id: self.id(),
            exec_id,
            ..Default::default()
        };
        self.task()
            .wait(self.context(), &request)
            .map(|response| response.exit_status)
    }

    /// Delete of an exec. Its exit status.
    pub fn delete_exec(&self, exec_id: &str) -> ttrpc::Result<u32> {
        let exec_id = exec_id.to_owned();
        let request = api::DeleteRequest {
            id: self.id(),
            exec_id,
            ..Default::default()
        };
        self.task()
            .delete(self.context(), &request)
            .map(|response| response.exit_status)
    }
}
