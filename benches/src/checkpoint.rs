//! Checkpoint and restore on the shim's own socket, beside the engine alone.
//!
//! A checkpoint leaves the container running. A restore is Create from the image and Start, into a
//! new bundle with a new shim, whose own start is not counted. Images are on a tmpfs.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use anyhow::{Context, Result, anyhow};

use crate::{
    bundle::Image,
    containerd,
    engine::Alone,
    peer::Subject,
    picture::{Bar, Chart, Group},
    plan::{Plan, turn},
    report::{Section, Table},
    sample::Sample,
    shim::Starter,
};

/// The memory that the process has touched, in MiB, and how often it is checkpointed.
const SIZES: [(u32, u32); 2] = [(1, 10), (1024, 4)];

/// The samples of one subject and size.
#[derive(Debug, Default)]
struct Times {
    checkpoint: Sample,
    restore: Sample,
}

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let containerds = containerd::start_all(&plan.programs, &plan.peers)?;
    let image = Image::make(&plan.programs.victim)?;
    let subjects = Subject::all(&plan.peers);
    let [small, big] = SIZES.map(|(_, usual)| plan.rounds(usual));
    let mut section = Section::new(
        "checkpoint",
        &format!(
            "Milliseconds, the median of {small} rounds with a small process and {big} with one that \
             has touched 1 GiB, in brackets the quartiles; ratios are to the engine alone.",
        ),
    );
    for (mib, usual) in SIZES {
        let rounds = plan.rounds(usual);
        let mut all: BTreeMap<Subject, Times> = BTreeMap::new();
        // The first round warms up.
        for round in 0..=rounds {
            for subject in turn(&subjects, round) {
                let mut times = Times::default();
                let id = format!("checkpoint-{mib}-{round}-{}", subject.key());
                let run = Run {
                    image: &image,
                    id: &id,
                    mib,
                };
                match subject.peer() {
                    None => run.alone(&Alone::new(subject.engine), &mut times),
                    Some(peer) => {
                        run.shim(&Starter::new(&containerds[&peer.shim], peer)?, &mut times)
                    }
                }
                .with_context(|| id.clone())?;
                if round > 0 {
                    let all = all.entry(subject).or_default();
                    all.checkpoint.append(times.checkpoint);
                    all.restore.append(times.restore);
                }
            }
        }
        section.tables.push(table(mib, &all));
        section.charts.push(chart(mib, &all));
    }
    Ok(section)
}

/// One checkpoint and one restore.
struct Run<'a> {
    image: &'a Image,
    id: &'a str,
    mib: u32,
}

impl Run<'_> {
    fn alone(&self, engine: &Alone, times: &mut Times) -> Result<()> {
        let images = Images::make()?;
        let bundle = self.bundle()?;
        engine.run(&bundle)?;
        bundle.await_ready()?;
        let ended = engine.checkpoint(&bundle, images.path())?;
        times.checkpoint.add_time(ended.took);
        engine.end(&bundle)?;
        drop(bundle);
        let bundle = self.bundle()?;
        times
            .restore
            .add_time(engine.restore(&bundle, images.path())?.took);
        engine.end(&bundle)
    }

    fn shim(&self, starter: &Starter, times: &mut Times) -> Result<()> {
        let images = Images::make()?;
        let bundle = self.bundle()?;
        let shim = starter.start(&bundle)?;
        let said =
            |what, answer: Result<(), String>| answer.map_err(|why| anyhow!("{what}: {why}"));
        said("Create", shim.create(&bundle, None))?;
        said("Start", shim.start(""))?;
        bundle.await_ready()?;
        let begun = Instant::now();
        let answer = shim.checkpoint(images.path()).map(|()| begun.elapsed());
        let refused = answer.is_err();
        times.checkpoint.add_outcome(&answer);
        shim.end_container()?;
        shim.shut_down()?;
        starter.delete(&bundle)?;
        drop(bundle);
        if refused {
            times.restore.refuse("refused");
            return Ok(());
        }
        let bundle = self.bundle()?;
        let shim = starter.start(&bundle)?;
        let begun = Instant::now();
        let answer = shim
            .restore(&bundle, images.path())
            .map(|()| begun.elapsed());
        let restored = answer.is_ok();
        times.restore.add_outcome(&answer);
        if restored {
            shim.end_container()?;
            shim.shut_down()?;
        } else {
            shim.give_up()?;
        }
        starter.delete(&bundle)?;
        Ok(())
    }

    fn bundle(&self) -> Result<crate::bundle::Bundle> {
        self.image
            .bundle(self.id, &["victim", "--memory", &self.mib.to_string()])
    }
}

/// A directory for images, gone with its value.
struct Images(tempfile::TempDir);

impl Images {
    fn make() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        // Before the next one is made: it may be a gigabyte of memory.
        let _ = fs::remove_dir_all(self.path());
    }
}

fn size(mib: u32) -> &'static str {
    if mib == 1 { "small" } else { "1 GiB" }
}

fn table(mib: u32, all: &BTreeMap<Subject, Times>) -> Table {
    let mut table = Table::new(
        [size(mib), "checkpoint", "ratio", "restore", "ratio"]
            .map(str::to_owned)
            .into(),
    );
    for (subject, times) in all {
        let alone = all.get(&Subject::alone(subject.engine));
        let ratio = |ours: &Sample, of: fn(&Times) -> &Sample| ours.ratio(alone.map(of));
        table.rows.push(vec![
            subject.title(),
            times.checkpoint.shown(),
            ratio(&times.checkpoint, |times| &times.checkpoint),
            times.restore.shown(),
            ratio(&times.restore, |times| &times.restore),
        ]);
    }
    table
}

fn chart(mib: u32, all: &BTreeMap<Subject, Times>) -> Chart {
    let bars = |of: fn(&Times) -> &Sample| {
        all.iter()
            .map(|(subject, times)| Bar {
                series: subject.title(),
                quartiles: of(times).quartiles(),
            })
            .collect()
    };
    Chart {
        title: format!("Checkpoint and restore, {}, milliseconds", size(mib)),
        groups: vec![
            Group {
                label: "checkpoint".into(),
                bars: bars(|times| &times.checkpoint),
            },
            Group {
                label: "restore".into(),
                bars: bars(|times| &times.restore),
            },
        ],
    }
}
