//! What `/proc` says of a process.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

/// A process, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(pub u32);

/// What a process weighs, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Pages that are its own and written to.
    pub private_dirty: f64,
    /// Its pages, each divided by the number of processes that share it.
    pub proportional: f64,
    /// All its pages.
    pub resident: f64,
}

impl Process {
    /// All processes.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc")? {
            if let Ok(pid) = entry?.file_name().to_string_lossy().parse() {
                all.push(Self(pid));
            }
        }
        Ok(all)
    }

    /// Its arguments; none if it has gone.
    pub fn arguments(self) -> Vec<String> {
        let line = self.read("cmdline").unwrap_or_default();
        line.split_terminator('\0').map(str::to_owned).collect()
    }

    /// What it weighs.
    pub fn memory(self) -> Result<Memory> {
        let text = self.read("smaps_rollup")?;
        let field = |name| self.field(&text, name);
        Ok(Memory {
            private_dirty: field("Private_Dirty")?,
            proportional: field("Pss")?,
            resident: field("Rss")?,
        })
    }

    /// How many threads it has.
    pub fn threads(self) -> Result<f64> {
        self.field(&self.read("status")?, "Threads")
    }

    /// How often its threads have been taken off a processor, by themselves or not.
    pub fn switches(self) -> Result<f64> {
        let mut sum = 0.0;
        for task in fs::read_dir(self.path("task"))? {
            let task = task?.file_name();
            let text = self.read(&format!("task/{}/status", task.to_string_lossy()))?;
            for name in ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"] {
                sum += self.field(&text, name)?;
            }
        }
        Ok(sum)
    }

    /// The time that it has been on a processor, in milliseconds, by the kernel's clock ticks.
    pub fn processor_time(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name, in brackets, may have blanks in it. utime and stime are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(") ").context("a line of another kind")?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        #[expect(clippy::cast_precision_loss, reason = "100, or some such number")]
        let second = rustix::param::clock_ticks_per_second() as f64;
        Ok(ticks / second * 1000.0)
    }

    /// The most memory that it has ever had, in KiB; none once it has ended.
    pub fn peak(self) -> Option<f64> {
        self.field(&self.read("status").ok()?, "VmHWM").ok()
    }

    /// Its parent's number.
    pub fn parent(self) -> Option<u32> {
        let status = self.read("status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse().ok()
    }

    fn field(self, text: &str, name: &str) -> Result<f64> {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("process {} has no {name}", self.0))
    }

    fn read(self, file: &str) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn path(self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.0).into()
    }
}
