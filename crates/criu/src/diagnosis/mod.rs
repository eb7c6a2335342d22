//! Why CRIU failed.
//!
//! A reply says little: most failures have no error number, and its message is the first error of
//! the log, which is seldom the cause. So the cause comes out of the log, which is best written at
//! level 4, since some causes are no errors to CRIU; out of stderr if CRIU failed before its log
//! was open; and out of the reply at last.
//!
//! `causes.rs` has the known causes, `log.rs` the way through a log, `errno.rs` the numbers.

mod causes;
mod errno;
mod log;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    os::{
        fd::BorrowedFd,
        unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::ExitStatus,
};

use stasis_linux::file::{self, Directory};

use crate::{request::Request, version::Version};

pub use causes::KnownCause;
pub use errno::CrErrno;

/// A log of level 4 of thousands of processes is not nearly as long; only a restore that goes
/// round in circles writes more. Of a longer one the end is read.
const MAX_LOG: u64 = 16 << 20;
/// The version is among the first lines.
const HEAD: u64 = 8 << 10;
/// A line of a program that CRIU ran can be anything.
const MAX_CAUSE: usize = 1024;

/// What there is to tell why a request failed.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// What was asked for.
    pub request: Request,
    /// The reply's error number.
    pub cr_errno: Option<i32>,
    /// The reply's message.
    pub cr_errmsg: Option<&'a str>,
    /// What CRIU wrote to stderr.
    pub stderr: &'a [u8],
    /// The log of this request, if it had one.
    pub log: Option<Log<'a>>,
    /// Whether the disk was full when CRIU had failed. Its log is cut then, mostly before it tells.
    pub disk_full: bool,
    /// How CRIU ended, if it did.
    pub exit: Option<ExitStatus>,
}

impl Evidence<'_> {
    /// Nothing but that it failed.
    #[must_use]
    pub fn of(request: Request) -> Self {
        Self {
            request,
            cr_errno: None,
            cr_errmsg: None,
            stderr: b"",
            log: None,
            disk_full: false,
            exit: None,
        }
    }
}

/// Where a log is.
#[derive(Debug, Clone, Copy)]
pub enum Log<'a> {
    /// At a path.
    Path(&'a Path),
    /// In an open directory, under a name.
    In(BorrowedFd<'a>, &'a str),
}

/// Why a request failed, as far as can be told.
///
/// As text it is one sentence: what it means, the way out, what CRIU said itself, and where its
/// log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What failed.
    pub request: Request,
    /// What CRIU says of it.
    pub cause: Option<String>,
    /// What that is known to mean.
    pub known: Option<KnownCause>,
    /// The reply's error number.
    pub errno: Option<CrErrno>,
    /// The log, if there is one.
    pub log: Option<PathBuf>,
    /// How CRIU ended, if it did and not by itself with 0.
    pub exit: Option<ExitStatus>,
}

/// Tells why a request failed.
///
/// Reads the log, and so may block for a moment.
#[must_use]
pub fn diagnose(evidence: &Evidence<'_>) -> Diagnosis {
    let request = evidence.request;
    let log = evidence.log.and_then(Log::read);
    let stderr = String::from_utf8_lossy(evidence.stderr);
    let found = log
        .as_ref()
        .and_then(|(_, text)| log::cause(text, request))
        .or_else(|| log::cause(&stderr, request))
        .or_else(|| last_words(&stderr, request))
        .or_else(|| from_reply(evidence.cr_errmsg?, request));
    let (cause, known) = found.map_or((None, None), |found| (Some(found.text), found.known));
    let known = known.or_else(|| evidence.disk_full.then_some(KnownCause::NoSpace));
    Diagnosis {
        request,
        cause: cause.map(shortened),
        known,
        errno: evidence.cr_errno.and_then(CrErrno::new),
        log: log.map(|(path, _)| path),
        exit: evidence.exit.filter(|exit| !exit.success()),
    }
}

/// A log as it was at some time. CRIU writes over that of an earlier request, if it comes so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    written: (i64, i64),
}

impl<'a> Log<'a> {
    /// Its directory and its name there.
    fn place(self) -> Option<(Directory<'a>, &'a Path)> {
        match self {
            Self::Path(path) => {
                let parent = path.parent().filter(|parent| *parent != Path::new(""));
                let parent = Directory::Path(parent.unwrap_or_else(|| Path::new(".")));
                Some((parent, Path::new(path.file_name()?)))
            }
            Self::In(directory, name) => Some((Directory::Descriptor(directory), Path::new(name))),
        }
    }

    /// Which CRIU wrote it, as far as it tells.
    #[must_use]
    pub fn version(self) -> Option<Version> {
        let (directory, name) = self.place()?;
        let head = file::head(directory.open(name).ok()?, HEAD).ok()?;
        log::version(&String::from_utf8_lossy(&head))
    }

    /// What it is like now. `None` if there is none that can be read.
    pub(crate) fn stamp(self) -> Option<Stamp> {
        let (directory, name) = self.place()?;
        let log = directory.open(name).ok()?.metadata().ok()?;
        Some(Stamp {
            device: log.dev(),
            inode: log.ino(),
            size: log.size(),
            written: (log.mtime(), log.mtime_nsec()),
        })
    }

    /// Where it is and what is at its end. `None` if there is none that can be read.
    fn read(self) -> Option<(PathBuf, String)> {
        let (directory, name) = self.place()?;
        let bytes = file::tail(directory.open(name).ok()?, MAX_LOG).ok()?;
        let path = match self {
            Self::Path(path) => path.to_owned(),
            Self::In(directory, name) => file::path_of(directory).join(name),
        };
        Some((path, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// The last line on stderr that says anything: CRIU's own has the place of an error before it, but
/// the loader's and getopt's have not.
fn last_words(stderr: &str, request: Request) -> Option<log::Finding> {
    let text = stderr.lines().map(log::statement).rfind(|text| {
        !text.is_empty() && !text.starts_with("CRIU run id") && !log::is_noise(text)
    })?;
    Some(log::Finding {
        text: text.to_owned(),
        known: KnownCause::told_by(text, request),
    })
}

fn from_reply(message: &str, request: Request) -> Option<log::Finding> {
    let text = log::statement(message.trim());
    let tells = !text.is_empty() && !log::is_noise(text);
    tells.then(|| log::Finding {
        text: text.to_owned(),
        known: KnownCause::told_by(text, request),
    })
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_CAUSE {
        text.truncate(text.floor_char_boundary(MAX_CAUSE));
        text.push('…');
    }
    text
}

impl Diagnosis {
    /// As text, with each option of the way out as its reader calls it: `word` is given its name in
    /// CRIU's RPC.
    ///
    /// ```
    /// use stasis_criu::{Evidence, Request, diagnose};
    ///
    /// let evidence = Evidence {
    ///     cr_errmsg: Some("Can't dump ghost file x of 2 size, increase limit"),
    ///     ..Evidence::of(Request::Dump)
    /// };
    /// let told = diagnose(&evidence).in_words(&|option| format!("--{}", option.replace('_', "-")));
    /// assert!(told.contains("raise --ghost-limit"));
    /// ```
    #[must_use]
    pub fn in_words(&self, word: &dyn Fn(&'static str) -> String) -> String {
        let errno = self.errno.map(|errno| (errno, errno.meaning(self.request)));
        let mut told = match (self.known, &self.cause, errno) {
            (Some(known), cause, _) => {
                let told = format!("{}: {}", known.meaning(), known.remedy_in(word));
                match cause {
                    Some(cause) => format!("{told} (CRIU says: {cause})"),
                    None => told,
                }
            }
            (None, Some(cause), _) => cause.clone(),
            (None, None, Some((_, Some(meaning)))) => meaning.to_owned(),
            (None, None, _) => String::from("CRIU gave no reason"),
        };
        if let Some((errno, _)) = errno {
            told.push_str(&format!(", {errno}"));
        }
        match self.exit.map(|exit| (exit.signal(), exit.code())) {
            Some((Some(signal), _)) => {
                told.push_str(&format!(", CRIU was killed by signal {signal}"));
            }
            // It exits with 1 at every failure that it tells the cause of.
            Some((None, Some(code))) if self.cause.is_none() => {
                told.push_str(&format!(", CRIU exited with {code}"));
            }
            Some(_) | None => {}
        }
        if let Some(log) = &self.log {
            told.push_str(&format!(", its log is {}", log.display()));
        }
        told
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(&|option| format!("`{option}`")))
    }
}
