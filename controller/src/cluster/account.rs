//! What a job has cost and how much it used at most, while it lives.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use pocket_policy::{Cost, Price};

/// Epochs remembered per job, for people.
const EPOCHS_MAX: usize = 16;

/// The account of a job. A controller that learned of a running job counts from then on.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    price: Price,
    cost: Cost,
    /// The cost is settled up to here.
    settled: Instant,
    pub(crate) peak_used_bytes: u64,
    /// Files and directories when it used the most.
    peak_inodes: u64,
    /// The latest, oldest first.
    pub(crate) epochs: VecDeque<EpochNote>,
}

/// An edition of a job's weight map, and why there is one.
#[derive(Clone, Debug)]
pub(crate) struct EpochNote {
    pub(crate) epoch: u32,
    pub(crate) published: Instant,
    pub(crate) servers: usize,
    pub(crate) reason: String,
}

impl Account {
    pub(crate) fn new(now: Instant) -> Self {
        Account {
            price: Price(0),
            cost: Cost::default(),
            settled: now,
            peak_used_bytes: 0,
            peak_inodes: 0,
            epochs: VecDeque::new(),
        }
    }

    /// What its metadata server counts now.
    pub(crate) fn note_use(&mut self, used_bytes: u64, inodes: u64) {
        if used_bytes > self.peak_used_bytes {
            self.peak_used_bytes = used_bytes;
            self.peak_inodes = inodes;
        }
    }

    /// The mean size of its objects when it used the most; 0 if it never held any.
    pub(crate) fn object_bytes(&self) -> u64 {
        self.peak_used_bytes / self.peak_inodes.max(1)
    }

    /// What it costs from now on.
    pub(crate) fn set_price(&mut self, price: Price, now: Instant) {
        self.cost = self.cost(now);
        self.settled = now;
        self.price = price;
    }

    pub(crate) fn price(&self) -> Price {
        self.price
    }

    /// What it has cost until now.
    pub(crate) fn cost(&self, now: Instant) -> Cost {
        let since: Duration = now.saturating_duration_since(self.settled);
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.cost + self.price.over_ms(milliseconds)
    }

    pub(crate) fn note_epoch(&mut self, note: EpochNote) {
        if self.epochs.len() >= EPOCHS_MAX {
            self.epochs.pop_front();
        }
        self.epochs.push_back(note);
    }
}
