//! Small file systems and network namespaces for a test.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::command::Run;

/// A tmpfs that goes away with its value: before the test's host, which looks for mounts.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// A tmpfs at a new directory, with mount options such as `size=64k` or `ro`.
    pub fn mount(parent: &Path, name: &str, options: &str) -> Self {
        let path = parent.join(name);
        std::fs::create_dir(&path).expect("a new directory");
        let (read_only, data): (Vec<_>, Vec<_>) = options.split(',').partition(|o| *o == "ro");
        let flags = if read_only.is_empty() {
            MountFlags::empty()
        } else {
            MountFlags::RDONLY
        };
        let data = std::ffi::CString::new(data.join(",")).expect("no zero byte");
        mount("tmpfs", &path, "tmpfs", flags, &*data).expect("the lab may mount");
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Detached: after a failed checkpoint runsc keeps its image files open while it lives.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// A network namespace with only `lo`, as a CNI plugin would have made it.
#[derive(Debug)]
pub struct NetworkNamespace {
    name: String,
}

impl NetworkNamespace {
    /// A new one.
    pub fn add(name: &str) -> Self {
        Run::new(&format!("ip netns add {name}")).ok();
        Run::new(&format!("ip -n {name} link set lo up")).ok();
        Self {
            name: name.to_owned(),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        Run::new(&format!("ip netns delete {}", self.name)).run();
    }
}
