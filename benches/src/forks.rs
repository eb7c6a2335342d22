//! The processes that a shim forks for each verb: its engine, and CRIU.
//!
//! In PATH stand scripts that note who called them with what, and then become the program. What an
//! engine forks itself is its own business and not counted.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    bundle::Image,
    containerd,
    peer::{Engine, Peer},
    plan::Plan,
    report::{Section, Table},
    shim::{Starter, real},
    walk::{STEPS, walk},
};

/// What may be asked of an engine or CRIU.
const VERBS: [&str; 18] = [
    "--version",
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "start",
    "state",
    "update",
    "wait",
];

/// What a step sets off without being waited for has begun by then.
const SETTLED: Duration = Duration::from_millis(300);

/// What was forked, by step; none where the step was refused.
type Forks = BTreeMap<&'static str, Vec<String>>;

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let containerds = containerd::start_all(&plan.programs, &plan.peers)?;
    let image = Image::make(&plan.programs.victim)?;
    let mut all: Vec<(Peer, Forks)> = Vec::new();
    for peer in &plan.peers {
        let log = Log::for_engine(peer.engine)?;
        let starter = Starter::with_programs(&containerds[&peer.shim], *peer, &log.directory)?;
        // What the end of the peer before has set off.
        log.take()?;
        let mut forks = Forks::new();
        walk(
            &starter,
            &image,
            &format!("forks-{}", peer.key()),
            &mut |step, answer| {
                thread::sleep(SETTLED);
                let forked = log.take()?;
                forks.insert(
                    step,
                    if answer.is_ok() {
                        forked
                    } else {
                        vec!["refused".into()]
                    },
                );
                Ok(())
            },
        )
        .with_context(|| peer.key())?;
        all.push((*peer, forks));
    }
    let mut section = Section::new(
        "forks",
        "The programs that a shim starts for a call, and what it asks of them; `–` is none.",
    );
    section.tables.push(table(&all));
    Ok(section)
}

/// Scripts in front of an engine and CRIU, and what they have noted.
struct Log {
    directory: PathBuf,
    file: PathBuf,
}

impl Log {
    fn for_engine(engine: Engine) -> Result<Self> {
        let directory = Path::new("/run/bench-forks").join(engine.program());
        fs::create_dir_all(&directory)?;
        let log = Self {
            file: directory.join("log"),
            directory,
        };
        log.write_script(engine.default_program(), &real(engine))?;
        log.write_script("criu", "/usr/sbin/criu".as_ref())?;
        Ok(log)
    }

    fn write_script(&self, name: &str, program: &Path) -> Result<()> {
        let script = self.directory.join(name);
        let (log, program) = (self.file.display(), program.display());
        // The name of a process is cut off after 15 letters.
        let text = format!(
            "#!/bin/sh\nread -r parent < /proc/$PPID/comm\n\
             case $parent in containerd-shim*) echo \"{name} $*\" >> {log} ;; esac\n\
             exec {program} \"$@\"\n"
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// What was noted since the last time, as `runc create`.
    fn take(&self) -> Result<Vec<String>> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(_) => return Ok(Vec::new()),
        };
        fs::remove_file(&self.file)?;
        Ok(text.lines().map(called).collect())
    }
}

/// The verb of a command line.
fn called(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let verb = words.find(|word| VERBS.contains(word)).unwrap_or("…");
    match program {
        "criu" => format!("criu {verb}"),
        _ => verb.to_owned(),
    }
}

fn table(all: &[(Peer, Forks)]) -> Table {
    let mut head = vec!["call".to_owned()];
    for (peer, _) in all {
        head.push(format!("{}, {}", peer.shim.title(), peer.engine.program()));
    }
    let mut table = Table::new(head);
    for step in STEPS {
        let mut row = vec![step.to_owned()];
        for (_, forks) in all {
            row.push(match forks.get(step) {
                Some(forked) if !forked.is_empty() => forked.join(", "),
                _ => "–".into(),
            });
        }
        table.rows.push(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_found_among_flags() {
        let line = "runc --root /run/runc --log-format json create --bundle /b forks-x";
        assert_eq!(called(line), "create");
        assert_eq!(called("criu --version"), "criu --version");
        assert_eq!(called("runsc strange"), "…");
    }
}
