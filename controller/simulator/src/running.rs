//! A job from its admission to its end.

use pocket_policy::{Cost, Demand, Needs, Price, Revision, Share, Use, Watch, shrink};

use crate::{
    TraceJob,
    job::{DONE, wanted},
};

/// A job that has been admitted.
#[derive(Debug)]
pub(crate) struct Running {
    /// Index in the trace.
    pub(crate) job: usize,
    pub(crate) demand: Demand,
    pub(crate) given: Needs,
    pub(crate) shares: Vec<Share>,
    /// More that was promised, on servers that are ready from this time on.
    pub(crate) coming: Option<(u64, Needs, Vec<Share>)>,
    watch: Watch,
    /// In parts of [`DONE`].
    pub(crate) progress: u64,
    /// When its servers are ready: then it starts.
    pub(crate) starts_ms: u64,
    /// How much longer its objects take than on the best tier, in parts of [`DONE`].
    pub(crate) penalty: u64,
    price: Price,
    priced_ms: u64,
    pub(crate) bill: Cost,
    /// The most it held and moved.
    pub(crate) peak: Needs,
    /// For so long it found no room, in all and until now.
    pub(crate) stalled_ms: u64,
    pub(crate) stalled_last_ms: u64,
}

impl Running {
    pub(crate) fn new(job: usize, demand: Demand, given: Needs, now_ms: u64) -> Self {
        Running {
            job,
            watch: Watch::of(&demand),
            demand,
            given,
            shares: Vec::new(),
            coming: None,
            progress: 0,
            starts_ms: now_ms,
            penalty: 0,
            price: Price(0),
            priced_ms: now_ms,
            bill: Cost::default(),
            peak: Needs::default(),
            stalled_ms: 0,
            stalled_last_ms: 0,
        }
    }

    /// Another price from now on.
    pub(crate) fn set_price(&mut self, price: Price, now_ms: u64) {
        self.bill += self.price.over_ms(now_ms - self.priced_ms);
        self.priced_ms = now_ms;
        self.price = price;
    }

    /// What it needs now, at full speed.
    pub(crate) fn wanted(&self, job: &TraceJob) -> Needs {
        wanted(job, self.progress)
    }

    /// Compares use with allocation; what is to change.
    pub(crate) fn look(&mut self, job: &TraceJob, now_ms: u64) -> Option<Revision> {
        if self.coming.is_some() {
            return None;
        }
        let used = self.wanted(job);
        let now = Use {
            given: self.given,
            used,
        };
        self.watch.look(now, now_ms)
    }

    /// Works for so long at a speed in parts of [`DONE`]; when it is done within that time, after how
    /// many milliseconds of it.
    pub(crate) fn work(&mut self, job: &TraceJob, milliseconds: u64, speed: u64) -> Option<u64> {
        let step = u128::from(milliseconds) * u128::from(speed) / u128::from(job.runs_ms);
        let left = u128::from(DONE - self.progress);
        if step >= left && step > 0 {
            self.progress = DONE;
            return Some((u128::from(milliseconds) * left).div_ceil(step) as u64);
        }
        self.progress += step as u64;
        None
    }

    /// Keeps only the part of every share that `kept` is of what was given; what is given back.
    pub(crate) fn shrink(&mut self, kept: Needs) -> Vec<Share> {
        let less = shrink(&self.shares, kept);
        let back = self.shares.iter().zip(&less).map(|(share, less)| Share {
            bytes: share.bytes - less.bytes,
            bytes_per_second: share.bytes_per_second - less.bytes_per_second,
            ..*share
        });
        let back = back.collect();
        self.shares = less;
        self.given = kept;
        back
    }
}
