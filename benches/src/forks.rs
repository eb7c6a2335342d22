//! The processes that a shim forks for each verb: its engine, and CRIU.
//!
//! In PATH stand programs that note who called them with what, and then become the real ones: copies
//! of this very program, since our shim asks a script each time what it is. What an engine forks
//! itself is its own business and not counted.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Write,
    os::unix::{
        fs::symlink,
        process::{CommandExt, parent_id},
    },
    path::{Path, PathBuf},
    process::Command,
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

/// Where the stand-ins are.
const STAND_INS: &str = "/run/bench-forks";

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

/// Where this process is a stand-in, notes the call and becomes the program; else does nothing.
pub fn stand_in() -> Result<()> {
    let ours = env::current_exe()?;
    if !ours.starts_with(STAND_INS) {
        return Ok(());
    }
    let name = ours.file_name().unwrap_or_default().to_string_lossy();
    // The name of a process is cut off after 15 letters.
    let parent = fs::read_to_string(format!("/proc/{}/comm", parent_id()))?;
    if parent.starts_with("containerd-shim") {
        let words: Vec<_> = env::args().skip(1).collect();
        let log = ours.with_file_name("log");
        let mut log = File::options().create(true).append(true).open(log)?;
        writeln!(log, "{name} {}", words.join(" "))?;
    }
    let program = fs::read_link(ours.with_file_name(format!("{name}.real")))?;
    Err(Command::new(program)
        .args(env::args_os().skip(1))
        .exec()
        .into())
}

/// Measures.
pub fn measure(plan: &Plan) -> Result<Section> {
    let containerds = containerd::start_all(&plan.programs, &plan.peers)?;
    let image = Image::make(&plan.programs.victim)?;
    let mut all: Vec<(Peer, Forks)> = Vec::new();
    for peer in &plan.peers {
        let log = Log::for_engine(peer.engine)?;
        let starter = Starter::with_programs(&containerds[&peer.shim], *peer, &log.directory)?;
        // What it is asked once, such as what a binary is, has been asked then.
        walk(
            &starter,
            &image,
            &format!("once-{}", peer.key()),
            &mut |_, _| Ok(()),
        )
        .with_context(|| peer.key())?;
        thread::sleep(SETTLED);
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
        "The programs that a shim starts for a call, and what it asks of them; `–` is none. It is the \
         second container: what a shim asks once has been asked.",
    );
    section.tables.push(table(&all));
    Ok(section)
}

/// Stand-ins in front of an engine and CRIU, and what they have noted.
struct Log {
    directory: PathBuf,
    file: PathBuf,
}

impl Log {
    fn for_engine(engine: Engine) -> Result<Self> {
        let directory = Path::new(STAND_INS).join(engine.program());
        fs::create_dir_all(&directory)?;
        let log = Self {
            file: directory.join("log"),
            directory,
        };
        log.put(engine.default_program(), &real(engine))?;
        log.put("criu", "/usr/sbin/criu".as_ref())?;
        Ok(log)
    }

    /// Puts a stand-in for a program there, and beside it where the program is.
    fn put(&self, name: &str, program: &Path) -> Result<()> {
        let stand_in = self.directory.join(name);
        if !stand_in.exists() {
            fs::copy(env::current_exe()?, &stand_in)?;
            symlink(program, self.directory.join(format!("{name}.real")))?;
        }
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
        // runc sleeps in a delete by force.
        _ if words.any(|word| word == "--force") => format!("{verb} --force"),
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
        assert_eq!(called("crun --root /r delete --force c"), "delete --force");
        assert_eq!(called("runsc strange"), "…");
    }
}
