//! Cgroups: what is made of them, which, where, and by which the processes are frozen.

mod properties;

use std::{ffi::OsString, path::PathBuf};

pub use properties::{CgroupProperties, CgroupStrategy};

use super::{
    Options,
    check::{absolute, directory},
    error::OptionError,
    table::{By, DUMPS, DUMPS_AND_RESTORE, Given, Key, Release, Row, rendered, text, texts},
};
use crate::{
    rpc::{self, CriuCgMode, CriuOpts},
    setters::setters,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 24,
        name: "manage_cgroups",
        since: Release::new(1, 3, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::None("`manage-cgroups` is the key of manage_cgroups_mode"),
        by: By::Successor(34),
    },
    Row {
        number: 34,
        name: "manage_cgroups_mode",
        since: Release::new(1, 7, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::Named("manage-cgroups"),
        by: By::Setter {
            given: |o| Given::one(o.cgroups.mode.map(CgroupMode::as_str)),
            put: put_mode,
        },
    },
    Row {
        number: 25,
        name: "cg_root",
        since: Release::new(1, 3, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::Named("cgroup-root"),
        by: By::Setter {
            given: |o| Given::all(o.cgroups.roots.iter().map(CgroupRoot::value)),
            put: |o, rpc| rpc.cg_root = o.cgroups.roots.iter().map(CgroupRoot::wire).collect(),
        },
    },
    Row {
        number: 41,
        name: "cgroup_props",
        since: Release::new(2, 4, 0),
        requests: DUMPS,
        key: Key::Named("cgroup-props"),
        by: By::Setter {
            given: |o| Given::one(o.cgroups.props.as_ref().map(ToString::to_string)),
            put: |o, rpc| rpc.cgroup_props = o.cgroups.props.as_ref().map(ToString::to_string),
        },
    },
    text!(
        42,
        cgroup_props_file,
        Key::Named("cgroup-props-file"),
        Release::new(2, 4, 0),
        DUMPS,
        cgroups.props_file
    ),
    texts!(
        43,
        cgroup_dump_controller,
        Key::Named("cgroup-dump-controller"),
        Release::new(2, 4, 0),
        DUMPS,
        cgroups.dump_controllers
    ),
    text!(
        44,
        freeze_cgroup,
        Key::Named("freeze-cgroup"),
        Release::new(2, 4, 0),
        DUMPS,
        cgroups.freeze
    ),
    text!(
        60,
        cgroup_yard,
        Key::Named("cgroup-yard"),
        Release::new(3, 14, 0),
        DUMPS_AND_RESTORE,
        cgroups.yard
    ),
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cgroups {
    pub(super) mode: Option<CgroupMode>,
    pub(super) roots: Vec<CgroupRoot>,
    pub(super) props: Option<CgroupProperties>,
    pub(super) props_file: Option<PathBuf>,
    pub(super) dump_controllers: Vec<String>,
    pub(super) freeze: Option<PathBuf>,
    pub(super) yard: Option<PathBuf>,
}

/// Cgroups.
///
/// ```
/// use stasis_criu::{Options, options::{CgroupMode, CgroupRoot}};
///
/// let options = Options::new("/var/lib/images")
///     .manage_cgroups(CgroupMode::Soft)
///     .cgroup_root(CgroupRoot::all("/machine/new"));
/// ```
impl Options {
    setters! {
        /// What is made of the processes' cgroups, `manage_cgroups_mode`.
        pub fn manage_cgroups(mut self, mode: CgroupMode) { self.cgroups.mode = Some(mode); }

        /// Where the cgroups are put, `cg_root`.
        pub fn cgroup_root(mut self, root: CgroupRoot) { self.cgroups.roots.push(root); }

        /// Which properties of cgroups are dumped, `cgroup_props`.
        pub fn cgroup_props(mut self, properties: CgroupProperties) {
            self.cgroups.props = Some(properties);
        }

        /// The same from a file, `cgroup_props_file`.
        pub fn cgroup_props_file(mut self, file: impl Into<PathBuf>) {
            self.cgroups.props_file = Some(file.into());
        }

        /// Dumps the properties of this controller only, and of others named so,
        /// `cgroup_dump_controller`.
        pub fn cgroup_dump_controller(mut self, controller: impl Into<String>) {
            self.cgroups.dump_controllers.push(controller.into());
        }

        /// The directory of the cgroup by which the processes are frozen, `freeze_cgroup`.
        pub fn freeze_cgroup(mut self, directory: impl Into<PathBuf>) {
            self.cgroups.freeze = Some(directory.into());
        }

        /// The directory under which the controllers are mounted already, `cgroup_yard`.
        pub fn cgroup_yard(mut self, directory: impl Into<PathBuf>) {
            self.cgroups.yard = Some(directory.into());
        }
    }
}

/// What CRIU makes of cgroups. A mode of the restore says what becomes of cgroups that are there
/// already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum CgroupMode {
    /// Nothing at all: the processes come back in CRIU's cgroups.
    Ignore = CriuCgMode::Ignore as i32,
    /// Cgroups are there already; neither they nor their properties are touched.
    None = CriuCgMode::CgNone as i32,
    /// Cgroups are there already; their properties are restored.
    Props = CriuCgMode::Props as i32,
    /// Cgroups that are missing are made, and only their properties are restored.
    Soft = CriuCgMode::Soft as i32,
    /// Cgroups that are missing are made, and all properties are restored.
    Full = CriuCgMode::Full as i32,
    /// Cgroups must not be there; all are made.
    Strict = CriuCgMode::Strict as i32,
    /// What CRIU does by default: soft.
    Default = CriuCgMode::Default as i32,
}

impl CgroupMode {
    /// Those that have a name of their own.
    pub const NAMED: [Self; 6] = [
        Self::Ignore,
        Self::None,
        Self::Props,
        Self::Soft,
        Self::Full,
        Self::Strict,
    ];

    /// The mode of this name, as CRIU's command line and configuration file have it.
    ///
    /// ```
    /// use stasis_criu::options::CgroupMode;
    ///
    /// assert_eq!(CgroupMode::from_name("strict"), Some(CgroupMode::Strict));
    /// assert_eq!(CgroupMode::from_name("sometimes"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|mode| mode.as_str() == name)
    }

    /// Its name there.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::None => "none",
            Self::Props => "props",
            // The default has no word of its own.
            Self::Soft | Self::Default => "soft",
            Self::Full => "full",
            Self::Strict => "strict",
        }
    }
}

/// The older field says only whether; a CRIU that knows the mode lets that decide.
fn put_mode(options: &Options, rpc: &mut CriuOpts) {
    rpc.manage_cgroups = options.cgroups.mode.map(|mode| mode != CgroupMode::Ignore);
    rpc.manage_cgroups_mode = options.cgroups.mode.map(|mode| mode as i32);
}

/// Where the cgroups of one controller, or of all, are put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupRoot {
    controller: Option<String>,
    path: PathBuf,
}

impl CgroupRoot {
    /// The cgroups of every controller for which no other is named.
    #[must_use]
    pub fn all(path: impl Into<PathBuf>) -> Self {
        Self {
            controller: None,
            path: path.into(),
        }
    }

    /// The cgroups of this controller.
    #[must_use]
    pub fn of(controller: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            controller: Some(controller.into()),
            path: path.into(),
        }
    }

    fn value(&self) -> OsString {
        let mut value = OsString::new();
        if let Some(controller) = &self.controller {
            value.push(controller);
            value.push(":");
        }
        value.push(&self.path);
        value
    }

    fn wire(&self) -> rpc::CgroupRoot {
        rpc::CgroupRoot {
            ctrl: self.controller.clone(),
            path: rendered(&self.path),
        }
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    let cgroups = &options.cgroups;
    for (place, root) in cgroups.roots.iter().enumerate() {
        absolute("cg_root", &root.path)?;
        let earlier = cgroups.roots.iter().take(place);
        if earlier
            .into_iter()
            .any(|other| other.controller == root.controller)
        {
            let reason = "a controller has one root";
            return Err(OptionError::value("cg_root", root.path.display(), reason));
        }
        if let Some(controller) = &root.controller {
            named("cg_root", controller)?;
        }
    }
    for controller in &cgroups.dump_controllers {
        named("cgroup_dump_controller", controller)?;
    }
    if let Some(props) = &cgroups.props {
        properties::check(props)?;
    }
    if let Some(file) = &cgroups.props_file {
        absolute("cgroup_props_file", file)?;
        properties::check_file(file)?;
    }
    if let Some(cgroup) = &cgroups.freeze {
        directory("freeze_cgroup", cgroup)?;
    }
    if let Some(yard) = &cgroups.yard {
        directory("cgroup_yard", yard)?;
    }
    Ok(())
}

fn named(option: &'static str, controller: &str) -> Result<(), OptionError> {
    if controller.is_empty() || controller.contains([':', '/', ' ', '\t', '\n', '\0']) {
        let reason = "it is no name of a controller";
        return Err(OptionError::value(option, controller, reason));
    }
    Ok(())
}

/// In a file what is before the first colon is a controller.
pub(super) fn check_for_file(options: &Options) -> Result<(), OptionError> {
    for root in &options.cgroups.roots {
        let path = rendered(&root.path);
        if root.controller.is_none() && path.contains(':') {
            return Err(OptionError::Unwritable {
                option: "cg_root",
                value: path,
                reason: "CRIU takes what is before a colon for a controller",
            });
        }
    }
    Ok(())
}
