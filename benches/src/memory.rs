//! What a shim costs that has nothing to do.
//!
//! Five containers of one peer, a shim each, are left alone; then their shims are looked at. One
//! peer after the other: PSS divides by all that share a page. What a shim keeps running beside
//! itself (gVisor's: a `runsc wait` for each container) has a line of its own.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    containerd::{self, Containerd},
    peer::{Engine, Peer},
    picture::{Bar, Chart, Group},
    plan::Plan,
    proc::Process,
    report::{Section, Table},
    sample::{Quartiles, Sample},
};

/// Of one peer.
const CONTAINERS: usize = 5;

/// tokio's and Go's idle threads have gone by then.
const REST: Duration = Duration::from_secs(15);

/// How long switches are counted.
const WATCH: Duration = Duration::from_secs(10);

/// The rows of a table, with the number of decimals.
const FIGURES: [(&str, usize); 5] = [
    ("private dirty", 0),
    ("PSS", 0),
    ("RSS", 0),
    ("threads", 1),
    ("switches in 10 s", 1),
];

/// The samples of one process of a peer's, by figure.
type Figures = [Sample; FIGURES.len()];

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let containerds = containerd::start_all(&plan.programs, &plan.peers)?;
    let mut columns = Vec::new();
    // Which of runc and crun it starts makes no difference to a shim at rest.
    for peer in plan.peers.iter().filter(|peer| peer.engine != Engine::Crun) {
        columns.extend(measure_peer(&containerds[&peer.shim], *peer)?);
    }
    let mut section = Section::new(
        "memory",
        &format!(
            "KiB, the mean of {CONTAINERS} idle containers with a shim each, {} s after the last \
             call: pages that are the process's own and written to, its proportional share of all \
             its pages, and all of them; then its threads, and how often they left a processor \
             within {} s.",
            REST.as_secs(),
            WATCH.as_secs()
        ),
    );
    section.tables.push(table(&columns));
    section.charts.push(chart(&columns));
    Ok(section)
}

/// The columns of one peer: its shim, and what that keeps running.
fn measure_peer(containerd: &Containerd, peer: Peer) -> Result<Vec<(String, Figures)>> {
    let ids: Vec<_> = (0..CONTAINERS)
        .map(|number| format!("idle-{}-{number}", peer.key()))
        .collect();
    // Otherwise a binary that was just written counts as private and dirty.
    rustix::fs::sync();
    for id in &ids {
        containerd.start_container(peer, id, "sleep 1000000")?;
    }
    thread::sleep(REST);
    let shims = shims_of(&ids)?;
    ensure!(
        shims.len() == CONTAINERS,
        "{} shims of {}",
        shims.len(),
        peer.key()
    );
    let name = format!("{}, {}", peer.shim.title(), peer.engine.program());
    let helpers = helpers_of(&shims, peer.engine)?;
    let mut columns = vec![(name, figures(&shims)?)];
    if !helpers.is_empty() {
        let name = format!("its {} × `runsc wait`", helpers.len());
        columns.push((name, figures(&helpers)?));
    }
    for id in &ids {
        containerd.remove(id)?;
    }
    Ok(columns)
}

fn figures(processes: &[Process]) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut before = BTreeMap::new();
    for process in processes {
        let memory = process.memory()?;
        figures[0].add(memory.private_dirty);
        figures[1].add(memory.proportional);
        figures[2].add(memory.resident);
        figures[3].add(process.threads()?);
        before.insert(process.0, process.switches()?);
    }
    thread::sleep(WATCH);
    for process in processes {
        figures[4].add(process.switches()? - before[&process.0]);
    }
    Ok(figures)
}

/// The shims of these containers, which are told the id.
fn shims_of(ids: &[String]) -> Result<Vec<Process>> {
    let mut shims = Process::all()?;
    shims.retain(|process| {
        let arguments = process.arguments();
        let is_shim = |program: &String| program.contains("containerd-shim-");
        arguments.first().is_some_and(is_shim) && arguments.iter().any(|word| ids.contains(word))
    });
    Ok(shims)
}

/// Children of the shims that are the engine's program, waiting.
fn helpers_of(shims: &[Process], engine: Engine) -> Result<Vec<Process>> {
    let mut helpers = Process::all()?;
    helpers.retain(|process| {
        let arguments = process.arguments();
        let is_engine = |program: &String| program.ends_with(engine.program());
        let is_child = |parent| shims.contains(&Process(parent));
        arguments.first().is_some_and(is_engine)
            && arguments.iter().any(|word| word == "wait")
            && process.parent().is_some_and(is_child)
    });
    Ok(helpers)
}

fn table(columns: &[(String, Figures)]) -> Table {
    let mut head = vec![String::new()];
    head.extend(FIGURES.map(|(name, _)| name.to_owned()));
    let mut table = Table::new(head);
    for (name, figures) in columns {
        let mut row = vec![name.clone()];
        for (sample, (_, decimals)) in figures.iter().zip(FIGURES) {
            row.push(format!("{:.decimals$}", sample.mean()));
        }
        table.rows.push(row);
    }
    table
}

fn chart(columns: &[(String, Figures)]) -> Chart {
    let group = |figure: usize| Group {
        label: FIGURES[figure].0.to_owned(),
        bars: columns
            .iter()
            .map(|(name, figures)| Bar {
                series: name.replace('`', ""),
                // The table has means, too: five containers are few for a median.
                quartiles: figures[figure].quartiles().map(|quartiles| Quartiles {
                    median: figures[figure].mean(),
                    ..quartiles
                }),
            })
            .collect(),
    };
    Chart {
        title: "An idle shim's memory, KiB".into(),
        groups: vec![group(0), group(1)],
    }
}
