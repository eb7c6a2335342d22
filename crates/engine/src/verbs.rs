//! The verbs that runsc, runc and crun take alike, and whose answers mean the same.
//!
//! Where an engine has more to say of one, it says it around the call here.

use std::path::Path;

use nix::unistd::Pid;
use serde_json::Value;

use crate::{
    answer,
    calls::EngineState,
    command::Runtime,
    error::{Error, Result},
};

impl Runtime {
    pub(crate) async fn start(&self, id: &str) -> Result<()> {
        let call = self.call("start", self.timeouts.start);
        call.arg(id).run().await.map(drop)
    }

    /// `knows` says whether the runtime keeps anything of the container: none of them says in
    /// another way than words that it failed because there is no such container.
    pub(crate) async fn delete(
        &self,
        id: &str,
        force: bool,
        knows: impl FnOnce() -> Result<bool> + Send,
    ) -> Result<()> {
        let call = self
            .call("delete", self.timeouts.delete)
            .flag("--force", force);
        match call.arg(id).run().await {
            // CRIU has ended it at the end of a dump, for instance.
            Err(Error::Failed { .. }) if !knows()? => Ok(()),
            result => result.map(drop),
        }
    }

    /// `knows` as for [`Runtime::delete`].
    pub(crate) async fn state(
        &self,
        id: &str,
        knows: impl FnOnce() -> Result<bool> + Send,
    ) -> Result<EngineState> {
        let call = self.call("state", self.timeouts.state);
        match call.arg(id).run().await {
            Err(Error::Failed { .. }) if !knows()? => Err(Error::NoSuchContainer {
                engine: self.identity.kind,
                id: id.to_owned(),
            }),
            printed => answer::state(self.identity.kind, &printed?),
        }
    }

    pub(crate) async fn processes(&self, id: &str) -> Result<Vec<i32>> {
        let call = self
            .call("ps", self.timeouts.state)
            .option("--format", "json");
        answer::pids(self.identity.kind, &call.arg(id).run().await?)
    }

    pub(crate) async fn pause(&self, id: &str) -> Result<()> {
        let call = self.call("pause", self.timeouts.pause);
        call.arg(id).run().await.map(drop)
    }

    pub(crate) async fn resume(&self, id: &str) -> Result<()> {
        let call = self.call("resume", self.timeouts.resume);
        call.arg(id).run().await.map(drop)
    }

    pub(crate) async fn features(&self) -> Result<Option<Value>> {
        match self.call("features", self.timeouts.state).run().await {
            Err(error) if answer::knows_no_such_command(&error) => Ok(None),
            printed => answer::features(self.identity.kind, &printed?).map(Some),
        }
    }

    /// The pid in the file that `verb` was told to write.
    pub(crate) fn pid(&self, verb: &'static str, file: &Path) -> Result<Pid> {
        answer::pid_file(self.identity.kind, verb, file).map(Pid::from_raw)
    }

    /// The refusal of what this release does not have.
    pub(crate) fn unsupported(&self, what: String, advice: &str) -> Error {
        Error::Unsupported {
            engine: self.identity.kind,
            version: self.identity.version.to_string(),
            what,
            advice: advice.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Kind,
        calls::{EngineStatus, Signal, Target},
        fake::{Fake, PID},
    };

    const VERSIONS: [&str; 5] = [
        "runc version 1.3.6+ds1",
        "runc version 1.1.15+ds1",
        "crun version 1.28",
        "runsc version VERSION_MISSING",
        "runsc version 0.0~20240729.0",
    ];

    /// The options before the verb.
    fn globals(fake: &Fake) -> &'static str {
        match fake.engine.kind() {
            Kind::Runsc => "--root=DIR/root --log=DIR/bundle/log.json --log-format=json ",
            Kind::Runc | Kind::Crun => {
                "--root DIR/root --log DIR/bundle/log.json --log-format json "
            }
        }
    }

    #[tokio::test]
    async fn every_runtime_takes_them_by_the_same_command_line() {
        for version in VERSIONS {
            let fake = Fake::new(version).await;
            let engine = &fake.engine;
            let last = || fake.last(globals(&fake));
            fake.on("state", r#"echo '{"status": "running", "pid": 1}'"#);
            fake.on("ps", "echo '[1,2]'");
            fake.on("features", "echo '{}'");
            let init = Pid::from_raw(PID);
            let term = Signal::new(15).expect("a signal");

            engine.start("c").await.expect("works");
            assert_eq!(last(), "start c");
            for (target, line) in [
                (Target::Init(init), "kill c 15"),
                (Target::All(init), "kill --all c 15"),
            ] {
                fake.kill(term, target).await.expect("works");
                assert_eq!(last(), line);
            }
            for (force, line) in [(false, "delete c"), (true, "delete --force c")] {
                engine.delete("c", force).await.expect("works");
                assert_eq!(last(), line);
            }
            let state = engine.state("c").await.expect("works");
            assert_eq!(
                (state.status, state.pid),
                (EngineStatus::Running, Some(Pid::from_raw(1)))
            );
            assert_eq!(last(), "state c");
            assert_eq!(engine.processes("c").await.expect("works"), [1, 2]);
            assert_eq!(last(), "ps --format json c");
            engine.pause("c", Pid::this()).await.expect("works");
            assert_eq!(last(), "pause c");
            engine.resume("c").await.expect("works");
            assert_eq!(last(), "resume c");
            assert!(engine.features().await.expect("works").is_some());
            assert_eq!(last(), "features");
        }
    }
}
