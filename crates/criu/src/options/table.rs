//! The table of CRIU's options: a row for each field of `criu_opts`, with its number and name, its
//! key in a configuration file, the first release that has it and the requests that it is for.
//! The rows of a topic stand in that topic's file, beside the setters.
//!
//! Numbers and names: `images/rpc.proto` of criu 4.2. Releases: the first tag whose `rpc.proto`
//! has the field. Keys: the table of long options in `criu/config.c` of 4.1.1 and 4.2, tried with
//! 4.1.1 and 4.2.1. Requests: where `criu/*.c` of 4.2 looks at what the option sets.

use std::{ffi::OsString, fmt};

use crate::{request::Request, rpc::CriuOpts, version::Version};

use super::{
    Options, cgroups, external, files, images, log, memory, mounts, namespaces, pages, security,
    tasks, tcp,
};

/// All rows, by topic.
static TOPICS: [&[Row]; 12] = [
    images::ROWS,
    tasks::ROWS,
    memory::ROWS,
    pages::ROWS,
    files::ROWS,
    external::ROWS,
    tcp::ROWS,
    cgroups::ROWS,
    mounts::ROWS,
    namespaces::ROWS,
    security::ROWS,
    log::ROWS,
];

/// The dump, and the pre-dumps ahead of it, which take the same options, so that one value serves
/// them all: a pre-dump passes over what only its dump does.
pub(super) const DUMPS: &[Request] = &[Request::Dump, Request::PreDump, Request::SinglePreDump];
pub(super) const RESTORE: &[Request] = &[Request::Restore];
pub(super) const DUMPS_AND_RESTORE: &[Request] = &[
    Request::Dump,
    Request::PreDump,
    Request::SinglePreDump,
    Request::Restore,
];
/// What reads or writes images, or moves pages.
pub(super) const DUMPS_AND_SERVERS: &[Request] = &[
    Request::Dump,
    Request::PreDump,
    Request::SinglePreDump,
    Request::PageServer,
    Request::PageServerChild,
];
/// Every request that carries options: the others have none.
pub(super) const ALL: &[Request] = &[
    Request::Dump,
    Request::PreDump,
    Request::SinglePreDump,
    Request::Restore,
    Request::PageServer,
    Request::PageServerChild,
    Request::Check,
    Request::CpuinfoDump,
    Request::CpuinfoCheck,
];

/// Every row of the table.
pub fn table() -> impl Iterator<Item = &'static Row> {
    TOPICS.into_iter().flatten()
}

/// What a configuration file of CRIU calls the option of this name in its RPC. `None` if it cannot
/// say it, or has several keys for it.
///
/// ```
/// assert_eq!(stasis_criu::options::config_key("cpu_cap"), Some("cpu-cap"));
/// ```
#[must_use]
pub fn config_key(name: &str) -> Option<&'static str> {
    let mut named = table().filter(|row| row.name == name);
    named.find_map(|row| match row.key {
        Key::Named(key) | Key::Exclusive { key, .. } => Some(key),
        Key::Several(_) | Key::None(_) => None,
    })
}

/// One field of `criu_opts`.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// Its name, which is what errors call it.
    pub name: &'static str,
    /// The first release that has it.
    pub since: Release,
    /// The requests that it is for: CRIU passes over it in any other, or fails.
    pub requests: &'static [Request],
    /// Its key in a configuration file.
    pub key: Key,
    /// What sets it.
    pub by: By,
}

/// How a configuration file calls an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// By this key.
    Named(&'static str),
    /// By this key, which does harm to a request that the option is not for.
    Exclusive {
        /// The key.
        key: &'static str,
        /// What it does to such a request.
        harm: &'static str,
    },
    /// By several keys.
    Several(&'static [&'static str]),
    /// Not at all, for this reason.
    None(&'static str),
}

/// What sets a field.
#[derive(Clone, Copy)]
pub enum By {
    /// A setter of [`Options`].
    Setter {
        #[doc(hidden)]
        given: fn(&Options) -> Given,
        #[doc(hidden)]
        put: fn(&Options, &mut CriuOpts),
    },
    /// The rendering, since it is the number of a descriptor that is opened for the request.
    Descriptor {
        #[doc(hidden)]
        given: fn(&Options) -> Given,
    },
    /// The setters of the field of this number, which took its place.
    Successor(u32),
    /// The client, when it has hooks to be called.
    Client,
}

impl fmt::Debug for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setter { .. } => f.write_str("Setter"),
            Self::Descriptor { .. } => f.write_str("Descriptor"),
            Self::Successor(number) => f.debug_tuple("Successor").field(number).finish(),
            Self::Client => f.write_str("Client"),
        }
    }
}

/// Whether an option is set, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// It is not set.
    No,
    /// It is switched on.
    On,
    /// It has these values, as a configuration file writes them.
    Values(Vec<OsString>),
    /// It has values under several keys.
    Pairs(Vec<(&'static str, Option<OsString>)>),
    /// It is a descriptor.
    Descriptor,
}

impl Given {
    pub(super) fn on(set: bool) -> Self {
        if set { Self::On } else { Self::No }
    }

    pub(super) fn descriptor(set: bool) -> Self {
        if set { Self::Descriptor } else { Self::No }
    }

    pub(super) fn one(value: Option<impl Into<OsString>>) -> Self {
        value.map_or(Self::No, |value| Self::Values(vec![value.into()]))
    }

    pub(super) fn all<T: Into<OsString>>(values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<_> = values.into_iter().map(Into::into).collect();
        if values.is_empty() {
            Self::No
        } else {
            Self::Values(values)
        }
    }
}

impl Row {
    /// Whether the option is set, and to what.
    pub(super) fn given(&self, options: &Options) -> Given {
        match self.by {
            By::Setter { given, .. } | By::Descriptor { given } => given(options),
            By::Successor(_) | By::Client => Given::No,
        }
    }
}

/// A release of CRIU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The first number.
    pub major: u8,
    /// The second number.
    pub minor: u8,
    /// The third number.
    pub sublevel: u8,
}

impl Release {
    pub(super) const fn new(major: u8, minor: u8, sublevel: u8) -> Self {
        Self {
            major,
            minor,
            sublevel,
        }
    }

    /// Whether a CRIU of this version has what the release has.
    #[must_use]
    pub fn is_in(self, version: &Version) -> bool {
        let release = Version::new(self.major.into(), self.minor.into(), self.sublevel.into());
        version.as_integer() >= release.as_integer()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.sublevel {
            0 => Ok(()),
            sublevel => write!(f, ".{sublevel}"),
        }
    }
}

/// A row of an option that is on or off.
macro_rules! flag {
    ($number:literal, $name:ident, $key:expr, $since:expr, $requests:expr, $topic:ident.$field:ident) => {
        $crate::options::table::Row {
            number: $number,
            name: stringify!($name),
            since: $since,
            requests: $requests,
            key: $key,
            by: $crate::options::table::By::Setter {
                given: |o| $crate::options::table::Given::on(o.$topic.$field),
                put: |_, rpc| rpc.$name = Some(true),
            },
        }
    };
}

/// A row of an option that is a text or a path.
macro_rules! text {
    ($number:literal, $name:ident, $key:expr, $since:expr, $requests:expr, $topic:ident.$field:ident) => {
        $crate::options::table::Row {
            number: $number,
            name: stringify!($name),
            since: $since,
            requests: $requests,
            key: $key,
            by: $crate::options::table::By::Setter {
                given: |o| $crate::options::table::Given::one(o.$topic.$field.as_ref()),
                put: |o, rpc| {
                    rpc.$name = o
                        .$topic
                        .$field
                        .as_ref()
                        .map($crate::options::table::rendered);
                },
            },
        }
    };
}

/// A row of an option that is a list of texts or paths.
macro_rules! texts {
    ($number:literal, $name:ident, $key:expr, $since:expr, $requests:expr, $topic:ident.$field:ident) => {
        $crate::options::table::Row {
            number: $number,
            name: stringify!($name),
            since: $since,
            requests: $requests,
            key: $key,
            by: $crate::options::table::By::Setter {
                given: |o| $crate::options::table::Given::all(&o.$topic.$field),
                put: |o, rpc| {
                    rpc.$name = o
                        .$topic
                        .$field
                        .iter()
                        .map($crate::options::table::rendered)
                        .collect();
                },
            },
        }
    };
}

pub(super) use {flag, text, texts};

/// A text or a path as a message carries it. What is no UTF-8 has been refused before.
pub(super) fn rendered(text: impl AsRef<std::ffi::OsStr>) -> String {
    text.as_ref().to_string_lossy().into_owned()
}
