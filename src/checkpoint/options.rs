//! The options of a checkpoint: what a request asks for, and what comes of it.
//!
//! The request carries `containerd.runc.v1.CheckpointOptions` or nothing (containerd 1.7's ctr,
//! nerdctl and CRI send options only to runtimes named io.containerd.runc.v2). A field that is
//! false or empty is not set: protobuf 3 knows no difference, so it leaves the default of the
//! configuration in force and cannot switch it off.

use std::path::PathBuf;

use containerd_shim::bootstrap::any_is;
use containerd_shim_protos::{
    api::CheckpointTaskRequest,
    protobuf::{Message, well_known_types::any::Any},
    shim::oci,
};
use stasis_engine::{CgroupMode, CheckpointOptions};

use super::{
    error::{Error, Result},
    work::Work,
};
use crate::config::Config;

/// A checkpoint as it was asked for, in our own terms.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RequestedOptions {
    exit: bool,
    tcp_established: bool,
    ext_unix_sk: bool,
    shell_job: bool,
    file_locks: bool,
    empty_namespaces: Vec<String>,
    cgroup_mode: Option<CgroupMode>,
    image_path: Option<PathBuf>,
    work_path: Option<PathBuf>,
}

/// A checkpoint as it will be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// End the container when its image is sealed.
    pub exit: bool,
    /// Where the image goes.
    pub image: PathBuf,
    /// Where CRIU's log and statistics go.
    pub work: Work,
    /// How the container is captured.
    pub options: CheckpointOptions,
}

impl RequestedOptions {
    /// Decodes the options of a request; none at all means to leave the container running.
    pub fn decode(options: Option<&Any>) -> Result<Self> {
        let Some(any) = options else {
            return Ok(Self::default());
        };
        if !any_is::<oci::CheckpointOptions>(any) {
            return Err(Error::OptionsType {
                type_url: any.type_url.clone(),
            });
        }
        let sent = oci::CheckpointOptions::parse_from_bytes(&any.value)
            .map_err(|source| Error::OptionsEncoding { source })?;
        if let Some((field, _)) = sent.special_fields.unknown_fields().iter().next() {
            return Err(Error::UnknownOption { field });
        }
        Ok(Self {
            exit: sent.exit,
            tcp_established: sent.open_tcp,
            ext_unix_sk: sent.external_unix_sockets,
            shell_job: sent.terminal,
            file_locks: sent.file_locks,
            cgroup_mode: cgroup_mode(&sent.cgroups_mode)?,
            empty_namespaces: sent.empty_namespaces,
            image_path: path(sent.image_path),
            work_path: path(sent.work_path),
        })
    }
}

impl Plan {
    /// What a request comes to under a configuration.
    pub fn resolve(request: &CheckpointTaskRequest, config: &Config) -> Result<Self> {
        let asked = RequestedOptions::decode(request.options.as_ref())?;
        let defaults = &config.checkpoint;
        // The daemon always names a directory, the client's image_path where there is one.
        let image = path(request.path.clone())
            .or(asked.image_path)
            .unwrap_or_default();
        if !image.is_absolute() {
            return Err(Error::ImagePath { image });
        }
        Ok(Self {
            exit: asked.exit,
            image,
            work: asked.work_path.map_or_else(
                || Work::configured(config.criu_work_path.as_deref()),
                Work::Requested,
            ),
            options: CheckpointOptions {
                tcp_established: asked.tcp_established || defaults.tcp_established,
                ext_unix_sk: asked.ext_unix_sk || defaults.ext_unix_sk,
                shell_job: asked.shell_job || defaults.shell_job,
                file_locks: asked.file_locks || defaults.file_locks,
                cgroup_mode: asked.cgroup_mode.unwrap_or(defaults.cgroup_mode),
                empty_namespaces: if asked.empty_namespaces.is_empty() {
                    defaults.empty_namespaces.clone()
                } else {
                    asked.empty_namespaces
                },
            },
        })
    }
}

fn path(text: String) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn cgroup_mode(name: &str) -> Result<Option<CgroupMode>> {
    if name.is_empty() {
        return Ok(None);
    }
    let mode = CgroupMode::from_name(name);
    mode.map(Some).ok_or_else(|| Error::CgroupMode {
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::{MessageFull, UnknownValueRef};

    use super::*;

    fn any(options: &oci::CheckpointOptions) -> Any {
        Any {
            type_url: oci::CheckpointOptions::descriptor().full_name().to_owned(),
            value: options.write_to_bytes().unwrap(),
            ..Any::default()
        }
    }

    fn request(options: &oci::CheckpointOptions) -> CheckpointTaskRequest {
        CheckpointTaskRequest {
            path: "/image".to_owned(),
            options: Some(any(options)).into(),
            ..CheckpointTaskRequest::default()
        }
    }

    #[test]
    fn no_options_leave_the_container_running() {
        let request = CheckpointTaskRequest {
            path: "/image".into(),
            ..Default::default()
        };
        let plan = Plan::resolve(&request, &Config::default()).unwrap();
        assert!(!plan.exit);
        assert_eq!(plan.options, CheckpointOptions::default());
        assert_eq!(plan.options.cgroup_mode, CgroupMode::Ignore);
    }

    #[test]
    fn every_option_of_the_request_arrives() {
        let sent = oci::CheckpointOptions {
            exit: true,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            empty_namespaces: vec!["network".to_owned()],
            cgroups_mode: "soft".to_owned(),
            image_path: "/elsewhere".to_owned(),
            work_path: "/work".to_owned(),
            ..Default::default()
        };
        let plan = Plan::resolve(&request(&sent), &Config::default()).unwrap();
        let options = CheckpointOptions {
            tcp_established: true,
            ext_unix_sk: true,
            shell_job: true,
            file_locks: true,
            cgroup_mode: CgroupMode::Soft,
            empty_namespaces: vec!["network".to_owned()],
        };
        let (image, work) = (PathBuf::from("/image"), Work::Requested("/work".into()));
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
        let plan = Plan::resolve(&request(&oci::CheckpointOptions::default()), &config).unwrap();
        assert!(plan.options.file_locks);
        assert_eq!(plan.options.cgroup_mode, CgroupMode::Full);
        assert_eq!(plan.work, Work::Configured("/w".into()));
    }

    #[test]
    fn another_type_is_refused_by_its_name() {
        let foreign = Any {
            type_url: "example.Options".to_owned(),
            ..Any::default()
        };
        let error = RequestedOptions::decode(Some(&foreign)).unwrap_err();
        assert!(error.to_string().contains("example.Options"), "{error}");
    }

    #[test]
    fn an_option_that_this_version_does_not_know_is_refused() {
        let mut sent = oci::CheckpointOptions::default();
        // parent_path of containerd 2.4.
        let unknown = sent.special_fields.mut_unknown_fields();
        unknown.add_length_delimited(10, b"/parent".to_vec());
        assert!(matches!(
            unknown.get(10),
            Some(UnknownValueRef::LengthDelimited(_))
        ));
        let error = RequestedOptions::decode(Some(&any(&sent))).unwrap_err();
        assert!(error.to_string().contains("10"), "{error}");
    }

    #[test]
    fn an_unknown_cgroup_mode_is_refused_by_its_name() {
        let sent = oci::CheckpointOptions {
            cgroups_mode: "sometimes".to_owned(),
            ..Default::default()
        };
        let error = RequestedOptions::decode(Some(&any(&sent))).unwrap_err();
        assert!(error.to_string().contains("sometimes"), "{error}");
    }
}
