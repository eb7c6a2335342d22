//! Bundles as containerd makes them, for a shim that is driven without containerd.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use containerd_shim_protos::api::Mount;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use super::command::Run;

/// The programs that containers in these tests run.
const APPLETS: [&str; 7] = ["cat", "echo", "grep", "nc", "sh", "sleep", "true"];

/// A bundle: the shim's working directory, and what belongs to it.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The container's id.
    pub id: String,
    /// Where it is, on a tmpfs as containerd has it.
    pub directory: PathBuf,
    /// What the container has at `/data`, on a disk.
    pub data: PathBuf,
    /// The layers of its root file system, on a disk.
    pub layers: PathBuf,
    /// What the shim has logged.
    pub log: PathBuf,
    /// Holds the FIFO of the log open: its copy ends when the last writer has gone.
    fifo: Option<Arc<File>>,
}

impl Bundle {
    /// A bundle for a container of `command`, in the test `name` whose files are in `disk`.
    pub fn make(name: &str, disk: &Path, id: &str, command: &[&str]) -> Self {
        let directory = Path::new("/run").join(name).join(id);
        let layers = disk.join(format!("layers-{id}"));
        let mut bundle = Self {
            id: id.to_owned(),
            data: disk.join(format!("data-{id}")),
            log: disk.join(format!("shim-{id}.log")),
            directory,
            layers,
            fifo: None,
        };
        make_image(&bundle.layers.join("lower"));
        for layer in ["upper", "work"] {
            fs::create_dir_all(bundle.layers.join(layer)).expect("a disk to write to");
        }
        fs::create_dir_all(&bundle.data).expect("a disk to write to");
        bundle.lay_out(disk);
        bundle.write_spec(&bundle.spec(name, command));
        bundle
    }

    /// The same container in a new bundle, after the first one's shim has gone.
    pub fn make_again(&self, disk: &Path) -> Self {
        let spec = fs::read(self.directory.join("config.json")).expect("a bundle has a spec");
        fs::remove_dir_all(&self.directory).expect("nothing is mounted in a bundle that is done");
        let mut again = self.clone();
        again.lay_out(disk);
        fs::write(self.directory.join("config.json"), spec).expect("room");
        again
    }

    /// Where the image's and the container's files come together.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// The root file system's mount, as a snapshotter gives it.
    pub fn overlay(&self) -> Mount {
        let layer = |name: &str| self.layers.join(name).display().to_string();
        let options = [
            ("lowerdir", "lower"),
            ("upperdir", "upper"),
            ("workdir", "work"),
        ];
        Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: options
                .map(|(option, name)| format!("{option}={}", layer(name)))
                .into(),
            ..Mount::default()
        }
    }

    /// Changes the spec.
    pub fn edit_spec(&self, edit: impl FnOnce(&mut Value)) {
        let text = fs::read(self.directory.join("config.json")).expect("a bundle has a spec");
        let mut spec = serde_json::from_slice(&text).expect("we wrote it");
        edit(&mut spec);
        self.write_spec(&spec);
    }

    fn write_spec(&self, spec: &Value) {
        fs::write(self.directory.join("config.json"), spec.to_string()).expect("room");
    }

    fn lay_out(&mut self, disk: &Path) {
        let work = disk.join(format!("work-{}", self.id));
        let _ = fs::remove_dir_all(&work);
        for directory in [&self.rootfs(), &work] {
            fs::create_dir_all(directory).expect("a new directory");
        }
        symlink(&work, self.directory.join("work")).expect("a new link");
        let fifo = self.directory.join("log");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a new FIFO");
        let held = File::options().read(true).write(true).open(&fifo);
        self.fifo = Some(Arc::new(held.expect("our FIFO")));
        let mut reader = File::open(&fifo).expect("our FIFO");
        let log = File::options().create(true).append(true).open(&self.log);
        let mut log = log.expect("a disk to write to");
        thread::spawn(move || std::io::copy(&mut reader, &mut log));
    }

    /// What ctr of this release gives a container, and our data directory.
    fn spec(&self, name: &str, command: &[&str]) -> Value {
        let text = Run::new("ctr oci spec").ok();
        let mut spec: Value = serde_json::from_str(&text).expect("ctr writes JSON");
        spec["process"]["args"] = json!(command);
        spec["process"]["env"] = json!(["PATH=/bin"]);
        spec["root"] = json!({ "path": "rootfs" });
        spec["linux"]["cgroupsPath"] = json!(format!("/{name}/{}", self.id));
        let data = json!({
            "destination": "/data", "type": "bind", "source": self.data,
            "options": ["rbind", "rw"],
        });
        spec["mounts"]
            .as_array_mut()
            .expect("ctr gives mounts")
            .push(data);
        spec
    }
}

fn make_image(lower: &Path) {
    let bin = lower.join("bin");
    fs::create_dir_all(&bin).expect("a disk to write to");
    fs::copy("/usr/bin/busybox", bin.join("busybox")).expect("the lab has a static busybox");
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("a new link");
    }
}
