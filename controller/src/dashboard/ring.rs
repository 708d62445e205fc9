//! The last quarter of an hour, second by second.

use std::collections::{BTreeMap, VecDeque};

use pocket_proto::control::ListJobsReply;
use serde::Serialize;

use crate::cluster::OfTier;

/// Samples kept: 15 minutes of seconds.
const SAMPLES_MAX: usize = 900;

/// What was at a second.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// Grows by one with every sample, from 1.
    number: u64,
    /// Seconds since the first.
    at_seconds: u64,
    jobs: usize,
    dollars_per_hour: f64,
    tiers: BTreeMap<&'static str, OfTier>,
}

impl Sample {
    pub(super) fn new(
        at_seconds: u64,
        tiers: BTreeMap<&'static str, OfTier>,
        jobs: &ListJobsReply,
    ) -> Self {
        let nanodollars = jobs.jobs.iter().map(|job| job.nanodollars_per_hour);
        Sample {
            number: 0,
            at_seconds,
            jobs: jobs.jobs.len(),
            dollars_per_hour: nanodollars.sum::<u64>() as f64 / 1e9,
            tiers,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ring {
    samples: VecDeque<Sample>,
    last: u64,
}

/// Some of the samples, oldest first.
#[derive(Debug, Serialize)]
pub(super) struct History {
    /// The newest there is: to be asked behind the next time. Smaller than what was asked behind if
    /// the controller is another one.
    last: u64,
    samples_max: usize,
    samples: Vec<Sample>,
}

impl Ring {
    /// Takes a sample; the oldest goes if there are too many.
    pub(super) fn push(&mut self, sample: Sample) {
        self.last += 1;
        let number = self.last;
        self.samples.push_back(Sample { number, ..sample });
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// The samples behind a number.
    pub(super) fn after(&self, number: u64) -> History {
        let newer = self.samples.iter().filter(|sample| sample.number > number);
        History {
            last: self.last,
            samples_max: SAMPLES_MAX,
            samples: newer.cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(history: &History) -> Vec<u64> {
        history.samples.iter().map(|sample| sample.number).collect()
    }

    #[test]
    fn no_more_than_a_quarter_of_an_hour_is_kept() {
        let mut ring = Ring::default();
        assert_eq!(numbers(&ring.after(0)), [0_u64; 0]);
        for at in 0..SAMPLES_MAX as u64 + 50 {
            ring.push(Sample::new(at, BTreeMap::new(), &ListJobsReply::default()));
        }
        let all = ring.after(0);
        assert_eq!(all.samples.len(), SAMPLES_MAX);
        assert_eq!(all.samples[0].number, 51);
        assert_eq!(numbers(&ring.after(948)), [949, 950]);
        assert_eq!(numbers(&ring.after(950)), [0_u64; 0]);
        assert_eq!(
            ring.after(5_000).last,
            950,
            "who asks finds that it is another ring"
        );
    }
}
