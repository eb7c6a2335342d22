//! What a part is to measure, and who has their turn when.

use crate::peer::{Peer, Programs};

/// What was asked for.
#[derive(Debug)]
pub struct Plan {
    /// What is measured.
    pub programs: Programs,
    /// Who is.
    pub peers: Vec<Peer>,
    /// How often, if that was said.
    pub rounds: Option<u32>,
}

impl Plan {
    /// How often a part measures that would do so `usual` times.
    pub fn rounds(&self, usual: u32) -> u32 {
        self.rounds.unwrap_or(usual)
    }

    /// The peers in the order of a round.
    pub fn turn(&self, round: u32) -> Vec<Peer> {
        turn(&self.peers, round)
    }
}

/// Things in the order of a round: another one is first in each, and every second goes backwards, so
/// that what one leaves the machine to do does not always meet the same other one.
pub fn turn<T: Clone>(all: &[T], round: u32) -> Vec<T> {
    let mut order = all.to_vec();
    let first = usize::try_from(round).unwrap_or_default() % order.len().max(1);
    order.rotate_left(first);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}
