//! `stasis dump` against `criu dump`, of the same process with the same log level.
//!
//! Images are on a tmpfs. A dump is over when the command has returned and the dumped process is
//! gone, its memory freed.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{
    command::{self, DEADLINE},
    picture::{Bar, Chart, Group},
    plan::{Plan, turn},
    proc::Process,
    report::{Section, Table},
    sample::Sample,
};

const MIB: u32 = 1024;

/// Who dumps.
const DUMPERS: [&str; 2] = ["criu dump", "stasis dump"];

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let rounds = plan.rounds(10);
    let mut samples = [Sample::default(), Sample::default()];
    let mut peaks = [0.0; 2];
    // The warm-up is not timed, but looked at every few milliseconds.
    for (number, peak) in peaks.iter_mut().enumerate() {
        *peak = Dump::prepare(plan, number)?.peak()?;
    }
    for round in 0..rounds {
        for number in turn(&[0, 1], round) {
            samples[number].add_time(Dump::prepare(plan, number)?.timed()?);
        }
    }
    let mut section = Section::new(
        "dump",
        &format!(
            "Milliseconds of a dump of a process that has touched {MIB} MiB, the median of {rounds} \
         rounds, in brackets the quartiles; and the most memory that the command itself has had.",
        ),
    );
    let mut table = Table::new(
        ["1 GiB", "time", "ratio", "peak memory"]
            .map(str::to_owned)
            .into(),
    );
    for ((name, sample), peak) in DUMPERS.iter().zip(&samples).zip(peaks) {
        table.rows.push(vec![
            format!("`{name}`"),
            sample.shown(),
            sample.ratio(Some(&samples[0])),
            format!("{:.1} MiB", peak / 1024.0),
        ]);
    }
    section.tables.push(table);
    section.charts.push(chart(&samples));
    Ok(section)
}

/// A dump that can begin.
struct Dump {
    victim: OwnedFd,
    /// Takes the victim's status at once: `stasis dump` waits until it has been taken.
    reaper: JoinHandle<io::Result<ExitStatus>>,
    command: Command,
    images: tempfile::TempDir,
}

impl Dump {
    fn prepare(plan: &Plan, number: usize) -> Result<Self> {
        let images = tempfile::tempdir()?;
        let mut victim = Command::new(&plan.programs.victim)
            .args(["--memory", &MIB.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the process to dump")?;
        let mut said = String::new();
        let output = victim.stdout.take();
        output.context("a pipe")?.read_to_string(&mut said)?;
        ensure!(said == "ready\n", "the process to dump said {said:?}");
        let program = match number {
            0 => Path::new("criu"),
            _ => &plan.programs.stasis,
        };
        let mut command = Command::new(program);
        // Level 4 for everything is what Stasis asks for.
        command
            .args(["dump", "-v4", "-t", &victim.id().to_string(), "-D"])
            .arg(images.path());
        if number == 0 {
            command.args(["-o", "dump.log"]);
        }
        Ok(Self {
            victim: pidfd_open(Pid::from_child(&victim), PidfdFlags::empty())?,
            reaper: thread::spawn(move || victim.wait()),
            command,
            images,
        })
    }

    fn timed(mut self) -> Result<Duration> {
        let begun = Instant::now();
        command::run(&mut self.command)?.ok()?;
        self.await_end()?;
        Ok(begun.elapsed())
    }

    /// The most memory that the command has had, in KiB.
    fn peak(mut self) -> Result<f64> {
        let mut dumping = self.command.stdout(Stdio::null()).spawn()?;
        let process = Process(dumping.id());
        let (begun, mut peak) = (Instant::now(), 0.0);
        // A zombie has no such line any more.
        while let Some(now) = process.peak() {
            peak = now;
            ensure!(begun.elapsed() < DEADLINE, "the dump does not end");
            thread::sleep(Duration::from_millis(5));
        }
        ensure!(dumping.wait()?.success(), "the dump failed");
        self.await_end()?;
        Ok(peak)
    }

    /// Waits until the victim is gone, and looks whether an image is there.
    fn await_end(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.reaper.is_finished() {
            ensure!(
                begun.elapsed() < DEADLINE,
                "the dumped process does not end"
            );
            thread::sleep(Duration::from_micros(100));
        }
        let whole = self.images.path().join("inventory.img").exists();
        ensure!(whole, "the dump left no image");
        Ok(())
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        // It has ended, unless the dump failed.
        let _ = pidfd_send_signal(&self.victim, Signal::KILL);
    }
}

fn chart(samples: &[Sample; 2]) -> Chart {
    let bars = DUMPERS.iter().zip(samples).map(|(name, sample)| Bar {
        series: match *name {
            "stasis dump" => "Stasis".into(),
            name => name.to_owned(),
        },
        quartiles: sample.quartiles(),
    });
    Chart {
        title: "A dump of 1 GiB, milliseconds".into(),
        groups: vec![Group {
            label: "dump".into(),
            bars: bars.collect(),
        }],
    }
}
