//! Times the phases of a checkpoint so that they add up to the total: each phase begins where
//! the one before ended.

use std::time::{Duration, Instant};

use stasis_engine::Phase;

/// A running stopwatch.
#[derive(Debug)]
pub struct Stopwatch {
    lap: Instant,
    phases: Vec<Phase>,
}

impl Stopwatch {
    /// Starts with the first phase.
    pub fn start() -> Self {
        Self {
            lap: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// Ends the phase that is under way, and names it.
    pub fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.phases.push(Phase {
            name,
            took: now - self.lap,
        });
        self.lap = now;
    }

    /// The phases so far.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The time that they took together.
    pub fn total(&self) -> Duration {
        self.phases.iter().map(|phase| phase.took).sum()
    }
}
