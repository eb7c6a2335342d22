//! The configuration: `config.toml` and the options of the request, as one [`Config`].
//!
//! Contract: [`Config::resolve`] takes whatever the options of a request come to, under whichever
//! name the shim runs. What the options set wins over the file, the file over the defaults;
//! a key that we do not know is an error that names it. Nothing here looks at the
//! machine beyond the configuration file: whether a binary exists is the engine's to say.
//!
//! The keys of the file are in [`keys`], what options can ask for in [`options`]. The checkpoint
//! options of a request are not configuration: see the checkpoint's plan.

mod error;
mod file;
mod keys;
mod options;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use stasis_engine::{Children, Engine, Kind, Settings, connect_as, identify::identify};

pub use self::{
    error::Error,
    keys::Config,
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
        let mut config = match &requested {
            RequestedConfig::File(path) => file::read(path)?,
            RequestedConfig::Inline(body) => file::parse_inline(body)?,
            RequestedConfig::Default | RequestedConfig::Runc(_) => file::read_first(places)?,
        };
        if let RequestedConfig::Runc(options) = requested {
            config.apply(*options);
        }
        if config.binary_name.is_empty() {
            invoked_as
                .default_binary()
                .clone_into(&mut config.binary_name);
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
