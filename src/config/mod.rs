//! The configuration: `config.toml` and the options of the request, as one [`Config`].
//!
//! Contract: [`Config::resolve`] takes whatever the options of a request come to, under whichever
//! name the shim runs. What the options set wins over the file, the file over the defaults;
//! a key that we do not know is an error that names it. Nothing here looks at the
//! machine beyond the configuration file: whether a binary exists is the engine's to say.
//!
//! The keys of the file are in [`mod@file`], what options can ask for in [`options`]. The checkpoint
//! options of a request are not configuration: see the checkpoint's plan.

mod duration;
mod error;
mod file;
mod options;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use log::LevelFilter;
use stasis_engine::{
    CheckpointOptions, Children, Engine, Kind, Settings, Timeouts, connect_as, identify::identify,
};

use self::file::File;
pub use self::{
    error::Error,
    options::{RequestedConfig, RuncOptions},
};
use crate::invoked_as::InvokedAs;

/// Where runsc keeps its state unless told otherwise: where gVisor's shim has it.
const RUNSC_ROOT: &str = "/run/containerd/runsc";

/// Where runc and crun keep theirs: where containerd's runc shim has it.
const RUNC_ROOT: &str = "/run/containerd/runc";

/// The file that is read where the request names none.
const OWN_FILE: &str = "/etc/containerd/stasis/config.toml";

/// Where gVisor's shim looks (`pkg/shim/v1/runsc/options.go`), CRI-O's place in the bundle last.
const GVISORS_FILES: [&str; 3] = [
    "/run/containerd/runsc/config.toml",
    "/etc/containerd/runsc/config.toml",
    "config.toml",
];

/// The configuration of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The runtime binary, a name or a path.
    pub binary_name: String,
    /// The runtime's root without the namespace, if one was set: see [`Config::runtime_root`].
    pub root: Option<PathBuf>,
    /// Flags for every call of runsc, without the dashes.
    pub runsc_config: BTreeMap<String, String>,
    /// Whether runc and crun leave cgroups to systemd.
    pub systemd_cgroup: bool,
    /// Whether runc and crun change the root by chroot, for a root on a ramdisk.
    pub no_pivot_root: bool,
    /// Whether runc and crun leave the session keyring as it is.
    pub no_new_keyring: bool,
    /// The owner of the pipes that a container gets as its standard streams.
    pub io_uid: u32,
    /// The group of those pipes.
    pub io_gid: u32,
    /// The cgroup that the shim joins.
    pub shim_cgroup: Option<String>,
    /// Where an image to restore from is, if Create names none.
    pub criu_image_path: Option<PathBuf>,
    /// Where CRIU's logs of a restore go, if not into the bundle.
    pub criu_work_path: Option<PathBuf>,
    /// How much is logged, if it was set.
    pub log_level: Option<LevelFilter>,
    /// A file that gets a copy of the log; a directory, where it ends in a slash.
    pub log_path: Option<PathBuf>,
    /// The deadlines of engine calls.
    pub timeouts: Timeouts,
    /// The defaults of a checkpoint's options.
    pub checkpoint: CheckpointOptions,
}

impl Default for Config {
    /// What holds where neither file nor request says anything, under our own name.
    fn default() -> Self {
        Self::from_file(File::default(), &InvokedAs::new(OsStr::new("")))
    }
}

impl Config {
    /// Reads the file that the options of the request name, or the default one.
    ///
    /// # Errors
    /// If the file cannot be read or understood.
    pub fn resolve(invoked_as: &InvokedAs, requested: RequestedConfig) -> Result<Self, Error> {
        let mut places = vec![Path::new(OWN_FILE)];
        if invoked_as.is_gvisors() {
            places.extend(GVISORS_FILES.map(Path::new));
        }
        Self::resolve_with(invoked_as, requested, &places)
    }

    fn resolve_with(
        invoked_as: &InvokedAs,
        requested: RequestedConfig,
        places: &[&Path],
    ) -> Result<Self, Error> {
        let file = match &requested {
            RequestedConfig::File(path) => File::read(path)?,
            RequestedConfig::Inline(body) => File::parse_inline(body)?,
            RequestedConfig::Default | RequestedConfig::Runc(_) => File::read_first(places)?,
        };
        let mut config = Self::from_file(file, invoked_as);
        if let RequestedConfig::Runc(options) = requested {
            config.apply(*options);
        }
        Ok(config)
    }

    /// The runtime's root for the containers of `namespace`.
    #[must_use]
    pub fn runtime_root(&self, namespace: &str, kind: Kind) -> PathBuf {
        let default = match kind {
            Kind::Runsc => RUNSC_ROOT,
            Kind::Runc | Kind::Crun => RUNC_ROOT,
        };
        self.root
            .as_deref()
            .unwrap_or_else(|| Path::new(default))
            .join(namespace)
    }

    /// Asks the runtime binary what it is and gives the engine for a container in `bundle`.
    ///
    /// # Errors
    /// If the binary is missing, or is none of the runtimes that we drive.
    pub async fn connect(
        &self,
        namespace: &str,
        bundle: &Path,
        children: Children,
    ) -> stasis_engine::Result<Arc<dyn Engine>> {
        let identity = identify(&self.binary_name, &children).await?;
        let settings = Settings {
            binary: self.binary_name.clone(),
            root: self.runtime_root(namespace, identity.kind),
            bundle: bundle.to_owned(),
            systemd_cgroup: self.systemd_cgroup,
            runsc_config: self.runsc_config.clone(),
            no_pivot_root: self.no_pivot_root,
            no_new_keyring: self.no_new_keyring,
            timeouts: self.timeouts.clone(),
            children,
        };
        Ok(connect_as(identity, settings))
    }

    fn from_file(file: File, invoked_as: &InvokedAs) -> Self {
        let default_binary = || invoked_as.default_binary().to_owned();
        Self {
            binary_name: file.binary_name.unwrap_or_else(default_binary),
            root: file.root,
            runsc_config: file.runsc_config,
            systemd_cgroup: file.systemd_cgroup,
            no_pivot_root: file.no_pivot_root,
            no_new_keyring: file.no_new_keyring,
            io_uid: file.io_uid,
            io_gid: file.io_gid,
            shim_cgroup: file.shim_cgroup,
            criu_image_path: None,
            criu_work_path: None,
            log_level: file.log_level,
            log_path: file.log_path,
            timeouts: file.timeouts,
            checkpoint: file.checkpoint,
        }
    }

    /// Takes what the options set.
    fn apply(&mut self, options: RuncOptions) {
        if let Some(binary) = options.binary_name {
            self.binary_name = binary;
        }
        self.root = options.root.or_else(|| self.root.take());
        self.shim_cgroup = options.shim_cgroup.or_else(|| self.shim_cgroup.take());
        self.criu_image_path = options.criu_image_path;
        self.criu_work_path = options.criu_work_path;
        self.systemd_cgroup |= options.systemd_cgroup;
        self.no_pivot_root |= options.no_pivot_root;
        self.no_new_keyring |= options.no_new_keyring;
        self.io_uid = options.io_uid.unwrap_or(self.io_uid);
        self.io_gid = options.io_gid.unwrap_or(self.io_gid);
    }
}

#[cfg(test)]
mod tests;
