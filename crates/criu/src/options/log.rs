//! CRIU's log.

use super::{
    Options,
    error::OptionError,
    table::{ALL, By, DUMPS_AND_RESTORE, Given, Key, Release, Row, flag, text},
};
use crate::{request::Request, rpc::CriuOpts, setters::setters};

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 9,
        name: "log_level",
        since: Release::new(0, 8, 0),
        requests: ALL,
        key: Key::Named("verbosity"),
        by: By::Setter {
            given: |o| Given::one(o.log.level.map(|level| (level as i32).to_string())),
            put: |o, rpc| rpc.log_level = o.log.level.map(|level| level as i32),
        },
    },
    text!(
        10,
        log_file,
        Key::Named("log-file"),
        Release::new(0, 8, 0),
        ALL,
        log.file
    ),
    flag!(
        71,
        log_to_stderr,
        Key::None("there is no such key"),
        Release::new(3, 19, 0),
        ALL,
        log.to_stderr
    ),
    flag!(
        70,
        display_stats,
        Key::Named("display-stats"),
        Release::new(3, 19, 0),
        DUMPS_AND_RESTORE,
        log.display_stats
    ),
    Row {
        number: 12,
        name: "notify_scripts",
        since: Release::new(1, 2, 0),
        requests: ALL,
        key: Key::None("there is no such key: it asks for hooks over the RPC"),
        by: By::Client,
    },
];

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Log {
    pub(super) level: Option<LogLevel>,
    pub(super) file: Option<String>,
    pub(super) to_stderr: bool,
    pub(super) display_stats: bool,
}

/// CRIU's log.
///
/// ```
/// use stasis_criu::{Options, options::LogLevel};
///
/// let options = Options::new("/var/lib/images")
///     .log_level(LogLevel::Warnings)
///     .log_file("checkpoint.log");
/// ```
impl Options {
    setters! {
        /// How much CRIU tells, `log_level`: everything if this is not set, since the cause of a
        /// failure is often told only there.
        pub fn log_level(mut self, level: LogLevel) { self.log.level = Some(level); }

        /// The log's name in the work directory, `log_file`: the request's, such as `dump.log`, if
        /// this is not set.
        pub fn log_file(mut self, name: impl Into<String>) { self.log.file = Some(name.into()); }

        /// Writes the log to CRIU's standard error and to no file, `log_to_stderr`.
        pub fn log_to_stderr(mut self, set: bool) { self.log.to_stderr = set; }

        /// Writes the statistics to the log too, `display_stats`.
        pub fn display_stats(mut self, set: bool) { self.log.display_stats = set; }
    }
}

/// How much CRIU tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum LogLevel {
    /// Only what it prints anyway.
    Silent = 0,
    /// Errors.
    Errors = 1,
    /// Warnings too: CRIU's own default.
    Warnings = 2,
    /// What it does.
    Information = 3,
    /// Everything.
    Debug = 4,
}

impl TryFrom<u32> for LogLevel {
    type Error = OptionError;

    fn try_from(level: u32) -> Result<Self, OptionError> {
        match level {
            0 => Ok(Self::Silent),
            1 => Ok(Self::Errors),
            2 => Ok(Self::Warnings),
            3 => Ok(Self::Information),
            4 => Ok(Self::Debug),
            _ => {
                let reason = "the levels are 0 to 4";
                Err(OptionError::value("log_level", level, reason))
            }
        }
    }
}

/// The log's name in the work directory if none is set.
pub(super) fn default_name(request: Request) -> &'static str {
    match request {
        Request::Dump => "dump.log",
        Request::PreDump | Request::SinglePreDump => "pre-dump.log",
        Request::Restore => "restore.log",
        Request::PageServer | Request::PageServerChild => "page-server.log",
        Request::Check => "check.log",
        Request::CpuinfoDump => "cpuinfo-dump.log",
        Request::CpuinfoCheck => "cpuinfo-check.log",
        Request::Version | Request::Features | Request::WaitPid => "criu.log",
    }
}

/// What a message says where nothing is set.
pub(super) fn put_defaults(options: &Options, request: Request, rpc: &mut CriuOpts) {
    rpc.log_level.get_or_insert(LogLevel::Debug as i32);
    // CRIU writes to a file that is named, whatever else it is told.
    if !options.log.to_stderr {
        rpc.log_file
            .get_or_insert_with(|| default_name(request).to_owned());
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    let Some(name) = &options.log.file else {
        return Ok(());
    };
    if options.log.to_stderr {
        return Err(OptionError::Conflict {
            option: "log_file",
            other: "log_to_stderr",
            reason: "CRIU writes to the file only",
        });
    }
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let reason = "it is a name in the work directory, which `work_dir` sets";
        return Err(OptionError::value("log_file", name, reason));
    }
    Ok(())
}
