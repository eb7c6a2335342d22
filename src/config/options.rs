//! What the runtime options of a request ask for, in our own terms.
//!
//! Which messages they come in, and what is refused there, the service knows (`service/options.rs`).

use std::path::PathBuf;

/// What the options of a request ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RequestedConfig {
    /// Nothing.
    #[default]
    Default,
    /// The configuration in this file.
    File(PathBuf),
    /// This configuration.
    Inline(String),
    /// These settings, beside the default file.
    Runc(Box<RuncOptions>),
}

/// The settings of `containerd.runc.v1.Options` that we have. What is `None` or false was not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuncOptions {
    /// See [`super::Config::binary_name`].
    pub binary_name: Option<String>,
    /// See [`super::Config::root`].
    pub root: Option<PathBuf>,
    /// See [`super::Config::shim_cgroup`].
    pub shim_cgroup: Option<String>,
    /// See [`super::Config::criu_image_path`].
    pub criu_image_path: Option<PathBuf>,
    /// See [`super::Config::criu_work_path`].
    pub criu_work_path: Option<PathBuf>,
    /// See [`super::Config::systemd_cgroup`].
    pub systemd_cgroup: bool,
    /// See [`super::Config::no_pivot_root`].
    pub no_pivot_root: bool,
    /// See [`super::Config::no_new_keyring`].
    pub no_new_keyring: bool,
    /// See [`super::Config::io_uid`].
    pub io_uid: Option<u32>,
    /// See [`super::Config::io_gid`].
    pub io_gid: Option<u32>,
}
