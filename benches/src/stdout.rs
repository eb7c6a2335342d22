//! A gibibyte that a container writes to its standard output: how long it takes until all of it is
//! read from the FIFO, and what of that the shim spends on a processor. An engine alone has the FIFO
//! itself.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context, Result, anyhow};

use crate::{
    bundle::{Bundle, Image},
    containerd,
    engine::Alone,
    peer::{Engine, Subject},
    picture::{Bar, Chart, Group},
    plan::{Plan, turn},
    proc::Process,
    report::{Section, Table},
    sample::Sample,
    shim::Starter,
};

const MIB: u64 = 1024;

/// The samples of one subject.
#[derive(Debug, Default)]
struct Times {
    all: Sample,
    processor: Sample,
}

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let rounds = plan.rounds(5);
    let containerds = containerd::start_all(&plan.programs, &plan.peers)?;
    let image = Image::make(&plan.programs.victim)?;
    let subjects = Subject::all(&plan.peers);
    let mut all: BTreeMap<Subject, Times> = BTreeMap::new();
    // The first round warms up.
    for round in 0..=rounds {
        for subject in turn(&subjects, round) {
            let mut times = Times::default();
            let id = format!("stdout-{round}-{}", subject.key());
            let bundle = image.bundle(&id, &["sh", "-c", "dd if=/dev/zero bs=1M count=1024"])?;
            match subject.peer() {
                None => alone(subject.engine, &bundle, &mut times),
                Some(peer) => {
                    let starter = Starter::new(&containerds[&peer.shim], peer)?;
                    through(&starter, &bundle, &mut times)
                }
            }
            .with_context(|| id.clone())?;
            if round > 0 {
                let all = all.entry(subject).or_default();
                all.all.append(times.all);
                all.processor.append(times.processor);
            }
        }
    }
    let mut section = Section::new(
        "stdout",
        &format!(
            "Milliseconds from Start to the last of {MIB} MiB, and those that the shim was on a processor \
         meanwhile; the median of {rounds} rounds, in brackets the quartiles.",
        ),
    );
    section.tables.push(table(&all));
    section.charts.push(chart(&all));
    Ok(section)
}

fn alone(engine: Engine, bundle: &Bundle, times: &mut Times) -> Result<()> {
    let engine = Alone::new(engine);
    let begun = Instant::now();
    engine.run(bundle)?;
    bundle.drain(MIB << 20)?;
    times.all.add_time(begun.elapsed());
    engine.end(bundle)
}

fn through(starter: &Starter, bundle: &Bundle, times: &mut Times) -> Result<()> {
    let shim = starter.start(bundle)?;
    let process = Process(shim.pid().map_err(|why| anyhow!("Connect: {why}"))?);
    shim.create(bundle, None)
        .map_err(|why| anyhow!("Create: {why}"))?;
    let (begun, before) = (Instant::now(), process.processor_time()?);
    shim.start("").map_err(|why| anyhow!("Start: {why}"))?;
    bundle.drain(MIB << 20)?;
    times.all.add_time(begun.elapsed());
    times.processor.add(process.processor_time()? - before);
    shim.end_container()?;
    shim.shut_down()?;
    starter.delete(bundle)?;
    Ok(())
}

fn table(all: &BTreeMap<Subject, Times>) -> Table {
    let mut table = Table::new(
        ["1 GiB", "time", "processor time"]
            .map(str::to_owned)
            .into(),
    );
    for (subject, times) in all {
        table.rows.push(vec![
            subject.title(),
            times.all.shown(),
            times.processor.shown(),
        ]);
    }
    table
}

fn chart(all: &BTreeMap<Subject, Times>) -> Chart {
    let bars = |of: fn(&Times) -> &Sample, shims_only: bool| {
        all.iter()
            .filter(|(subject, _)| !shims_only || subject.shim.is_some())
            .map(|(subject, times)| Bar {
                series: subject.title(),
                quartiles: of(times).quartiles(),
            })
            .collect()
    };
    Chart {
        title: "1 GiB through standard output, milliseconds".into(),
        groups: vec![
            Group {
                label: "time".into(),
                bars: bars(|times| &times.all, false),
            },
            Group {
                label: "processor time of the shim".into(),
                bars: bars(|times| &times.processor, true),
            },
        ],
    }
}
