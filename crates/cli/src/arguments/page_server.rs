//! What a page server is told.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
use stasis_criu::Options;

use super::{Images, dump::Encryption, shared::MEMORY};

/// `stasis page-server`.
#[derive(Debug, Args)]
pub struct PageServer {
    #[command(flatten)]
    pub images: Images,

    /// The address to listen at: 0.0.0.0 is any that this machine has
    #[arg(long, help_heading = MEMORY, default_value_t = Ipv4Addr::UNSPECIFIED.into())]
    pub address: IpAddr,

    /// The port to listen at; 0 is one that is free
    #[arg(long, help_heading = MEMORY, default_value_t = 0)]
    pub port: u16,

    /// The images of the dump before, as seen from this one's
    #[arg(long, help_heading = MEMORY, value_name = "DIR", visible_alias = "prev-images-dir")]
    pub parent: Option<PathBuf>,

    /// Take out of the parent's images what comes anew
    #[arg(long, help_heading = MEMORY, requires = "parent")]
    pub auto_dedup: bool,

    #[command(flatten)]
    pub tls: Encryption,
}

impl PageServer {
    /// Where it listens.
    pub fn listens_at(&self) -> SocketAddr {
        (self.address, self.port).into()
    }

    /// The options that it has.
    pub fn options(&self) -> anyhow::Result<Options> {
        let options = self.images.options()?.dedup_on_dump(self.auto_dedup);
        let options = self.parent.iter().fold(options, Options::parent_img);
        Ok(self.tls.apply(options))
    }
}
