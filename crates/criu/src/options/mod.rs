//! What CRIU is to do: one typed builder for all of its options.
//!
//! [`Options`] is checked for a request and a CRIU ([`Options::check`]), and becomes the message of
//! a request ([`Options::rendered`]) or a configuration file ([`Options::to_config`]). Each option
//! is a row of one [`table()`]; rows, setters and values of a topic stand in one file, and the rules
//! that hold for all rows in `check`, `render` and `config`.
//!
//! Sources: `images/rpc.proto`, `criu/cr-service.c` and `criu/config.c` of criu 4.2, and what 4.1.1
//! and 4.2.1 did when they were tried.

mod cgroups;
mod check;
mod config;
mod dir;
mod error;
mod external;
mod files;
mod images;
mod log;
mod memory;
mod mounts;
mod namespaces;
mod pages;
mod render;
mod security;
mod table;
mod tasks;
mod tcp;
#[cfg(test)]
mod tests;

pub use cgroups::{CgroupMode, CgroupProperties, CgroupRoot, CgroupStrategy};
pub use dir::{Descriptor, Dir};
pub use error::OptionError;
pub use external::{AutoMounts, External, VethPair};
pub use files::{GhostLimit, InheritedFd};
pub use log::LogLevel;
pub use memory::PreDumpMode;
pub use namespaces::{EmptyNamespace, JoinNamespace, Joinable};
pub use pages::{PageServer, Tls};
pub use render::Rendered;
pub use security::LsmProfile;
pub use table::{By, Given, Key, Release, Row, config_key, table};
pub use tasks::CpuCapabilities;
pub use tcp::NetworkLock;

use crate::request::Request;

/// What CRIU is to do.
///
/// A switch is a setter that takes `bool`; what is not set, or set to `false`, is left to CRIU and
/// the configuration files that it reads. Names are those of `criu_opts`.
///
/// ```
/// use stasis_criu::{Options, Request};
/// # let images = tempfile::tempdir()?;
///
/// let options = Options::new(images.path())
///     .pid(4711)
///     .leave_running(true)
///     .tcp_established(true);
/// options.check(Request::Dump, None)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    images: images::Images,
    tasks: tasks::Tasks,
    memory: memory::Memory,
    pages: pages::Pages,
    files: files::Files,
    external: Vec<External>,
    tcp: tcp::Tcp,
    cgroups: cgroups::Cgroups,
    mounts: mounts::Mounts,
    namespaces: namespaces::Namespaces,
    security: security::Security,
    log: log::Log,
}

impl Options {
    /// Options for images in this directory, and nothing else set.
    #[must_use]
    pub fn new(images_dir: impl Into<Dir>) -> Self {
        Self {
            images: images::Images::new(images_dir.into()),
            tasks: tasks::Tasks::default(),
            memory: memory::Memory::default(),
            pages: pages::Pages::default(),
            files: files::Files::default(),
            external: Vec::new(),
            tcp: tcp::Tcp::default(),
            cgroups: cgroups::Cgroups::default(),
            mounts: mounts::Mounts::default(),
            namespaces: namespaces::Namespaces::default(),
            security: security::Security::default(),
            log: log::Log::default(),
        }
    }

    /// Where the images are.
    #[must_use]
    pub fn images_dir(&self) -> &Dir {
        &self.images.dir
    }

    /// The name of a request's log in the work directory, or `None` if it goes to standard error.
    #[must_use]
    pub fn log_name(&self, request: Request) -> Option<&str> {
        if self.log.to_stderr {
            return None;
        }
        Some(
            self.log
                .file
                .as_deref()
                .unwrap_or_else(|| log::default_name(request)),
        )
    }
}
