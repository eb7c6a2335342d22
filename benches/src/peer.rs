//! Who is compared: shims, and the engine that each of them drives.

use std::path::PathBuf;

/// A shim binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shim {
    /// containerd's own, in Go.
    Stock,
    /// That of containerd's Rust project.
    RustExtensions,
    /// gVisor's own, in Go.
    Gvisor,
    /// Ours.
    Stasis,
}

/// An OCI runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// gVisor's runsc.
    Runsc,
}

/// A shim with an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// The shim.
    pub shim: Shim,
    /// Its engine.
    pub engine: Engine,
}

/// All peers. Of each engine's the first is what the others are compared with.
pub const PEERS: [Peer; 7] = [
    Peer::new(Shim::Stock, Engine::Runc),
    Peer::new(Shim::Stasis, Engine::Runc),
    Peer::new(Shim::RustExtensions, Engine::Runc),
    Peer::new(Shim::Stock, Engine::Crun),
    Peer::new(Shim::Stasis, Engine::Crun),
    Peer::new(Shim::Gvisor, Engine::Runsc),
    Peer::new(Shim::Stasis, Engine::Runsc),
];

impl Shim {
    /// A word for it in the names of files and containers.
    pub fn key(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::RustExtensions => "rust",
            Self::Gvisor => "gvisor",
            Self::Stasis => "stasis",
        }
    }

    /// How tables call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Stock => "stock shim",
            Self::RustExtensions => "containerd-runc-shim",
            Self::Gvisor => "gVisor's shim",
            Self::Stasis => "Stasis",
        }
    }
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Runc, Self::Crun, Self::Runsc];

    /// The program on the PATH.
    pub fn program(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Runsc => "runsc",
        }
    }

    /// The name under which a shim is linked, ours beside the peer's, to find this engine.
    pub fn shim_name(self) -> &'static str {
        match self {
            Self::Runc | Self::Crun => "containerd-shim-runc-v2",
            Self::Runsc => "containerd-shim-runsc-v1",
        }
    }

    /// The program that such a shim starts unless it is told otherwise.
    pub fn default_program(self) -> &'static str {
        match self {
            Self::Runc | Self::Crun => "runc",
            Self::Runsc => "runsc",
        }
    }
}

impl Peer {
    const fn new(shim: Shim, engine: Engine) -> Self {
        Self { shim, engine }
    }

    /// A word for it in the names of files and containers, and on the command line.
    pub fn key(self) -> String {
        format!("{}-{}", self.shim.key(), self.engine.program())
    }

    /// What its figures are compared with.
    pub fn reference(self) -> Self {
        let shim = match self.engine {
            Engine::Runc | Engine::Crun => Shim::Stock,
            Engine::Runsc => Shim::Gvisor,
        };
        Self::new(shim, self.engine)
    }

    /// What ctr is told to make a container with it.
    pub fn ctr_options(self) -> &'static str {
        match self.engine {
            Engine::Runc => "--runtime io.containerd.runc.v2",
            Engine::Crun => "--runtime io.containerd.runc.v2 --runc-binary crun",
            // Without the annotation gVisor's shim hangs in a plain `ctr run` (gVisor #12198).
            Engine::Runsc => {
                "--runtime io.containerd.runsc.v1 \
                 --annotation io.kubernetes.cri.container-type=sandbox"
            }
        }
    }
}

/// Where the programs are that are measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Programs {
    /// Our shim.
    #[arg(long, value_name = "FILE")]
    pub shim: PathBuf,
    /// The command `stasis`.
    #[arg(long, value_name = "FILE")]
    pub stasis: PathBuf,
    /// What is checkpointed and dumped: crates/criu's example of that name.
    #[arg(long, value_name = "FILE")]
    pub victim: PathBuf,
}

impl Programs {
    /// The binary of a shim.
    pub fn of(&self, shim: Shim) -> PathBuf {
        match shim {
            Shim::Stock => "/usr/bin/containerd-shim-runc-v2".into(),
            Shim::RustExtensions => "/opt/lab/runc-shim-rs/containerd-shim-runc-v2-rs".into(),
            Shim::Gvisor => "/opt/lab/gvisor-shim/containerd-shim-runsc-v1".into(),
            Shim::Stasis => self.shim.clone(),
        }
    }
}
