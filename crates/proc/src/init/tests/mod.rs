//! The life of a container over an engine whose containers are shell scripts.

mod checkpoint;
mod exec;
mod life;
mod streams;

use std::{fs, path::Path, sync::Arc};

use nix::{
    sys::{
        signal::{Signal as NixSignal, kill},
        stat::Mode,
    },
    unistd::mkfifo,
};
use serde_json::json;
use stasis_engine::{Afterwards, Checkpoint, CheckpointOptions, Engine, Signal};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};

use super::*;
use crate::{
    ErrorKind, Exec, ExecConfig, Exit, NO_STATUS, ProcessMonitor, Result, Status, StdioPaths,
    fake::FakeEngine,
};

/// A container called `c`, with everything around it.
struct Fixture {
    dir: TempDir,
    engine: Arc<FakeEngine>,
    exits: UnboundedReceiver<Exit>,
    init: Arc<Init>,
}

impl Fixture {
    fn new(script: &str) -> Self {
        Self::with(script, false)
    }

    fn with(script: &str, kill_all_on_exit: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("init.sh"), script).unwrap();
        let engine = FakeEngine::new();
        let (sender, exits) = unbounded_channel();
        let init = Init::new(InitConfig {
            id: "c".to_owned(),
            bundle: dir.path().to_owned(),
            work_dir: dir.path().join("work"),
            engine: Arc::clone(&engine) as Arc<dyn Engine>,
            monitor: ProcessMonitor::new(stasis_engine::Children::default()),
            exits: sender,
            io_uid: 0,
            io_gid: 0,
            sandbox: true,
            user_log: None,
            kill_all_on_exit,
        });
        Self {
            dir,
            engine,
            exits,
            init,
        }
    }

    /// One that runs until it is killed.
    async fn running() -> Self {
        let fixture = Self::new("exec sleep 1000");
        fixture.init.create(CreateConfig::default()).await.unwrap();
        fixture.init.start().await.unwrap();
        fixture
    }

    /// One that was created from a checkpoint.
    async fn pending(script: &str) -> Self {
        let fixture = Self::new(script);
        let restore = Some(fixture.restore_config());
        fixture
            .init
            .create(CreateConfig {
                restore,
                ..CreateConfig::default()
            })
            .await
            .unwrap();
        fixture
    }

    fn restore_config(&self) -> RestoreConfig {
        RestoreConfig {
            image: "/image".into(),
            work: self.dir.path().to_owned(),
            options: CheckpointOptions::default(),
        }
    }

    fn checkpoint(&self, afterwards: Afterwards) -> Checkpoint {
        Checkpoint {
            image: "/image".into(),
            work: self.dir.path().to_owned(),
            bundle: self.dir.path().to_owned(),
            options: CheckpointOptions::default(),
            afterwards,
        }
    }

    fn fifo(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn exec(&self, id: &str, script: &str) -> Result<Arc<Exec>> {
        self.init.exec(config(id, script))
    }

    /// The files of the bundle that are not the fixture's.
    fn files(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| name(entry.unwrap()))
            .collect();
        names.retain(|name| name != "init.sh" && name != "go");
        names
    }

    async fn die(&self) {
        self.init.kill(Signal::KILL).await.unwrap();
        assert_eq!(self.init.wait().await.status, 137);
    }
}

/// An exec of a script, without streams.
fn config(id: &str, script: &str) -> ExecConfig {
    ExecConfig {
        id: id.to_owned(),
        stdio: StdioPaths::default(),
        process: json!({"terminal": true, "args": ["sh", "-c", script]}),
    }
}

fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("is refused").to_string()
}

/// Opens a FIFO for reading, as a client does before it asks for anything.
fn reader(path: &str) -> fs::File {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .unwrap()
}

/// Reads to the end, in a thread of its own.
async fn read_to_end(mut reader: fs::File) -> String {
    use std::io::Read as _;
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::empty()).unwrap();
    let read = move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text).unwrap()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}
