//! Containers that count, so that a number lost, doubled or run backwards shows.
//!
//! Each number goes into two files: one in the rw layer, which travels with the container, and
//! one on a bind mount, which the test sees grow. A file is opened for one line only: CRIU
//! compares the sizes of files that are open.

use std::{fs, path::PathBuf};

use super::{
    bundle::Bundle,
    containerd::Containerd,
    wait::{SOON, until},
};

/// What counts: writes, waits, adds. A counter that is restored goes on in the middle of this.
pub const SCRIPT: &str = "i=0; while :; do echo $i >> /numbers; echo $i >> /data/numbers; \
                          sleep 0.05; i=$((i+1)); done";

/// A container that counts, seen from its data directory.
#[derive(Debug)]
pub struct Counter {
    id: String,
    data: PathBuf,
}

impl Counter {
    /// Starts a container that counts, with these options of `ctr run` for the runtime.
    pub fn start(containerd: &Containerd, runtime: &str, id: &str) -> Self {
        let data = containerd.directory().join(format!("data-{id}"));
        fs::create_dir(&data).expect("a new directory");
        let mount = format!(
            "type=bind,src={},dst=/data,options=rbind:rw",
            data.display()
        );
        let options = format!("--detach --null-io {runtime} --mount {mount}");
        containerd
            .run(&options, id)
            .args(&["sh", "-c", SCRIPT])
            .ok();
        Self {
            id: id.to_owned(),
            data,
        }
    }

    /// The counter of a bundle whose container runs [`SCRIPT`].
    pub fn of(bundle: &Bundle) -> Self {
        Self {
            id: bundle.id.clone(),
            data: bundle.data.clone(),
        }
    }

    /// The numbers on the bind mount so far.
    pub fn seen(&self) -> Vec<u64> {
        numbers(&fs::read_to_string(self.data.join("numbers")).unwrap_or_default())
    }

    /// Waits until the counter has written `more` numbers from now on.
    pub fn await_progress(&self, more: usize) {
        let before = self.seen().len();
        until(
            &format!("{} counts on from line {before}", self.id),
            SOON,
            || (self.seen().len() >= before + more).then_some(()),
        );
    }

    /// The numbers in the container's rw layer, read inside.
    pub fn inside(&self, containerd: &Containerd) -> Vec<u64> {
        numbers(
            &containerd
                .ctr(&format!(
                    "task exec --exec-id read {} cat /numbers",
                    self.id
                ))
                .ok(),
        )
    }
}

/// Panics unless the numbers are 0, 1, 2 and so on, without a gap or a repetition.
#[track_caller]
pub fn assert_counts_from_zero(numbers: &[u64]) {
    for (expected, number) in (0u64..).zip(numbers) {
        assert!(
            expected == *number,
            "line {expected} of the counter says {number}: {:?}",
            &numbers[usize::try_from(expected).unwrap_or(0).saturating_sub(3)..]
        );
    }
}

/// The whole lines as numbers: the last one may be half written.
fn numbers(text: &str) -> Vec<u64> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| line.parse().expect("the counter writes numbers"))
        .collect()
}
