//! Arguments that several commands take, and the options that they become.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser},
};
use stasis_criu::{
    Options,
    options::{CgroupMode, EmptyNamespace, External, LogLevel, LsmProfile},
};

/// What arguments are about: the headings of the help.
pub const PROCESSES: &str = "Processes";
/// As [`PROCESSES`].
pub const MEMORY: &str = "Memory";
/// As [`PROCESSES`].
pub const FILES: &str = "Files, connections and namespaces";

/// Where images are, and how much CRIU tells.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images and log")]
pub struct Images {
    /// The directory of the images
    #[arg(short = 'D', long, value_name = "DIR")]
    pub images_dir: PathBuf,

    /// The directory of the log and the statistics [default: that of the images]
    #[arg(short = 'W', long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,

    /// The name of the log [default: that of the command, as in dump.log]
    #[arg(short = 'o', long, value_name = "NAME")]
    pub log_file: Option<String>,

    /// How much CRIU tells in its log: 0 nothing to 4 everything
    #[arg(short, long, value_name = "LEVEL", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(0..=4))]
    pub verbosity: u32,

    /// A file of options that CRIU reads last
    #[arg(long, value_name = "FILE", value_parser = from_here())]
    pub config: Option<PathBuf>,

    /// Cancel it if it is not done after so many seconds, which may have a fraction
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub deadline: Option<Duration>,
}

impl Images {
    /// Options for these images.
    pub fn options(&self) -> anyhow::Result<Options> {
        let mut options =
            Options::new(&self.images_dir).log_level(LogLevel::try_from(self.verbosity)?);
        if let Some(work) = &self.work_dir {
            options = options.work_dir(work);
        }
        if let Some(name) = &self.log_file {
            options = options.log_file(name);
        }
        if let Some(file) = &self.config {
            options = options.config_file(file);
        }
        Ok(options)
    }
}

/// What a dump and the restore of its images are both told.
#[derive(Debug, Args)]
#[command(next_help_heading = FILES)]
pub struct Both {
    /// Take established TCP connections along [default for a dump: if there are any]
    #[arg(long)]
    pub tcp_established: bool,

    /// Close TCP connections instead of taking them along
    #[arg(long, conflicts_with = "tcp_established")]
    pub tcp_close: bool,

    /// Take Unix sockets along whose other end is outside [default for a dump: if there are any]
    #[arg(long)]
    pub ext_unix_sk: bool,

    /// The processes are a job of a shell, whose session or terminal is outside [default: if so]
    #[arg(short = 'j', long)]
    pub shell_job: bool,

    /// Take file locks along
    #[arg(short = 'l', long)]
    pub file_locks: bool,

    // Its brackets are no links.
    #[arg(
        long,
        value_name = "RESOURCE",
        help = "Something from outside, such as mnt[/data]:name, file[2a:99] or veth[eth0]:host0"
    )]
    pub external: Vec<External>,

    /// What becomes of cgroups [default: CRIU's]
    #[arg(long, value_name = "MODE")]
    pub manage_cgroups: Option<Cgroups>,

    /// Leave this namespace empty
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Option<Empty>,

    /// The root of the mounts, of a mount namespace of its own
    #[arg(long, value_name = "DIR", value_parser = from_here())]
    pub root: Option<PathBuf>,

    /// A profile of a security module instead of theirs: apparmor:NAME or selinux:LABEL
    #[arg(long, value_name = "PROFILE")]
    pub lsm_profile: Option<LsmProfile>,

    /// CRIU runs without root
    #[arg(long)]
    pub unprivileged: bool,
}

impl Both {
    /// Sets what was said.
    pub fn apply(&self, options: Options) -> Options {
        let mut options = options
            .tcp_established(self.tcp_established)
            .tcp_close(self.tcp_close)
            .ext_unix_sk(self.ext_unix_sk)
            .shell_job(self.shell_job)
            .file_locks(self.file_locks)
            .unprivileged(self.unprivileged);
        options = self
            .external
            .iter()
            .cloned()
            .fold(options, Options::external);
        if let Some(mode) = self.manage_cgroups {
            options = options.manage_cgroups(mode.into());
        }
        if let Some(Empty::Net) = self.empty_ns {
            options = options.empty_ns(EmptyNamespace::Network);
        }
        if let Some(root) = &self.root {
            options = options.root(root);
        }
        if let Some(profile) = &self.lsm_profile {
            options = options.lsm_profile(profile.clone());
        }
        options
    }

    /// Takes back what a plan has found and these arguments say otherwise.
    pub fn over(&self, planned: Options) -> Options {
        match self.tcp_close {
            true => planned.tcp_established(false),
            false => planned,
        }
    }
}

/// What becomes of cgroups.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Cgroups {
    /// Nothing at all
    Ignore,
    /// They are there already and stay as they are
    None,
    /// They are there already, and their properties are restored
    Props,
    /// Those that are missing are made, and only their properties are restored
    Soft,
    /// Those that are missing are made, and all properties are restored
    Full,
    /// They must not be there, and all are made
    Strict,
}

impl From<Cgroups> for CgroupMode {
    fn from(mode: Cgroups) -> Self {
        match mode {
            Cgroups::Ignore => Self::Ignore,
            Cgroups::None => Self::None,
            Cgroups::Props => Self::Props,
            Cgroups::Soft => Self::Soft,
            Cgroups::Full => Self::Full,
            Cgroups::Strict => Self::Strict,
        }
    }
}

/// A namespace that can be left empty.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Empty {
    /// The network
    Net,
}

/// The standard streams of a process, and whether its end is waited for.
#[derive(Debug, Args)]
#[command(next_help_heading = PROCESSES)]
pub struct Streams {
    /// Append its output and errors to this file
    #[arg(long, value_name = "FILE", conflicts_with = "attach")]
    pub log: Option<PathBuf>,

    /// Connect it with these streams here: a terminal of its own if they are one, else pipes
    #[arg(short, long, conflicts_with = "detach")]
    pub attach: bool,

    /// Print its number and leave it to itself
    #[arg(short, long)]
    pub detach: bool,

    /// Write its number to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

/// A path that may begin where the command was started, which is not where CRIU works.
pub fn from_here() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// Seconds, with or without a fraction.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| String::from("it is no number"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err(String::from("it is no time at all")),
        Err(error) => Err(error.to_string()),
    }
}
