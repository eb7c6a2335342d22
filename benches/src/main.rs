//! The program of `make bench`, which runs in the lab (`benches/run` builds it and puts it there):
//! it measures the shim, its peers and the engines alone, and judges nothing.
//!
//! Each part is a module that measures and returns a [`report::Section`]. What is compared takes
//! turns. What the programs are is in [`peer`], how they are driven in [`containerd`] and
//! [`command`].

mod bundle;
mod calls;
mod checkpoint;
mod command;
mod containerd;
mod dump;
mod engine;
mod forks;
mod latency;
mod machine;
mod memory;
mod peer;
mod picture;
mod plan;
mod proc;
mod report;
mod sample;
mod shim;
mod stdout;
mod walk;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

use crate::{
    peer::{PEERS, Peer, Programs},
    plan::Plan,
    report::Section,
};

/// Measures the shim, its peers and the engines alone, and `stasis dump` against `criu dump`.
#[derive(Debug, Parser)]
#[command(override_usage = "benches/run [PART]... [OPTION]...")]
struct Arguments {
    /// What to measure (all of it)
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How often, instead of each part's own number
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Only peers whose name has this in it, such as `stasis` or `runc`; may be repeated
    #[arg(long, value_name = "TEXT")]
    peer: Vec<String>,
    /// Write the figures and pictures of these parts into docs/performance.md
    #[arg(long)]
    write: bool,
    /// Only look whether the arguments are right
    #[arg(long, hide = true)]
    check: bool,
    /// Where that is
    #[arg(long, hide = true, default_value = "docs")]
    docs: PathBuf,
    #[command(flatten)]
    programs: Programs,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What an idle shim costs
    Memory,
    /// What calls take by ctr
    Latency,
    /// What calls take on the shim's own socket
    Calls,
    /// Which processes each call forks
    Forks,
    /// Checkpoint and restore, beside the engines alone
    Checkpoint,
    /// A gibibyte through a container's standard output
    Stdout,
    /// `stasis dump` beside `criu dump`
    Dump,
}

impl Part {
    fn measure(self, plan: &Plan) -> Result<Section> {
        match self {
            Self::Memory => memory::measure(plan),
            Self::Latency => latency::measure(plan),
            Self::Calls => calls::measure(plan),
            Self::Forks => forks::measure(plan),
            Self::Checkpoint => checkpoint::measure(plan),
            Self::Stdout => stdout::measure(plan),
            Self::Dump => dump::measure(plan),
        }
    }
}

fn main() -> Result<()> {
    forks::stand_in()?;
    let arguments = Arguments::parse();
    let wanted = |peer: &Peer| {
        let name = peer.key();
        arguments.peer.is_empty() || arguments.peer.iter().any(|text| name.contains(text))
    };
    let plan = Plan {
        peers: PEERS.into_iter().filter(wanted).collect(),
        rounds: arguments.rounds,
        programs: arguments.programs,
    };
    ensure!(!plan.peers.is_empty(), "no peer has such a name");
    if arguments.check {
        return Ok(());
    }
    let parts = if arguments.parts.is_empty() {
        Part::value_variants().to_vec()
    } else {
        arguments.parts
    };
    let machine = machine::describe()?;
    println!("{machine}");
    if arguments.write {
        report::write_text(&arguments.docs, "machine", &machine)?;
    }
    let mut failed = false;
    for part in parts {
        eprintln!("bench: measuring: {part:?}");
        match part.measure(&plan) {
            Ok(section) => {
                println!("{}", section.text());
                if arguments.write {
                    section.write(&arguments.docs)?;
                }
            }
            // The other parts' figures are none the worse.
            Err(error) => {
                eprintln!("bench: {part:?} cannot be measured: {error:#}");
                failed = true;
            }
        }
    }
    ensure!(!failed, "not all parts were measured");
    Ok(())
}
