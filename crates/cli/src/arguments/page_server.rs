//! What a page server is told.

use std::net::IpAddr;

use clap::Args;
use stasis_criu::{Options, options};

use super::{Images, dump::Encryption};

/// `stasis page-server`.
#[derive(Debug, Args)]
pub struct PageServer {
    #[command(flatten)]
    pub images: Images,

    /// The address to listen at [default: all]
    #[arg(long)]
    pub address: Option<IpAddr>,

    /// The port to listen at; 0 is one that is free
    #[arg(long, default_value_t = 0)]
    pub port: u16,

    /// The images of the dump before, as seen from this one's
    #[arg(long, value_name = "DIR", visible_alias = "prev-images-dir")]
    pub parent: Option<std::path::PathBuf>,

    /// Take out of the parent's images what comes anew
    #[arg(long, requires = "parent")]
    pub auto_dedup: bool,

    #[command(flatten)]
    pub tls: Encryption,
}

impl PageServer {
    /// The options that it has.
    pub fn options(&self) -> anyhow::Result<Options> {
        let server = match self.address {
            Some(address) => options::PageServer::at(address, self.port),
            None => options::PageServer::listening(self.port),
        };
        let mut options = self
            .images
            .options()?
            .page_server(server)
            .dedup_on_dump(self.auto_dedup);
        if let Some(parent) = &self.parent {
            options = options.parent_img(parent);
        }
        Ok(self.tls.apply(options))
    }
}
