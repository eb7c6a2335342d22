//! The engines, and the macro that makes one test for each of them.

/// An engine of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The current runsc.
    Runsc,
    /// runsc of 2024-07-29, which writes another image and has fewer options.
    Runsc2024,
    /// runc, as the suite has it.
    Runc,
    /// crun, as the suite has it.
    Crun,
}

impl Engine {
    /// The program's name on the PATH.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Runsc => "runsc",
            Self::Runsc2024 => "runsc-20240729",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// Whether it is gVisor, of whatever release.
    pub fn is_gvisor(self) -> bool {
        matches!(self, Self::Runsc | Self::Runsc2024)
    }

    /// A configuration of the shim that chooses this engine, and has `more` lines at its top.
    pub fn config(self, more: &str) -> String {
        let engine = match self {
            // This release cannot make its own network on kernels from 6.14 on.
            Self::Runsc2024 => "[runsc_config]\nnetwork = \"none\"\n",
            Self::Runsc | Self::Runc | Self::Crun => "",
        };
        format!("binary_name = {:?}\n{more}\n{engine}", self.binary())
    }

    /// A shell script that is this engine and needs no configuration.
    pub fn script(self) -> String {
        let network = if self == Self::Runsc2024 {
            "--network=none "
        } else {
            ""
        };
        format!("exec {} {network}\"$@\"", self.binary())
    }
}

/// Makes the tests `CLAIM::runsc`, `CLAIM::runsc_2024`, `CLAIM::runc` and `CLAIM::crun` of one
/// function that takes an [`Engine`]: a failure is named by its engine.
macro_rules! for_each_engine {
    ($(#[doc = $doc:literal])* fn $claim:ident($engine:ident: Engine) $body:block) => {
        for_engines!(runsc Runsc, runsc_2024 Runsc2024, runc Runc, crun Crun;
            $(#[doc = $doc])* fn $claim($engine: Engine) $body);
    };
}

/// The same for the engines that CRIU checkpoints: `CLAIM::runc` and `CLAIM::crun`.
macro_rules! for_each_criu_engine {
    ($(#[doc = $doc:literal])* fn $claim:ident($engine:ident: Engine) $body:block) => {
        for_engines!(runc Runc, crun Crun;
            $(#[doc = $doc])* fn $claim($engine: Engine) $body);
    };
}

/// The same for both releases of gVisor: `CLAIM::runsc` and `CLAIM::runsc_2024`.
macro_rules! for_each_gvisor {
    ($(#[doc = $doc:literal])* fn $claim:ident($engine:ident: Engine) $body:block) => {
        for_engines!(runsc Runsc, runsc_2024 Runsc2024;
            $(#[doc = $doc])* fn $claim($engine: Engine) $body);
    };
}

macro_rules! for_engines {
    ($($name:ident $variant:ident),+; $(#[doc = $doc:literal])* fn $claim:ident($engine:ident: Engine) $body:block) => {
        $(#[doc = $doc])*
        mod $claim {
            use super::*;
            use $crate::support::engine::Engine;

            fn holds($engine: Engine) $body

            $(
                #[test]
                #[ignore = "needs the lab: make test"]
                fn $name() {
                    holds(Engine::$variant);
                }
            )+
        }
    };
}
