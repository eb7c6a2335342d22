//! Seals an image.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Map, Value};

use super::{
    document::{File, Manifest, Phase},
    error::Error,
    files::Directory,
    format::{ASIDE, CAP, FORMAT_VERSION, NAME},
};
use crate::{host, identity::Identity, options::CheckpointOptions};

/// What the caller knows of an image that is to be sealed.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The name of the runtime.
    pub engine: String,
    /// Its version.
    pub engine_version: String,
    /// The build id of its binary.
    pub engine_build_id: Option<String>,
    /// The version of CRIU.
    pub criu_version: Option<String>,
    /// The options of the dump.
    pub options: CheckpointOptions,
    /// What was done so far, in order.
    pub phases: Vec<Phase>,
}

impl Parts {
    /// The parts of an image that this runtime just made. Reads the build id of its binary.
    ///
    /// # Errors
    /// If the binary cannot be read.
    pub fn of(
        engine: &Identity,
        criu_version: Option<stasis_criu::Version>,
        options: CheckpointOptions,
        phases: Vec<Phase>,
    ) -> Result<Self, Error> {
        Ok(Self {
            engine: engine.kind.to_string(),
            engine_version: engine.version.to_string(),
            engine_build_id: host::build_id(&engine.binary)
                .map_err(Error::io("read the build id of", &engine.binary))?,
            criu_version: criu_version.map(|version| version.to_string()),
            options,
            phases,
        })
    }
}

/// Takes the room of the longest manifest on the image's disk, for a dump that ends the container
/// itself: afterwards it would be too late to fail for a full disk. How long it will be, nobody
/// can tell before the dump; what it does not need is given back by [`seal()`].
///
/// # Errors
/// If there is no room, or the directory cannot be written.
pub fn reserve_room(image: &Path) -> Result<(), Error> {
    let path = image.join(ASIDE);
    let reserving = || Error::io("reserve room for the seal in", &path);
    let file = aside(&path).map_err(reserving())?;
    fallocate(&file, FallocateFlags::empty(), 0, CAP).map_err(|error| reserving()(error.into()))
}

/// Seals the image in `image`: the phases of measuring and, if `durable`, of syncing are added to
/// the given ones, and they add up to the total. If `durable`, everything is on the disk when
/// this returns. It blocks for as long as hashing and the disk take.
///
/// # Errors
/// If the image is not a flat directory of regular files, has more of them than a manifest can
/// name, or cannot be read or written.
pub fn seal(image: &Path, parts: Parts, durable: bool) -> Result<Manifest, Error> {
    let sealed = measure_and_write(image, parts, durable);
    if sealed.is_err() {
        // What was written of it, and room that was reserved, which an image that the caller
        // keeps would carry along.
        let _ = fs::remove_file(image.join(ASIDE));
    }
    sealed
}

fn measure_and_write(image: &Path, parts: Parts, durable: bool) -> Result<Manifest, Error> {
    let directory = Directory::open(image)?;
    let names = directory.names()?;
    if names.is_empty() {
        return Err(Error::Empty {
            image: image.to_owned(),
        });
    }
    let mut phases = parts.phases;
    let mut lap = Instant::now();
    let files = measure(&directory, &names)?;
    phases.push(Phase {
        name: "hash",
        took: lap.elapsed(),
    });
    if durable {
        lap = Instant::now();
        directory.sync(&names)?;
        phases.push(Phase {
            name: "sync",
            took: lap.elapsed(),
        });
    }
    let (phases, total) = in_milliseconds(&phases);
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        engine: parts.engine,
        engine_version: parts.engine_version,
        engine_build_id: parts.engine_build_id,
        criu_version: parts.criu_version,
        kernel: host::kernel_release(),
        cpu_features: host::cpu_features(),
        created: rfc3339(SystemTime::now()),
        options: parts.options,
        phases,
        total,
        files,
    };
    write(&directory, &manifest, durable)?;
    Ok(manifest)
}

fn measure(directory: &Directory, names: &[String]) -> Result<BTreeMap<String, File>, Error> {
    let mut files = BTreeMap::new();
    for name in names {
        let missing = || Error::Missing {
            image: directory.path.clone(),
            file: name.clone(),
        };
        files.insert(name.clone(), directory.measure(name)?.ok_or_else(missing)?);
    }
    Ok(files)
}

fn write(directory: &Directory, manifest: &Manifest, durable: bool) -> Result<(), Error> {
    let aside_path = directory.path.join(ASIDE);
    let path = directory.path.join(NAME);
    let mut text = serde_json::to_vec_pretty(manifest).map_err(|source| Error::Document {
        image: directory.path.clone(),
        source,
    })?;
    text.push(b'\n');
    // No restore would read it.
    if text.len() as u64 > CAP {
        return Err(Error::TooManyFiles {
            image: directory.path.clone(),
            files: manifest.files.len(),
        });
    }
    let writing = || Error::io("write the seal", &path);
    // Opened without truncation and written over, so that reserved room is used.
    let mut file = aside(&aside_path).map_err(writing())?;
    file.write_all(&text).map_err(writing())?;
    file.set_len(text.len() as u64).map_err(writing())?;
    if durable {
        file.sync_all().map_err(writing())?;
    }
    fs::rename(&aside_path, &path).map_err(writing())?;
    if durable {
        directory.sync_entries()?;
    }
    Ok(())
}

fn aside(path: &Path) -> std::io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

/// The phases by name and their total, whole microseconds each, so that the sum is exact.
fn in_milliseconds(phases: &[Phase]) -> (Map<String, Value>, f64) {
    let mut by_name = Map::new();
    let mut total = Duration::ZERO;
    for phase in phases {
        let took = whole(phase.took);
        total += took;
        by_name.insert(phase.name.to_owned(), milliseconds(took).into());
    }
    (by_name, milliseconds(total))
}

fn whole(duration: Duration) -> Duration {
    duration - Duration::from_nanos(u64::from(duration.subsec_nanos() % 1000))
}

fn milliseconds(duration: Duration) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact for 285 years of microseconds"
    )]
    let microseconds = duration.as_micros() as f64;
    microseconds / 1000.0
}

/// A time as in RFC 3339, in UTC and to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970, by the Gregorian calendar's cycle of 400 years; the
/// year begins in March, so that the leap day is its last.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH: u64 = 719_468;
    const CYCLE: u64 = 146_097;
    let days = days + EPOCH;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, january) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (cycle * 400 + year + january, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_to_the_second() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), written);
        }
    }

    #[test]
    fn phases_add_up_to_the_total_exactly() {
        let phase = |name, nanoseconds| Phase {
            name,
            took: Duration::from_nanos(nanoseconds),
        };
        let (phases, total) =
            in_milliseconds(&[phase("freeze", 1_234_999), phase("dump", 5_000_600)]);
        assert_eq!(
            Value::from(phases).to_string(),
            r#"{"freeze":1.234,"dump":5.0}"#
        );
        assert!((total - 6.234).abs() < 1e-9, "{total}");
    }
}
