//! The options of a checkpoint: what a request asks for, and what comes of it.
//!
//! What a request leaves false or empty is not set: it leaves the default of the configuration in
//! force and cannot switch it off.

use std::path::PathBuf;

use stasis_engine::{CgroupMode, CheckpointOptions};

use super::{
    error::{Error, Result},
    work_dir::WorkDir,
};
use crate::config::Config;

/// A checkpoint as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// Where the image goes, as containerd says.
    pub path: Option<PathBuf>,
    /// Where it goes, as the client says.
    pub image_path: Option<PathBuf>,
    /// Where CRIU's log and statistics go.
    pub work_path: Option<PathBuf>,
    /// End the container.
    pub exit: bool,
    /// See [`CheckpointOptions::tcp_established`], as the others below.
    pub tcp_established: bool,
    /// External Unix sockets.
    pub ext_unix_sk: bool,
    /// A terminal from outside.
    pub shell_job: bool,
    /// File locks.
    pub file_locks: bool,
    /// Namespaces that are dumped empty.
    pub empty_namespaces: Vec<String>,
    /// CRIU's name for a mode.
    pub cgroup_mode: Option<String>,
}

/// A checkpoint as it will be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// End the container when its image is sealed.
    pub exit: bool,
    /// Where the image goes.
    pub image: PathBuf,
    /// Where CRIU's log and statistics go.
    pub work: WorkDir,
    /// How the container is dumped.
    pub options: CheckpointOptions,
}

impl Plan {
    /// What a request comes to under a configuration.
    ///
    /// # Errors
    /// If it names no image directory, or a mode that there is not.
    pub fn resolve(asked: CheckpointRequest, config: &Config) -> Result<Self> {
        let defaults = &config.checkpoint;
        let cgroup_mode = asked.cgroup_mode.map(cgroup_mode).transpose()?;
        // The daemon always names a directory, the client's image_path where there is one.
        let image = asked.path.or(asked.image_path).unwrap_or_default();
        if !image.is_absolute() {
            return Err(Error::ImagePath { image });
        }
        Ok(Self {
            exit: asked.exit,
            image,
            work: asked.work_path.map_or_else(
                || WorkDir::configured(config.criu_work_path.as_deref()),
                WorkDir::Requested,
            ),
            options: CheckpointOptions {
                tcp_established: asked.tcp_established || defaults.tcp_established,
                ext_unix_sk: asked.ext_unix_sk || defaults.ext_unix_sk,
                shell_job: asked.shell_job || defaults.shell_job,
                file_locks: asked.file_locks || defaults.file_locks,
                cgroup_mode: cgroup_mode.unwrap_or(defaults.cgroup_mode),
                empty_namespaces: if asked.empty_namespaces.is_empty() {
                    defaults.empty_namespaces.clone()
                } else {
                    asked.empty_namespaces
                },
            },
        })
    }
}

fn cgroup_mode(name: String) -> Result<CgroupMode> {
    CgroupMode::from_name(&name).ok_or(Error::CgroupMode { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> CheckpointRequest {
        CheckpointRequest {
            path: Some("/image".into()),
            ..CheckpointRequest::default()
        }
    }

    #[test]
    fn no_options_leave_the_container_running() {
        let plan = Plan::resolve(request(), &Config::default()).unwrap();
        assert!(!plan.exit);
        assert_eq!(plan.options, CheckpointOptions::default());
        assert_eq!(plan.options.cgroup_mode, CgroupMode::Ignore);
    }

    #[test]
    fn every_option_of_the_request_arrives() {
        let sent = CheckpointRequest {
            exit: true,
            tcp_established: true,
            ext_unix_sk: true,
            shell_job: true,
            file_locks: true,
            empty_namespaces: vec!["network".to_owned()],
            cgroup_mode: Some("soft".to_owned()),
            image_path: Some("/elsewhere".into()),
            work_path: Some("/work".into()),
            ..request()
        };
        let plan = Plan::resolve(sent, &Config::default()).unwrap();
        let options = CheckpointOptions {
            tcp_established: true,
            ext_unix_sk: true,
            shell_job: true,
            file_locks: true,
            cgroup_mode: CgroupMode::Soft,
            empty_namespaces: vec!["network".to_owned()],
        };
        let (image, work) = (PathBuf::from("/image"), WorkDir::Requested("/work".into()));
        assert_eq!(
            plan,
            Plan {
                exit: true,
                image,
                work,
                options
            }
        );
    }

    #[test]
    fn the_configuration_fills_what_the_request_leaves_out() {
        let mut config = Config::default();
        config.checkpoint.file_locks = true;
        config.checkpoint.cgroup_mode = CgroupMode::Full;
        config.criu_work_path = Some("/w".into());
        let plan = Plan::resolve(request(), &config).unwrap();
        assert!(plan.options.file_locks);
        assert_eq!(plan.options.cgroup_mode, CgroupMode::Full);
        assert_eq!(plan.work, WorkDir::Configured("/w".into()));
    }

    #[test]
    fn an_unknown_cgroup_mode_is_refused_by_its_name() {
        let sent = CheckpointRequest {
            cgroup_mode: Some("sometimes".to_owned()),
            ..request()
        };
        let error = Plan::resolve(sent, &Config::default()).unwrap_err();
        assert!(error.to_string().contains("sometimes"), "{error}");
    }
}
