//! What each call of the task service takes on the shim's own socket, without ctr and containerd.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::{
    bundle::Image,
    containerd,
    peer::{Engine, Peer, Shim},
    plan::Plan,
    report::{Section, Table},
    sample::Sample,
    shim::Starter,
    walk::{STEPS, walk},
};

/// The samples of one peer, by step.
type Steps = BTreeMap<&'static str, Sample>;

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let rounds = plan.rounds(10);
    let containerds = containerd::start_all(&plan.programs, &plan.peers)?;
    let image = Image::make(&plan.programs.victim)?;
    let mut all: BTreeMap<Peer, Steps> = BTreeMap::new();
    // The first round warms up.
    for round in 0..=rounds {
        for peer in plan.turn(round) {
            let starter = Starter::new(&containerds[&peer.shim], peer)?;
            let steps = all.entry(peer).or_default();
            let id = format!("calls-{}-{round}", peer.key());
            walk(&starter, &image, &id, &mut |step, answer| {
                if round > 0 {
                    steps.entry(step).or_default().add_outcome(&answer);
                }
                Ok(())
            })
            .with_context(|| format!("{} in round {round}", peer.key()))?;
        }
    }
    let mut section = Section::new(
        "calls",
        &format!(
            "Milliseconds from request to answer on the shim's own socket, the median of {rounds} \
             rounds, in brackets the quartiles. The container is small; the checkpoint leaves it \
             running.",
        ),
    );
    section
        .tables
        .extend(Engine::ALL.iter().filter_map(|engine| table(*engine, &all)));
    Ok(section)
}

fn table(engine: Engine, all: &BTreeMap<Peer, Steps>) -> Option<Table> {
    let peers: Vec<_> = all
        .iter()
        .filter(|(peer, _)| peer.engine == engine)
        .collect();
    let (first, _) = peers.first()?;
    let reference = all.get(&first.reference());
    let mut head = vec![engine.program().to_owned()];
    for (peer, _) in &peers {
        head.push(peer.shim.title().to_owned());
    }
    head.push("ratio".into());
    let mut table = Table::new(head);
    for step in STEPS {
        let mut row = vec![step.to_owned()];
        row.extend(peers.iter().map(|(_, steps)| {
            steps
                .get(step)
                .map_or_else(|| "–".to_owned(), Sample::shown)
        }));
        let ours = peers.iter().find(|(peer, _)| peer.shim == Shim::Stasis);
        let ours = ours.and_then(|(_, steps)| steps.get(step));
        let theirs = reference.and_then(|steps| steps.get(step));
        row.push(ours.map_or_else(|| "–".to_owned(), |ours| ours.ratio(theirs)));
        table.rows.push(row);
    }
    Some(table)
}
