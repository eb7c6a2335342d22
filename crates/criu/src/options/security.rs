//! Security modules, and CRIU without root.

use std::{fmt, str::FromStr};

use super::{
    Options,
    error::OptionError,
    table::{ALL, By, DUMPS_AND_RESTORE, Given, Key, RESTORE, Release, Row, flag, text},
};
use crate::setters::setters;

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 53,
        name: "lsm_profile",
        since: Release::new(3, 12, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::Named("lsm-profile"),
        by: By::Setter {
            given: |o| Given::one(o.security.profile.as_ref().map(ToString::to_string)),
            put: |o, rpc| {
                rpc.lsm_profile = o.security.profile.as_ref().map(ToString::to_string);
            },
        },
    },
    text!(
        63,
        lsm_mount_context,
        Key::Named("lsm-mount-context"),
        Release::new(3, 16, 0),
        RESTORE,
        security.mount_context
    ),
    flag!(
        67,
        unprivileged,
        Key::Named("unprivileged"),
        Release::new(3, 18, 0),
        ALL,
        security.unprivileged
    ),
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Security {
    pub(super) profile: Option<LsmProfile>,
    pub(super) mount_context: Option<String>,
    pub(super) unprivileged: bool,
}

/// Security modules.
///
/// ```
/// use stasis_criu::{Options, options::LsmProfile};
///
/// let options = Options::new("/var/lib/images")
///     .lsm_profile(LsmProfile::AppArmor("cri-containerd.apparmor.d".into()));
/// ```
impl Options {
    setters! {
        /// The profile that the processes get instead of the one in the image, `lsm_profile`.
        pub fn lsm_profile(mut self, profile: LsmProfile) { self.security.profile = Some(profile); }

        /// The SELinux context of mounts instead of the one in the image, `lsm_mount_context`.
        pub fn lsm_mount_context(mut self, context: impl Into<String>) {
            self.security.mount_context = Some(context.into());
        }

        /// CRIU runs without root, with `CAP_CHECKPOINT_RESTORE`, `unprivileged`.
        pub fn unprivileged(mut self, set: bool) { self.security.unprivileged = set; }
    }
}

/// A profile of a security module.
///
/// ```
/// use stasis_criu::options::LsmProfile;
///
/// let profile: LsmProfile = "apparmor:docker-default".parse()?;
/// assert_eq!(profile, LsmProfile::AppArmor("docker-default".into()));
/// # Ok::<(), stasis_criu::options::OptionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LsmProfile {
    /// A profile of AppArmor.
    AppArmor(String),
    /// A label of SELinux.
    SeLinux(String),
    /// No profile.
    None,
}

impl fmt::Display for LsmProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppArmor(profile) => write!(f, "apparmor:{profile}"),
            Self::SeLinux(label) => write!(f, "selinux:{label}"),
            // CRIU wants the colon here too.
            Self::None => f.write_str("none:"),
        }
    }
}

impl FromStr for LsmProfile {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        match text.split_once(':') {
            Some(("apparmor", profile)) if !profile.is_empty() => {
                Ok(Self::AppArmor(profile.to_owned()))
            }
            Some(("selinux", label)) if !label.is_empty() => Ok(Self::SeLinux(label.to_owned())),
            Some(("none", "")) => Ok(Self::None),
            _ => {
                let reason = "it is `apparmor:PROFILE`, `selinux:LABEL` or `none:`";
                Err(OptionError::value("lsm_profile", text, reason))
            }
        }
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    match &options.security.profile {
        Some(LsmProfile::AppArmor(name) | LsmProfile::SeLinux(name)) if name.is_empty() => {
            let reason = "the profile has no name";
            Err(OptionError::value("lsm_profile", name, reason))
        }
        _ => Ok(()),
    }
}
