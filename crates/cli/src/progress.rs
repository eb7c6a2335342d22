//! How far a dump has come, on a terminal: pages written against pages that there are.
//!
//! CRIU tells nothing before it is done, but its files of pages grow. How many there will be is
//! what the kernel counts of the processes' memory: anonymous, swapped, and their share of what is
//! shared. Both are guesses, good enough to see how long it will take.

use std::{
    fmt::Display,
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stasis_linux::file;
use stasis_plain::ProcessState;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::output::{Output, complain};

/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(200);
/// How often it is drawn in a second, at most.
const HERTZ: u8 = 5;
/// Of more processes, or files, the rest is not looked at: it is a guess anyway.
const MOST: usize = 1024;
/// More than smaps_rollup ever has.
const MAX_ROLLUP: u64 = 16 << 10;

/// What is shown while something is under way. Nothing, unless standard error is a terminal.
#[derive(Debug)]
pub struct Progress(Option<Shown>);

#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    images: Option<PathBuf>,
    ticks: Interval,
}

impl Progress {
    /// Shows that something is being done, and for how long.
    pub fn waiting(output: &Output, what: &'static str) -> Self {
        Self::shown(output, || {
            let bar = ProgressBar::no_length().with_message(what);
            (bar, "{spinner} {msg} {elapsed}", None)
        })
    }

    /// Shows how many pages of the memory of a tree are in `images`.
    pub fn of_dump(output: &Output, images: &Path, state: &ProcessState) -> Self {
        Self::shown(output, || {
            let pids = state.processes().map(|process| process.pid).take(MOST);
            let total = pids.filter_map(memory).fold(0, u64::saturating_add);
            let bar = ProgressBar::new(total / page());
            let template = "{spinner} [{bar:30}] {pos}/{len} pages {elapsed}";
            (bar, template, Some(images.to_owned()))
        })
    }

    fn shown(
        output: &Output,
        make: impl FnOnce() -> (ProgressBar, &'static str, Option<PathBuf>),
    ) -> Self {
        if output.is_quiet() || !io::stderr().is_terminal() {
            return Self(None);
        }
        let (bar, template, images) = make();
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(HERTZ));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Some(Shown { bar, images, ticks }))
    }

    /// Waits for the time to look again, and looks. Without a terminal it waits for ever.
    pub async fn look(&mut self) {
        let Some(Shown { bar, images, ticks }) = &mut self.0 else {
            return std::future::pending().await;
        };
        ticks.tick().await;
        bar.tick();
        if let Some(images) = images {
            let pages = written(images) / page();
            if bar.length().is_some_and(|total| pages > total) {
                bar.set_length(pages);
            }
            bar.set_position(pages);
        }
    }

    /// Says something above what is shown.
    pub fn remark(&self, output: &Output, text: impl Display) {
        match &self.0 {
            Some(shown) => shown.bar.suspend(|| complain(text)),
            None => output.remark(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(shown) = &self.0 {
            shown.bar.finish_and_clear();
        }
    }
}

fn page() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(4096)
}

/// The memory of a process that a dump will write, in bytes, as far as can be told.
fn memory(pid: u32) -> Option<u64> {
    let rollup = format!("/proc/{pid}/smaps_rollup");
    let rollup = file::read(Path::new(&rollup), MAX_ROLLUP).ok()?;
    Some(dumped(&String::from_utf8_lossy(&rollup)))
}

/// The bytes that a dump takes, of what smaps_rollup says (proc_pid_smaps(5)).
fn dumped(rollup: &str) -> u64 {
    rollup
        .lines()
        .filter_map(|line| {
            let (name, amount) = line.split_once(':')?;
            let counts = matches!(name, "Anonymous" | "Swap" | "Pss_Shmem");
            let kib: u64 = amount.trim().strip_suffix(" kB")?.parse().ok()?;
            counts.then(|| kib.saturating_mul(1024))
        })
        .fold(0, u64::saturating_add)
}

/// How many bytes of pages CRIU has written so far.
fn written(images: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(images) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| is_pages(entry.file_name().as_encoded_bytes()))
        .take(MOST)
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .fold(0, u64::saturating_add)
}

fn is_pages(name: &[u8]) -> bool {
    name.starts_with(b"pages-") && name.ends_with(b".img")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dumped_is_anonymous_swapped_and_shared_memory() {
        let rollup = "00400000-7fff0000 ---p 00000000 00:00 0    [rollup]\n\
                      Rss:               90000 kB\n\
                      Pss_Shmem:             8 kB\n\
                      Anonymous:          1024 kB\n\
                      AnonHugePages:         7 kB\n\
                      Swap:                  4 kB\n\
                      SwapPss:               4 kB\n";
        assert_eq!(dumped(rollup), 1036 << 10);
    }

    #[test]
    fn only_files_of_pages_are_counted() {
        let images = tempfile::tempdir().unwrap();
        for (name, length) in [("pages-1.img", 8), ("pages-2.img", 4), ("core-1.img", 99)] {
            fs::write(images.path().join(name), vec![0; length]).unwrap();
        }
        assert_eq!(written(images.path()), 12);
        assert_eq!(written(&images.path().join("none")), 0);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(memory(std::process::id()).is_some_and(|bytes| bytes > 0));
    }
}
