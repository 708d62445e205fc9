//! What a job has cost and how much it used at most, while it lives.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use pocket_policy::{Cost, Needs, Price, Tier};

/// Epochs remembered per job, for people.
const EPOCHS_MAX: usize = 16;

/// What a job has of a tier, or had for so long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TierUse {
    pub(crate) bytes: u128,
    pub(crate) bytes_per_second: u128,
}

impl TierUse {
    fn add(&mut self, now: TierUse, times: u128) {
        self.bytes += now.bytes * times;
        self.bytes_per_second += now.bytes_per_second * times;
    }
}

/// What shares cost, and what they are of each tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) price: Price,
    tiers: BTreeMap<Tier, TierUse>,
}

impl Bill {
    /// One more share.
    pub(crate) fn add(&mut self, tier: Tier, needs: Needs, price: Option<Price>) {
        let share = TierUse {
            bytes: needs.capacity_bytes.into(),
            bytes_per_second: needs.bytes_per_second.into(),
        };
        self.tiers.entry(tier).or_default().add(share, 1);
        self.price = [self.price].into_iter().chain(price).sum();
    }
}

/// The account of a job. A controller that learned of a running job counts from then on.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    bill: Bill,
    cost: Cost,
    /// Of each tier, times milliseconds.
    tiers: BTreeMap<Tier, TierUse>,
    /// The cost is settled up to here.
    settled: Instant,
    /// And counted from here.
    opened: Instant,
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
            bill: Bill::default(),
            cost: Cost::default(),
            tiers: BTreeMap::new(),
            settled: now,
            opened: now,
            peak_used_bytes: 0,
            peak_inodes: 0,
            epochs: VecDeque::new(),
        }
    }

    /// For how long it has counted.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
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
    pub(crate) fn set_bill(&mut self, bill: Bill, now: Instant) {
        (self.cost, self.tiers) = (self.cost(now), self.milliseconds_of_tiers(now));
        self.settled = now;
        self.bill = bill;
    }

    pub(crate) fn price(&self) -> Price {
        self.bill.price
    }

    /// What it has had of each tier until now, times seconds.
    pub(crate) fn tiers(&self, now: Instant) -> impl Iterator<Item = (Tier, TierUse)> {
        let seconds = |amount: u128| amount / 1_000;
        let tiers = self.milliseconds_of_tiers(now).into_iter();
        tiers.map(move |(tier, used)| {
            let used = TierUse {
                bytes: seconds(used.bytes),
                bytes_per_second: seconds(used.bytes_per_second),
            };
            (tier, used)
        })
    }

    fn milliseconds_of_tiers(&self, now: Instant) -> BTreeMap<Tier, TierUse> {
        let mut tiers = self.tiers.clone();
        let since = now.saturating_duration_since(self.settled).as_millis();
        for (tier, has) in &self.bill.tiers {
            tiers.entry(*tier).or_default().add(*has, since);
        }
        tiers
    }

    /// What it has cost until now.
    pub(crate) fn cost(&self, now: Instant) -> Cost {
        let since: Duration = now.saturating_duration_since(self.settled);
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.cost + self.bill.price.over_ms(milliseconds)
    }

    pub(crate) fn note_epoch(&mut self, note: EpochNote) {
        if self.epochs.len() >= EPOCHS_MAX {
            self.epochs.pop_front();
        }
        self.epochs.push_back(note);
    }
}
