//! What a call takes by `ctr`, all peers in turns.
//!
//! A round is one container of each peer, from `run` to `delete`. Who is first changes from round
//! to round, so that other work on the machine meets all alike.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    command::{self, Ended},
    containerd::{self, Containerd},
    peer::{Engine, Peer, Shim},
    picture::{Bar, Chart, Group},
    plan::Plan,
    report::{Section, Table},
    sample::Sample,
};

/// The calls, in the order of a table.
const CALLS: [(&str, &str); 11] = [
    ("version", "`version`"),
    ("run", "`run --rm … true`"),
    ("create", "`container create`"),
    ("start", "`task start --detach`"),
    ("exec", "`task exec … true`"),
    ("ps", "`task ps`"),
    ("metrics", "`task metrics`"),
    ("pause", "`task pause`"),
    ("resume", "`task resume`"),
    ("delete", "`task delete`"),
    ("remove", "`container delete`"),
];

/// Those that are not in the picture: the shim has no part in them, or no answer yet.
const NOT_DRAWN: [&str; 3] = ["create", "metrics", "remove"];

/// How often a round makes the calls that leave the container as it is.
const TIMES: u32 = 3;

/// The samples of one peer, by call.
type Calls = BTreeMap<&'static str, Sample>;

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let rounds = plan.rounds(25);
    let containerds = containerd::start_all(&plan.programs, &plan.peers)?;
    let mut all: BTreeMap<Peer, Calls> = BTreeMap::new();
    // The first round warms up.
    for round in 0..=rounds {
        for peer in plan.turn(round) {
            let cycle = Cycle {
                containerd: &containerds[&peer.shim],
                peer,
                id: format!("{}-{round}", peer.key()),
                pid_file: containerd::scratch()?.join("pid"),
            };
            let mut calls = Calls::new();
            if let Err(error) = cycle.run(&mut calls) {
                eprintln!("bench: {} in round {round}: {error:#}", peer.key());
                cycle.containerd.remove(&cycle.id)?;
            } else if round > 0 {
                merge(all.entry(peer).or_default(), calls);
            }
        }
    }
    Ok(section(rounds, &all))
}

fn merge(into: &mut Calls, calls: Calls) {
    for (call, sample) in calls {
        into.entry(call).or_default().append(sample);
    }
}

/// One container's life.
struct Cycle<'a> {
    containerd: &'a Containerd,
    peer: Peer,
    id: String,
    pid_file: PathBuf,
}

impl Cycle<'_> {
    fn run(&self, calls: &mut Calls) -> Result<()> {
        let (id, options, image) = (&self.id, self.peer.ctr_options(), containerd::image()?);
        let pid_file = self.pid_file.display();
        self.timed(calls, "version", "version")?;
        self.run_true(calls, &format!("run --rm {options} {image} {id}r true"))?;
        let create = format!("container create {options} {image} {id} sleep 1000000");
        self.timed(calls, "create", &create)?;
        let start = format!("task start --detach --pid-file {pid_file} {id}");
        self.timed(calls, "start", &start)?;
        for time in 0..TIMES {
            let exec = format!("task exec --exec-id e{time} {id} true");
            self.timed(calls, "exec", &exec)?;
            self.timed(calls, "ps", &format!("task ps {id}"))?;
            self.asked(calls, "metrics", &format!("task metrics {id}"))?;
            self.timed(calls, "pause", &format!("task pause {id}"))?;
            self.timed(calls, "resume", &format!("task resume {id}"))?;
        }
        self.kill()?;
        self.timed(calls, "delete", &format!("task delete {id}"))?;
        self.timed(calls, "remove", &format!("container delete {id}"))
    }

    /// Kills the container, and waits until containerd may be told that it has ended.
    fn kill(&self) -> Result<()> {
        let pid = fs::read_to_string(&self.pid_file)?.trim().parse()?;
        self.containerd
            .ctr(&format!("task kill --signal SIGKILL {}", self.id))?
            .ok()?;
        command::gone(pid)?;
        let end = Instant::now() + command::DEADLINE;
        while Instant::now() < end {
            let tasks = self.containerd.ctr("task ls")?.ok()?;
            let stopped = |row: &str| row.contains(&self.id) && row.contains("STOPPED");
            if tasks.stdout.lines().any(stopped) {
                // What the exit set off is over too.
                thread::sleep(Duration::from_millis(50));
                return Ok(());
            }
        }
        anyhow::bail!("{} does not stop", self.id)
    }

    /// gVisor's shim often asks for the exit status when the sandbox has gone, and ctr exits with
    /// 128 as if the program had. An error of ctr's own has a message.
    fn run_true(&self, calls: &mut Calls, line: &str) -> Result<()> {
        let ended = self.call(line)?;
        let ended = if ended.stderr.is_empty() {
            ended
        } else {
            ended.ok()?
        };
        calls.entry("run").or_default().add_time(ended.took);
        Ok(())
    }

    fn timed(&self, calls: &mut Calls, call: &'static str, line: &str) -> Result<()> {
        let ended = self.call(line)?.ok()?;
        calls.entry(call).or_default().add_time(ended.took);
        Ok(())
    }

    /// The same where there may be no answer.
    fn asked(&self, calls: &mut Calls, call: &'static str, line: &str) -> Result<()> {
        let ended = self.call(line)?;
        let sample = calls.entry(call).or_default();
        if ended.success {
            sample.add_time(ended.took);
        } else {
            sample.refuse("no answer");
        }
        Ok(())
    }

    fn call(&self, line: &str) -> Result<Ended> {
        self.containerd
            .ctr(line)
            .with_context(|| format!("ctr {line}"))
    }
}

fn section(rounds: u32, all: &BTreeMap<Peer, Calls>) -> Section {
    let mut section = Section::new(
        "latency",
        &format!(
            "Milliseconds from the start of `ctr` to its end: the median of {rounds} rounds (of {TIMES} \
         calls in each for exec, ps, metrics, pause and resume), in brackets the quartiles. `ctr \
         version` is what `ctr` takes by itself. `task start` has Create and Start in it.",
        ),
    );
    for engine in Engine::ALL {
        let peers: Vec<_> = all
            .iter()
            .filter(|(peer, _)| peer.engine == engine)
            .collect();
        if !peers.is_empty() {
            section.tables.push(table(engine, &peers));
            section.charts.push(chart(engine, &peers));
        }
    }
    section
}

fn table(engine: Engine, peers: &[(&Peer, &Calls)]) -> Table {
    let reference = peers.iter().find(|(peer, _)| **peer == peer.reference());
    let mut head = vec![engine.program().to_owned()];
    for (peer, _) in peers {
        head.push(peer.shim.title().to_owned());
        if peer.shim == Shim::Stasis && reference.is_some() {
            head.push("ratio".into());
        }
    }
    let mut table = Table::new(head);
    for (call, title) in CALLS {
        let mut row = vec![title.to_owned()];
        for (peer, calls) in peers {
            let sample = calls.get(call).cloned().unwrap_or_default();
            row.push(sample.shown());
            if let (Shim::Stasis, Some((_, theirs))) = (peer.shim, reference) {
                row.push(sample.ratio(theirs.get(call)));
            }
        }
        table.rows.push(row);
    }
    table
}

fn chart(engine: Engine, peers: &[(&Peer, &Calls)]) -> Chart {
    let group = |(call, title): &(&'static str, &str)| Group {
        label: title.replace('`', ""),
        bars: peers
            .iter()
            .map(|(peer, calls)| Bar {
                series: peer.shim.title().to_owned(),
                quartiles: calls.get(call).and_then(Sample::quartiles),
            })
            .collect(),
    };
    Chart {
        title: format!("ctr with {}, milliseconds", engine.program()),
        groups: CALLS
            .iter()
            .filter(|(call, _)| !NOT_DRAWN.contains(call))
            .map(group)
            .collect(),
    }
}
