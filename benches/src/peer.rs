//! Who is compared: shims, and the engine that each of them drives.

use std::{collections::BTreeSet, path::PathBuf};

/// A shim binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// gVisor's runsc.
    Runsc,
}

/// A shim with an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The engine.
    pub engine: Engine,
    /// The shim that drives it.
    pub shim: Shim,
}

/// An engine, alone or with a shim. They are in the order of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The engine.
    pub engine: Engine,
    /// Who drives it, unless it is alone.
    pub shim: Option<Shim>,
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
        Self { engine, shim }
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

impl Subject {
    /// The peers, and each of their engines alone.
    pub fn all(peers: &[Peer]) -> Vec<Self> {
        let mut all = BTreeSet::new();
        for peer in peers {
            all.insert(Self::alone(peer.engine));
            all.insert(Self {
                engine: peer.engine,
                shim: Some(peer.shim),
            });
        }
        all.into_iter().collect()
    }

    /// An engine alone.
    pub fn alone(engine: Engine) -> Self {
        Self { engine, shim: None }
    }

    /// The peer, unless it is an engine alone.
    pub fn peer(self) -> Option<Peer> {
        self.shim.map(|shim| Peer::new(shim, self.engine))
    }

    /// A word for it in the names of containers.
    pub fn key(self) -> String {
        match self.peer() {
            None => format!("alone-{}", self.engine.program()),
            Some(peer) => peer.key(),
        }
    }

    /// How tables call it.
    pub fn title(self) -> String {
        match self.shim {
            None => format!("{} alone", self.engine.program()),
            Some(shim) => format!("{}, {}", shim.title(), self.engine.program()),
        }
    }
}

/// Where the programs are that are measured.
#[derive(Debug, Clone, clap::Args)]
pub struct Programs {
    /// Our shim.
    #[arg(long, hide = true)]
    pub shim: PathBuf,
    /// The command `stasis`.
    #[arg(long, hide = true)]
    pub stasis: PathBuf,
    /// What is checkpointed and dumped: crates/criu's example of that name.
    #[arg(long, hide = true)]
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
