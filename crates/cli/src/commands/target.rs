//! What a dump and a pre-dump have in common: the process, the directory, and the figures.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::{Value, json};
use stasis_criu::{DumpStats, Error, Pages};
use stasis_plain::{Liveness, Managed, ProcessError};

use super::context::Ended;
use crate::{failure::Fate, output::Output};

/// A process that is to be dumped, as it was before.
#[derive(Debug)]
pub struct Target {
    process: Managed,
    before: Liveness,
}

impl Target {
    /// Holds the process, so that what is told of it later is not about another of its number.
    pub fn hold(pid: u32) -> Result<Self, ProcessError> {
        let process = Managed::take_over(pid)?;
        let before = process.state()?;
        Ok(Self { process, before })
    }

    /// The process.
    pub fn process(&self) -> &Managed {
        &self.process
    }

    /// What became of it in a call that did not succeed.
    pub fn fate(&self, error: &Error) -> Fate {
        let pid = self.process.pid();
        Fate(match (self.process.state(), self.before) {
            (Ok(Liveness::Running), _) if !error.left().is_empty() => {
                format!("process {pid} runs on")
            }
            (Ok(Liveness::Running), _) => format!("process {pid} runs on as before"),
            (Ok(Liveness::Stopped), Liveness::Stopped) => {
                format!("process {pid} is stopped as before")
            }
            (Ok(Liveness::Stopped), _) => {
                format!("process {pid} is stopped, and goes on after `kill -CONT {pid}`")
            }
            (Ok(Liveness::Zombie | Liveness::Exited(_)), _) => format!("process {pid} has ended"),
            (Err(_), _) => format!("what became of process {pid} cannot be told"),
        })
    }
}

/// A directory for images.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    made: bool,
}

impl Directory {
    /// Makes it, for its owner only, unless it is there.
    pub fn make(path: &Path) -> anyhow::Result<Self> {
        let there = || format!("cannot make the directory {}", path.display());
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            fs::create_dir_all(parent).with_context(there)?;
        }
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error).with_context(there),
        };
        let path = path.to_owned();
        Ok(Self { path, made })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, if it was made for nothing and nothing is in it, such as a log.
    pub fn give_up(&self) {
        if self.made {
            // Something is in it.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// It failed: with what became of the process. A directory that was made for nothing is removed.
pub fn failed(target: &Target, directory: &Directory, error: Error) -> anyhow::Error {
    directory.give_up();
    let fate = target.fate(&error);
    anyhow::Error::from(error).context(fate)
}

/// Says what was dumped, in `words` and by what is `known` of it besides.
pub fn report(
    output: &Output,
    words: &str,
    mut known: Value,
    took: Duration,
    figures: Option<&DumpStats>,
) -> anyhow::Result<Ended> {
    let mut text = format!("{words}; {:.2} s", took.as_secs_f64());
    if let Some(stats) = figures {
        text.push_str(", ");
        text.push_str(&in_words(stats));
    }
    known["took_us"] = micros(took).into();
    known["stats"] = figures.map_or(Value::Null, stats);
    output.report(&text, &known).context(Fate(text))?;
    Ok(Ended::Done)
}

/// The figures of a dump as JSON, times in microseconds.
fn stats(stats: &DumpStats) -> Value {
    let DumpStats {
        freezing,
        frozen,
        memory_dump,
        memory_write,
        irmap_resolve,
        pages,
        lazy_pages,
        shared_pages,
        page_pipes,
        page_pipe_buffers,
    } = stats;
    json!({
        "freezing_us": micros(*freezing),
        "frozen_us": micros(*frozen),
        "memory_dump_us": micros(*memory_dump),
        "memory_write_us": micros(*memory_write),
        "irmap_resolve_us": irmap_resolve.map(micros),
        "pages": pages_as_json(pages),
        "lazy_pages": lazy_pages,
        "shared_pages": shared_pages.as_ref().map(pages_as_json),
        "page_pipes": page_pipes,
        "page_pipe_buffers": page_pipe_buffers,
    })
}

/// The figures of a dump in a few words.
fn in_words(stats: &DumpStats) -> String {
    let shared = stats.shared_pages.map_or(0, |pages| pages.written);
    let pages = stats.pages.written.saturating_add(shared);
    format!(
        "{pages} pages, frozen for {:.3} s",
        stats.frozen.as_secs_f64()
    )
}

/// Microseconds, which is what CRIU counts in.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn pages_as_json(pages: &Pages) -> Value {
    let Pages {
        scanned,
        skipped_parent,
        written,
    } = pages;
    json!({ "scanned": scanned, "skipped_parent": skipped_parent, "written": written })
}
