//! The keys of `config.toml`, and reading it from a file or from the options of a request.
//!
//! gVisor's keys keep their names and meaning, so that its files work here. `grouping` and
//! `enable_hibernate_server` are known only to be refused when they are true.
//! `examples/config.toml` documents every key.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use log::LevelFilter;
use serde::{Deserialize, Deserializer, de};
use stasis_engine::{CheckpointOptions, Timeouts};
use stasis_linux::file;

use super::{duration, error::Error};

/// The most that is read of a file. The longest that makes sense is some kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// The place of an inline configuration, in errors.
const INLINE: &str = "the config_body of the runtime options";

/// A configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    #[serde(deserialize_with = "non_empty")]
    pub(super) binary_name: Option<String>,
    #[serde(deserialize_with = "non_empty")]
    pub(super) root: Option<PathBuf>,
    pub(super) runsc_config: BTreeMap<String, String>,
    pub(super) systemd_cgroup: bool,
    pub(super) no_pivot_root: bool,
    pub(super) no_new_keyring: bool,
    pub(super) io_uid: u32,
    pub(super) io_gid: u32,
    #[serde(deserialize_with = "non_empty")]
    pub(super) shim_cgroup: Option<String>,
    #[serde(deserialize_with = "level")]
    pub(super) log_level: Option<LevelFilter>,
    #[serde(deserialize_with = "non_empty")]
    pub(super) log_path: Option<PathBuf>,
    pub(super) grouping: bool,
    pub(super) enable_hibernate_server: bool,
    #[serde(with = "Deadlines")]
    pub(super) timeouts: Timeouts,
    pub(super) checkpoint: CheckpointOptions,
}

/// How the table `[timeouts]` is read. A key that is left out keeps its default.
#[derive(Deserialize)]
#[serde(
    remote = "Timeouts",
    deny_unknown_fields,
    default = "Timeouts::default"
)]
struct Deadlines {
    #[serde(deserialize_with = "duration::deadline")]
    create: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    start: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    exec: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    kill: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    delete: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    state: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    pause: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    resume: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    checkpoint: Option<Duration>,
    #[serde(deserialize_with = "duration::deadline")]
    restore: Option<Duration>,
}

/// Our keys that CRI writes into an inline configuration, by other names: it copies the `options`
/// table of its own configuration, where they have those of the fields of
/// `containerd.runc.v1.Options`. In snake case the names are ours.
const CRI_NAMES: [&str; 8] = [
    "BinaryName",
    "Root",
    "SystemdCgroup",
    "NoPivotRoot",
    "NoNewKeyring",
    "ShimCgroup",
    "IoUid",
    "IoGid",
];

/// What else CRI copies: names that mean nothing for every container of a handler. The default
/// configuration of containerd writes them all, empty; a value is an error like an unknown key.
const CRI_EMPTY: [&str; 3] = ["CriuPath", "CriuImagePath", "CriuWorkPath"];

/// The fields of `runtimeoptions.v1.Options` itself, which CRI copies along with the rest.
const CRI_OWN: [&str; 3] = ["TypeUrl", "ConfigPath", "ConfigBody"];

impl File {
    /// Reads the file at `path`, which must exist.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = read(path).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => Error::TooLong {
                path: path.into(),
                limit: MAX_FILE,
            },
            _ => Error::Read {
                path: path.into(),
                source,
            },
        })?;
        let place = path.display().to_string();
        let file = toml::from_str(&text).map_err(|error| parse_error(&place, &text, &error))?;
        checked(file, &place)
    }

    /// Reads the first of `places` that exists; without any, the defaults.
    pub(super) fn read_first(places: &[&Path]) -> Result<Self, Error> {
        for place in places {
            match Self::read(place) {
                Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        Ok(Self::default())
    }

    /// Reads an inline configuration.
    pub(super) fn parse_inline(body: &str) -> Result<Self, Error> {
        let mut table: toml::Table =
            toml::from_str(body).map_err(|error| parse_error(INLINE, body, &error))?;
        translate(&mut table);
        let file = table
            .try_into()
            .map_err(|error| parse_error(INLINE, body, &error))?;
        checked(file, INLINE)
    }
}

/// Gives the keys of CRI's table our names. A value that is empty there is one that was not set.
fn translate(table: &mut toml::Table) {
    let is_empty = |value: &toml::Value| value.as_str().is_some_and(str::is_empty);
    for name in CRI_OWN {
        table.remove(name);
    }
    for name in CRI_EMPTY {
        if table.get(name).is_some_and(is_empty) {
            table.remove(name);
        }
    }
    for name in CRI_NAMES {
        if let Some(value) = table.remove(name)
            && !is_empty(&value)
        {
            table.insert(snake_case(name), value);
        }
    }
}

/// `BinaryName` as `binary_name`.
fn snake_case(name: &str) -> String {
    let mut key = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !key.is_empty() {
            key.push('_');
        }
        key.push(character.to_ascii_lowercase());
    }
    key
}

fn read(path: &Path) -> io::Result<String> {
    let text = file::read(path, MAX_FILE)?;
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn checked(file: File, place: &str) -> Result<File, Error> {
    let asked = [
        ("grouping", file.grouping),
        ("enable_hibernate_server", file.enable_hibernate_server),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((key, _)) => Err(Error::Refused {
            place: place.to_owned(),
            key,
        }),
        None => Ok(file),
    }
}

fn parse_error(place: &str, text: &str, error: &toml::de::Error) -> Error {
    // An inline configuration has no lines by the time its keys are looked at.
    let line = error
        .span()
        .map(|span| 1 + text[..span.start].matches('\n').count());
    let place = line.map_or_else(|| place.to_owned(), |line| format!("{place}, line {line}"));
    Error::Parse {
        place,
        message: error.message().to_owned(),
    }
}

/// Text, where an empty one is as good as none: gVisor's own defaults are written that way.
fn non_empty<'de, D: Deserializer<'de>, T: From<String>>(from: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

/// The levels by the names that gVisor's shim takes (logrus): ours, and those above error.
fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Option<LevelFilter>, D::Error> {
    const LEVELS: [&str; 7] = ["trace", "debug", "info", "warn", "error", "fatal", "panic"];
    let name = String::deserialize(from)?;
    let level = match name.as_str() {
        "trace" => LevelFilter::Trace,
        "debug" => LevelFilter::Debug,
        "info" => LevelFilter::Info,
        "warn" | "warning" => LevelFilter::Warn,
        "" => return Ok(None),
        "error" | "fatal" | "panic" => LevelFilter::Error,
        _ => return Err(de::Error::unknown_variant(&name, &LEVELS)),
    };
    Ok(Some(level))
}
