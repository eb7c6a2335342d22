//! A container's life through the calls of a shim, told step by step to whoever measures.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};

use crate::{
    bundle::{Bundle, Image},
    shim::{Answer, Shim, Starter},
};

/// The steps, in the order of a table.
pub const STEPS: [&str; 16] = [
    "start of the shim",
    "Create",
    "Start",
    "State",
    "Pids",
    "Stats",
    "Exec and Start of `true`",
    "Delete of an exec",
    "Pause",
    "Resume",
    "Checkpoint",
    "restore: Create and Start",
    "Kill, and the exit",
    "Delete",
    "Shutdown, and the end",
    "action `delete`",
];

/// Hears of each step: how long it took, or why it was refused.
pub type Seen<'a> = dyn FnMut(&'static str, Answer<Duration>) -> Result<()> + 'a;

/// Walks through all steps; those of a restore only where there was a checkpoint.
pub fn walk(starter: &Starter, image: &Image, id: &str, seen: &mut Seen<'_>) -> Result<()> {
    let checkpoint = Path::new("/tmp/bench-walk");
    fs::create_dir_all(checkpoint)?;
    let bundle = image.bundle(id, &["victim"])?;
    let shim = timed(seen, "start of the shim", || starter.start(&bundle))?;
    let restorable = first_life(&shim, &bundle, checkpoint, seen)?;
    end(shim, &bundle, starter, seen)?;
    drop(bundle);
    if restorable {
        let bundle = image.bundle(id, &["victim"])?;
        let shim = starter.start(&bundle)?;
        if asked(seen, "restore: Create and Start", || {
            shim.restore(&bundle, checkpoint)
        })? {
            end(shim, &bundle, starter, &mut |_, _| Ok(()))?;
        } else {
            shim.give_up()?;
            starter.delete(&bundle)?;
        }
    }
    fs::remove_dir_all(checkpoint)?;
    Ok(())
}

/// From Create to where it is to be killed. Whether it was checkpointed.
fn first_life(shim: &Shim, bundle: &Bundle, image: &Path, seen: &mut Seen<'_>) -> Result<bool> {
    step(seen, "Create", || shim.create(bundle, None))?;
    step(seen, "Start", || shim.start(""))?;
    bundle.await_ready()?;
    step(seen, "State", || shim.ask("State"))?;
    step(seen, "Pids", || shim.ask("Pids"))?;
    asked(seen, "Stats", || shim.ask("Stats"))?;
    step(seen, "Exec and Start of `true`", || {
        shim.exec("e", &["true"])?;
        shim.start("e")?;
        shim.wait("e").map(drop)
    })?;
    step(seen, "Delete of an exec", || shim.delete("e"))?;
    step(seen, "Pause", || shim.ask("Pause"))?;
    step(seen, "Resume", || shim.ask("Resume"))?;
    asked(seen, "Checkpoint", || shim.checkpoint(image))
}

fn end(shim: Shim, bundle: &Bundle, starter: &Starter, seen: &mut Seen<'_>) -> Result<()> {
    step(seen, "Kill, and the exit", || {
        shim.kill()?;
        shim.wait("").map(drop)
    })?;
    step(seen, "Delete", || shim.delete(""))?;
    timed(seen, "Shutdown, and the end", || shim.shut_down())?;
    timed(seen, "action `delete`", || starter.delete(bundle))?;
    Ok(())
}

/// A step that has to succeed.
fn step(seen: &mut Seen<'_>, name: &'static str, act: impl FnOnce() -> Answer<()>) -> Result<()> {
    timed(seen, name, || act().map_err(|why| anyhow!("{name}: {why}")))
}

/// One that may be refused. Whether it was not.
fn asked(
    seen: &mut Seen<'_>,
    name: &'static str,
    act: impl FnOnce() -> Answer<()>,
) -> Result<bool> {
    let begun = Instant::now();
    let answer = act().map(|()| begun.elapsed());
    let succeeded = answer.is_ok();
    seen(name, answer)?;
    Ok(succeeded)
}

fn timed<T>(seen: &mut Seen<'_>, name: &'static str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    if !STEPS.contains(&name) {
        bail!("{name} is no step");
    }
    let begun = Instant::now();
    let result = act()?;
    seen(name, Ok(begun.elapsed()))?;
    Ok(result)
}
