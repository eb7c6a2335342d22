//! Descriptors are counted for the whole process, so this test is alone in its binary.

#![allow(
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

#[path = "../src/fake.rs"]
#[allow(dead_code, reason = "one test needs only some of it")]
mod fake;

use std::{fs, path::Path, sync::Arc};

use fake::FakeEngine;
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::json;
use stasis_engine::{Afterwards, Checkpoint, CheckpointOptions, Children};
use stasis_proc::{
    CreateConfig, ExecConfig, Init, InitConfig, ProcessMonitor, RestoreConfig, StdioPaths,
};
use tokio::{io::AsyncReadExt as _, net::unix::pipe, sync::mpsc::unbounded_channel, task::JoinSet};

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn fifo(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Whether anybody takes the output. Where nobody does, every exit waits a while for it.
#[derive(Clone, Copy)]
enum Client {
    Reads,
    IsAbsent,
}

/// The client's ends of the streams.
struct Streams {
    client: Client,
    readers: JoinSet<String>,
}

impl Streams {
    fn of(client: Client) -> Self {
        Self {
            client,
            readers: JoinSet::new(),
        }
    }

    /// All the streams of one process, each in a FIFO of its own.
    fn make(&mut self, dir: &Path, name: &str) -> StdioPaths {
        StdioPaths {
            stdin: fifo(dir, &format!("{name}-in")),
            stdout: self.output(dir, &format!("{name}-out")),
            stderr: self.output(dir, &format!("{name}-err")),
            terminal: false,
        }
    }

    fn output(&mut self, dir: &Path, name: &str) -> String {
        let path = fifo(dir, name);
        if matches!(self.client, Client::Reads) {
            let mut reader = pipe::OpenOptions::new().open_receiver(&path).unwrap();
            self.readers.spawn(async move {
                let mut text = String::new();
                reader.read_to_string(&mut text).await.unwrap();
                text
            });
        }
        path
    }

    /// What was read, when every stream has ended.
    async fn read(self) -> String {
        let mut texts = self.readers.join_all().await;
        texts.sort_unstable();
        texts.concat()
    }
}

fn container(dir: &Path, engine: &Arc<FakeEngine>) -> Arc<Init> {
    // Nobody takes the exits: that must cost nothing.
    let (exits, _) = unbounded_channel();
    Init::new(InitConfig {
        id: "c".to_owned(),
        bundle: dir.to_owned(),
        work_dir: dir.to_owned(),
        engine: Arc::clone(engine) as _,
        monitor: ProcessMonitor::new(Children::default()),
        exits,
        io_uid: 0,
        io_gid: 0,
        sandbox: true,
        user_log: None,
        kill_all_on_exit: false,
    })
}

/// A life with everything in it, from a create to a delete.
async fn live(client: Client) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (script, written) = match client {
        Client::Reads => ("exec cat", "e\n"),
        // What outlives init holds its streams.
        Client::IsAbsent => ("cat; echo done", ""),
    };
    fs::write(dir.join("init.sh"), script).unwrap();
    let mut streams = Streams::of(client);
    let engine = FakeEngine::new();
    let init = container(dir, &engine);

    engine.fail("create");
    let mut create = |name| CreateConfig {
        stdio: streams.make(dir, name),
        restore: None,
    };
    assert!(init.create(create("one")).await.is_err());
    engine.mend("create");
    init.create(create("two")).await.unwrap();
    init.start().await.unwrap();

    for (name, fails) in [("good", false), ("bad", true)] {
        let process = json!({"args": ["sh", "-c", "echo e"]});
        let stdio = streams.make(dir, name);
        let exec = init
            .exec(ExecConfig {
                id: name.to_owned(),
                stdio,
                process,
            })
            .unwrap();
        if fails {
            engine.fail("exec");
        }
        assert_eq!(exec.start().await.is_err(), fails);
        exec.wait().await;
        exec.delete().await.unwrap();
    }

    let checkpointing = init.begin_checkpoint().unwrap();
    let request = Checkpoint {
        image: dir.to_owned(),
        work: dir.to_owned(),
        bundle: dir.to_owned(),
        options: CheckpointOptions::default(),
        afterwards: Afterwards::StaysFrozen,
    };
    checkpointing.freeze().await.unwrap();
    checkpointing.dump(&request).await.unwrap();
    checkpointing.end().await.unwrap();
    init.delete().await.unwrap();
    assert_eq!(streams.read().await, written);
}

/// A restore that fails, and one that works.
async fn restore(client: Client, fails: bool) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("init.sh"), "echo restored").unwrap();
    let engine = FakeEngine::new();
    if fails {
        engine.fail("restore");
    }
    let init = container(dir, &engine);
    let mut streams = Streams::of(client);
    let options = CheckpointOptions::default();
    let restore = Some(RestoreConfig {
        image: dir.to_owned(),
        work: dir.to_owned(),
        options,
    });
    init.create(CreateConfig {
        stdio: streams.make(dir, "c"),
        restore,
    })
    .await
    .unwrap();
    assert_eq!(init.start().await.is_err(), fails);
    init.wait().await;
    init.delete().await.unwrap();
    let written = match client {
        Client::Reads if !fails => "restored\n",
        Client::Reads | Client::IsAbsent => "",
    };
    assert_eq!(streams.read().await, written);
}

#[tokio::test(flavor = "current_thread")]
async fn whatever_becomes_of_a_container_no_descriptor_is_left() {
    let all = async |client| {
        live(client).await;
        restore(client, false).await;
        restore(client, true).await;
        // Tasks that were told to end do so when they are next run.
        tokio::task::yield_now().await;
    };
    // The first life opens what the runtime keeps for itself.
    all(Client::Reads).await;
    let before = open_descriptors();
    for _ in 0..20 {
        all(Client::Reads).await;
    }
    assert_eq!(open_descriptors(), before);
    all(Client::IsAbsent).await;
    assert_eq!(open_descriptors(), before);
}
