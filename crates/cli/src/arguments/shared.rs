//! Arguments that several commands take, and the options that they become.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PathBufValueParser, PossibleValue, PossibleValuesParser, TypedValueParser},
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
        let level = LogLevel::try_from(self.verbosity)?;
        let options = Options::new(&self.images_dir).log_level(level);
        let options = self.work_dir.iter().fold(options, Options::work_dir);
        let options = self.log_file.iter().fold(options, Options::log_file);
        Ok(self.config.iter().fold(options, Options::config_file))
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
    #[arg(long, value_name = "MODE",
          value_parser = one_of(CgroupMode::NAMED.map(cgroups), CgroupMode::as_str))]
    pub manage_cgroups: Option<CgroupMode>,

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
        let options = options
            .tcp_established(self.tcp_established)
            .tcp_close(self.tcp_close)
            .ext_unix_sk(self.ext_unix_sk)
            .shell_job(self.shell_job)
            .file_locks(self.file_locks)
            .unprivileged(self.unprivileged);
        let external = self.external.iter().cloned();
        let options = external.fold(options, Options::external);
        let cgroups = self.manage_cgroups.into_iter();
        let options = cgroups.fold(options, Options::manage_cgroups);
        let empty = self.empty_ns.map(|Empty::Net| EmptyNamespace::Network);
        let options = empty.into_iter().fold(options, Options::empty_ns);
        let options = self.root.iter().fold(options, Options::root);
        let profile = self.lsm_profile.iter().cloned();
        profile.fold(options, Options::lsm_profile)
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
fn cgroups(mode: CgroupMode) -> (CgroupMode, &'static str) {
    let help = match mode {
        CgroupMode::Ignore => "Nothing at all",
        CgroupMode::None => "They are there already and stay as they are",
        CgroupMode::Props => "They are there already, and their properties are restored",
        CgroupMode::Soft | CgroupMode::Default => {
            "Those that are missing are made, and only their properties are restored"
        }
        CgroupMode::Full => "Those that are missing are made, and all properties are restored",
        CgroupMode::Strict => "They must not be there, and all are made",
    };
    (mode, help)
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

/// One of these values, each with what it means, by the word that CRIU has for it.
pub fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    values: [(T, &'static str); N],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let words = values.map(|(value, help)| PossibleValue::new(word(value)).help(help));
    PossibleValuesParser::new(words).try_map(move |said| {
        let named = values.iter().find(|(value, _)| word(*value) == said);
        named.map(|(value, _)| *value).ok_or("it is none of them")
    })
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
