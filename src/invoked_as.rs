//! The name the binary was started under, and what it decides.
//!
//! containerd turns a runtime name `io.containerd.NAME.VERSION` into the binary
//! `containerd-shim-NAME-VERSION`, or is given the binary's absolute path. So one binary under
//! several names is several runtimes. The name chooses only what is used where nobody said
//! otherwise: the engine, its root, and whether gVisor's own configuration files are looked at.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

/// What the shim calls itself where it was started under no name of containerd's pattern.
const OWN_RUNTIME: &str = "io.containerd.stasis.v1";

/// The name the binary was started under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokedAs {
    argv0: OsString,
    /// NAME and VERSION of `containerd-shim-NAME-VERSION`.
    runtime: Option<(String, String)>,
}

impl InvokedAs {
    /// Takes the name from `argv[0]`.
    #[must_use]
    pub fn new(argv0: &OsStr) -> Self {
        let runtime = Path::new(argv0)
            .file_name()
            .and_then(OsStr::to_str)
            .and_then(|name| name.strip_prefix("containerd-shim-")?.rsplit_once('-'))
            .map(|(name, version)| (name.to_owned(), version.to_owned()));
        Self {
            argv0: argv0.to_owned(),
            runtime,
        }
    }

    /// `argv[0]`, for the server to be started under the same name.
    #[must_use]
    pub fn argv0(&self) -> &OsStr {
        &self.argv0
    }

    /// The runtime binary that is used where nothing names one.
    #[must_use]
    pub fn default_binary(&self) -> &'static str {
        match self.name() {
            "runc" => "runc",
            "crun" => "crun",
            _ => "runsc",
        }
    }

    /// Whether we stand in for gVisor's shim, whose configuration files then count.
    #[must_use]
    pub fn is_gvisors(&self) -> bool {
        self.name() == "runsc"
    }

    /// The runtime's name in containerd's notation.
    #[must_use]
    pub fn runtime_name(&self) -> String {
        match &self.runtime {
            Some((name, version)) => format!("io.containerd.{name}.{version}"),
            None => OWN_RUNTIME.to_owned(),
        }
    }

    fn name(&self) -> &str {
        self.runtime.as_ref().map_or("", |(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(argv0: &str) -> InvokedAs {
        InvokedAs::new(OsStr::new(argv0))
    }

    #[test]
    fn the_name_chooses_the_default_engine() {
        for (argv0, binary, runtime) in [
            (
                "containerd-shim-stasis-v1",
                "runsc",
                "io.containerd.stasis.v1",
            ),
            (
                "containerd-shim-runsc-v1",
                "runsc",
                "io.containerd.runsc.v1",
            ),
            (
                "/usr/local/bin/containerd-shim-runc-v2",
                "runc",
                "io.containerd.runc.v2",
            ),
            (
                "/opt/containerd-shim-crun-v1",
                "crun",
                "io.containerd.crun.v1",
            ),
            ("/opt/stasis", "runsc", "io.containerd.stasis.v1"),
            ("", "runsc", "io.containerd.stasis.v1"),
        ] {
            assert_eq!(named(argv0).default_binary(), binary, "{argv0}");
            assert_eq!(named(argv0).runtime_name(), runtime, "{argv0}");
        }
    }

    #[test]
    fn only_the_runsc_name_stands_in_for_gvisors_shim() {
        assert!(named("containerd-shim-runsc-v1").is_gvisors());
        assert!(!named("containerd-shim-stasis-v1").is_gvisors());
        assert!(!named("containerd-shim-runc-v2").is_gvisors());
    }
}
