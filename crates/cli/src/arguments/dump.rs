//! What a dump and a pre-dump are told.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::Args;
use stasis_criu::{
    Options,
    options::{GhostLimit, NetworkLock, PageServer, PreDumpMode, Tls},
};

use super::{
    Images,
    shared::{Both, FILES, MEMORY, PROCESSES, from_here, one_of},
};

/// `stasis dump`.
#[derive(Debug, Args)]
pub struct Dump {
    #[command(flatten)]
    pub target: DumpTarget,

    #[command(flatten)]
    pub images: Images,

    /// Let the processes run on after the dump
    #[arg(short = 'R', long, help_heading = PROCESSES, conflicts_with = "leave_stopped")]
    pub leave_running: bool,

    /// Leave the processes stopped after the dump
    #[arg(short = 's', long, help_heading = PROCESSES)]
    pub leave_stopped: bool,

    #[command(flatten)]
    pub memory: Memory,

    #[command(flatten)]
    pub files: Files,

    #[command(flatten)]
    pub both: Both,
}

impl Dump {
    /// The options that it has.
    pub fn options(&self) -> anyhow::Result<Options> {
        let options = self
            .images
            .options()?
            .leave_running(self.leave_running)
            .leave_stopped(self.leave_stopped);
        let options = self.target.apply(self.memory.apply(options));
        Ok(self.files.apply(self.both.apply(options))?)
    }
}

/// `stasis pre-dump`.
#[derive(Debug, Args)]
pub struct PreDump {
    #[command(flatten)]
    pub target: DumpTarget,

    #[command(flatten)]
    pub images: Images,

    /// How memory is read
    #[arg(long, value_name = "MODE", help_heading = MEMORY,
          value_parser = one_of(READ, PreDumpMode::as_str))]
    pub pre_dump_mode: Option<PreDumpMode>,

    #[command(flatten)]
    pub memory: Memory,

    #[command(flatten)]
    pub files: Files,

    #[command(flatten)]
    pub both: Both,
}

impl PreDump {
    /// The options that it has.
    pub fn options(&self) -> anyhow::Result<Options> {
        let options = self.target.apply(self.memory.apply(self.images.options()?));
        let mode = self.pre_dump_mode.into_iter();
        let options = mode.fold(options, Options::pre_dump_mode);
        Ok(self.files.apply(self.both.apply(options))?)
    }
}

/// How a pre-dump reads memory.
const READ: [(PreDumpMode, &str); 2] = [
    (PreDumpMode::Splice, "By pipes, which hold on to it"),
    (PreDumpMode::Read, "By reading it while the processes run"),
];

/// Which processes.
#[derive(Debug, Args)]
#[command(next_help_heading = PROCESSES)]
pub struct DumpTarget {
    /// The process, with all that descend from it
    #[arg(short = 't', long = "tree", value_name = "PID",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: u32,

    /// How many seconds the processes may take to be frozen [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,

    /// The directory of the freezer cgroup that holds the processes
    #[arg(long, value_name = "DIR", value_parser = from_here())]
    pub freeze_cgroup: Option<PathBuf>,
}

impl DumpTarget {
    fn apply(&self, options: Options) -> Options {
        let timeout = self.timeout.map(|after| Duration::from_secs(after.into()));
        let options = timeout.into_iter().fold(options, Options::timeout);
        let freezer = self.freeze_cgroup.iter();
        let options = freezer.fold(options, Options::freeze_cgroup);
        options.pid(self.pid)
    }
}

/// Where memory goes.
#[derive(Debug, Args)]
#[command(next_help_heading = MEMORY)]
pub struct Memory {
    /// The images of the dump before, as seen from this one's: only what changed is written
    #[arg(long, value_name = "DIR", visible_alias = "prev-images-dir")]
    pub parent: Option<PathBuf>,

    /// Keep track of what changes from now on, for the next dump [default: with --parent]
    #[arg(long)]
    pub track_mem: bool,

    /// Take out of the parent's images what this dump has itself
    #[arg(long, requires = "parent")]
    pub auto_dedup: bool,

    /// Send pages to a page server
    #[arg(long, requires_all = ["address", "port"])]
    pub page_server: bool,

    /// The address of the page server
    #[arg(long, requires = "page_server")]
    pub address: Option<IpAddr>,

    /// The port of the page server
    #[arg(long, requires = "page_server",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    #[command(flatten)]
    pub tls: Encryption,
}

impl Memory {
    fn apply(&self, options: Options) -> Options {
        // Without it CRIU takes a parent, and writes everything.
        let track_mem = self.track_mem || self.parent.is_some();
        let options = options.track_mem(track_mem).dedup_on_dump(self.auto_dedup);
        let options = self.parent.iter().fold(options, Options::parent_img);
        let server = self.address.zip(self.port).into_iter();
        let server = server.map(|(address, port)| PageServer::at(address, port));
        let options = server.fold(options, Options::page_server);
        self.tls.apply(options)
    }
}

/// How pages travel.
#[derive(Debug, Args)]
#[command(next_help_heading = "Encryption")]
pub struct Encryption {
    /// Send or take pages over TLS
    #[arg(long)]
    pub tls: bool,

    /// The authority that signed the other end's certificate [default: /etc/pki/CA/cacert.pem]
    #[arg(long, value_name = "FILE", requires = "tls", value_parser = from_here())]
    pub tls_cacert: Option<PathBuf>,

    /// The certificates that the authority has taken back
    #[arg(long, value_name = "FILE", requires = "tls", value_parser = from_here())]
    pub tls_cacrl: Option<PathBuf>,

    /// The certificate of this end [default: /etc/pki/criu/cert.pem]
    #[arg(long, value_name = "FILE", requires = "tls", value_parser = from_here())]
    pub tls_cert: Option<PathBuf>,

    /// The private key of this end [default: /etc/pki/criu/private/key.pem]
    #[arg(long, value_name = "FILE", requires = "tls", value_parser = from_here())]
    pub tls_key: Option<PathBuf>,

    /// Take any name in the other end's certificate
    #[arg(long, requires = "tls")]
    pub tls_no_cn_verify: bool,
}

impl Encryption {
    /// Sets what was said.
    pub fn apply(&self, options: Options) -> Options {
        if !self.tls {
            return options;
        }
        let tls = Tls::default().no_cn_verify(self.tls_no_cn_verify);
        let tls = self.tls_cacert.iter().fold(tls, Tls::cacert);
        let tls = self.tls_cacrl.iter().fold(tls, Tls::cacrl);
        let tls = self.tls_cert.iter().fold(tls, Tls::cert);
        options.tls(self.tls_key.iter().fold(tls, Tls::key))
    }
}

/// What only a dump is told of files, mounts and connections.
#[derive(Debug, Args)]
#[command(next_help_heading = FILES)]
pub struct Files {
    /// The largest deleted file to take along, in bytes [default: 1 MiB]
    #[arg(long, value_name = "BYTES")]
    pub ghost_limit: Option<u64>,

    /// Take deleted files along that have another name still, by a link beside it
    #[arg(long)]
    pub link_remap: bool,

    /// Take a device along by any path that leads to it
    #[arg(long)]
    pub evasive_devices: bool,

    /// Look for the paths of watched files
    #[arg(long)]
    pub force_irmap: bool,

    /// A directory to look for them in
    #[arg(long, value_name = "DIR", value_parser = from_here())]
    pub irmap_scan_path: Vec<PathBuf>,

    /// Pass over TCP connections that are not established yet
    #[arg(long, visible_alias = "tcp-skip-in-flight")]
    pub skip_in_flight: bool,

    /// How connections are kept quiet
    #[arg(long, value_name = "METHOD", value_parser = one_of(LOCKS, NetworkLock::as_str))]
    pub network_lock: Option<NetworkLock>,

    /// A mount to leave out
    #[arg(long, value_name = "MOUNTPOINT")]
    pub skip_mnt: Vec<PathBuf>,

    /// A file system to take along that CRIU does not know
    #[arg(long, value_name = "NAME")]
    pub enable_fs: Vec<String>,
}

impl Files {
    fn apply(&self, options: Options) -> Result<Options, stasis_criu::OptionError> {
        let options = options
            .link_remap(self.link_remap)
            .evasive_devices(self.evasive_devices)
            .force_irmap(self.force_irmap)
            .tcp_skip_in_flight(self.skip_in_flight);
        let limit = self.ghost_limit.map(GhostLimit::try_from).transpose()?;
        let options = limit.into_iter().fold(options, Options::ghost_limit);
        let lock = self.network_lock.into_iter();
        let options = lock.fold(options, Options::network_lock);
        let options = (self.irmap_scan_path.iter()).fold(options, Options::irmap_scan_path);
        let options = self.skip_mnt.iter().fold(options, Options::skip_mnt);
        Ok(self.enable_fs.iter().fold(options, Options::enable_fs))
    }
}

/// How connections are kept quiet.
const LOCKS: [(NetworkLock, &str); 3] = [
    (NetworkLock::Iptables, "By rules of iptables"),
    (NetworkLock::Nftables, "By a table of nftables"),
    (NetworkLock::Skip, "Not at all"),
];
