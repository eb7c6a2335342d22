//! Reading `config.toml`, from a file or from the options of a request.

use std::{io, path::Path};

use stasis_linux::file;

use super::{error::Error, keys::Config};

/// The most that is read of a file. The longest that makes sense is some kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// The place of an inline configuration, in errors.
const INLINE: &str = "the config_body of the runtime options";

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

/// Reads the file at `path`, which must exist.
pub(super) fn read(path: &Path) -> Result<Config, Error> {
    let text = text_of(path).map_err(|source| match source.kind() {
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
pub(super) fn read_first(places: &[&Path]) -> Result<Config, Error> {
    for place in places {
        match read(place) {
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Ok(Config::default())
}

/// Reads an inline configuration.
pub(super) fn parse_inline(body: &str) -> Result<Config, Error> {
    let mut table: toml::Table =
        toml::from_str(body).map_err(|error| parse_error(INLINE, body, &error))?;
    translate(&mut table);
    let file = table
        .try_into()
        .map_err(|error| parse_error(INLINE, body, &error))?;
    checked(file, INLINE)
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

fn text_of(path: &Path) -> io::Result<String> {
    let text = file::read(path, MAX_FILE)?;
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn checked(config: Config, place: &str) -> Result<Config, Error> {
    let asked = [
        ("grouping", config.grouping),
        ("enable_hibernate_server", config.enable_hibernate_server),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((key, _)) => Err(Error::Refused {
            place: place.to_owned(),
            key,
        }),
        None => Ok(config),
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
