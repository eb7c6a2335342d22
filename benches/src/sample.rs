//! What many measurements of one thing come to: median and quartiles, or why there is none.

use std::time::Duration;

/// Measurements of one thing.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    values: Vec<f64>,
    refusal: Option<&'static str>,
}

/// The middle of a sample and where its quarters end.
#[derive(Debug, Clone, Copy)]
pub struct Quartiles {
    /// A quarter is below.
    pub low: f64,
    /// A half is below.
    pub median: f64,
    /// A quarter is above.
    pub high: f64,
}

impl Sample {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds a duration, in milliseconds.
    pub fn add_time(&mut self, took: Duration) {
        self.add(took.as_secs_f64() * 1000.0);
    }

    /// Notes that the thing was asked for, and what came instead of an answer.
    pub fn refuse(&mut self, how: &'static str) {
        self.refusal = Some(how);
    }

    /// Adds a duration, or the note of a refusal.
    pub fn add_outcome<E>(&mut self, outcome: &Result<Duration, E>) {
        match outcome {
            Ok(took) => self.add_time(*took),
            Err(_) => self.refuse("refused"),
        }
    }

    /// Adds the measurements of another sample of the same thing.
    pub fn append(&mut self, mut other: Self) {
        self.values.append(&mut other.values);
        self.refusal = other.refusal.or(self.refusal);
    }

    /// The mean; 0 of nothing.
    pub fn mean(&self) -> f64 {
        let count = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.values.iter().sum::<f64>() / f64::from(count.max(1))
    }

    /// The quartiles, unless nothing was measured.
    pub fn quartiles(&self) -> Option<Quartiles> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            let quarters = (sorted.len() - 1) * quarter;
            let (below, rest) = (quarters / 4, quarters % 4);
            let part = [0.0, 0.25, 0.5, 0.75][rest];
            let above = sorted[(below + 1).min(sorted.len() - 1)];
            sorted[below] + part * (above - sorted[below])
        };
        (!sorted.is_empty()).then(|| Quartiles {
            low: at(1),
            median: at(2),
            high: at(3),
        })
    }

    /// The median, unless nothing was measured.
    pub fn median(&self) -> Option<f64> {
        self.quartiles().map(|quartiles| quartiles.median)
    }

    /// Median and quartiles as a table has them.
    pub fn shown(&self) -> String {
        match (self.quartiles(), &self.refusal) {
            (Some(q), _) => format!("{:.1} ({:.1}–{:.1})", q.median, q.low, q.high),
            (None, Some(how)) => (*how).into(),
            (None, None) => "–".into(),
        }
    }

    /// The ratio of two medians as a table has it.
    pub fn ratio(&self, to: Option<&Self>) -> String {
        match (self.median(), to.and_then(Self::median)) {
            (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
            _ => "–".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        let mut sample = Sample::default();
        values.iter().for_each(|value| sample.add(*value));
        sample
    }

    #[test]
    fn quartiles_lie_between_values_where_no_value_is() {
        let q = sample(&[4.0, 1.0, 3.0, 2.0]).quartiles().unwrap();
        assert_eq!((q.low, q.median, q.high), (1.75, 2.5, 3.25));
        let q = sample(&[5.0]).quartiles().unwrap();
        assert_eq!((q.low, q.median, q.high), (5.0, 5.0, 5.0));
        assert!(sample(&[]).quartiles().is_none());
    }

    #[test]
    fn what_was_refused_has_no_figure() {
        let mut refused = Sample::default();
        refused.add_outcome(&Err("not implemented"));
        assert_eq!(refused.shown(), "refused");
        assert_eq!(refused.ratio(Some(&sample(&[1.0]))), "–");
    }
}
