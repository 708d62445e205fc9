//! Throughput that jobs grew by: theirs until somebody registers who needs it.
//!
//! What a job was given when it registered is a promise. What it was given since, because it moved
//! more and nobody else had asked for it, is not in the way of a new job.

use std::{collections::HashMap, time::Instant};

use pocket_policy::{Needs, Share, StorageSpace, rate_text, shrink};
use pocket_proto::{JobId, ServerId, control::StorageClass};

use super::{Cluster, jobs::Job};

impl Cluster {
    /// The storage servers of a class as they would be without what jobs grew by.
    pub(super) fn spaces_for_a_newcomer(&self, class: StorageClass) -> Vec<StorageSpace> {
        let mut lent: HashMap<ServerId, u64> = HashMap::new();
        for job in self.jobs.all().filter(|job| has_grown(job)) {
            for (share, kept) in job.shares.iter().zip(without_growth(job)) {
                *lent.entry(share.server).or_default() +=
                    share.bytes_per_second - kept.bytes_per_second;
            }
        }
        let mut spaces = self.spaces_of(class);
        for space in &mut spaces {
            let lent = lent.get(&space.server).copied().unwrap_or(0);
            let reserved = &mut space.reserved_bytes_per_second;
            *reserved = reserved.saturating_sub(lent);
        }
        spaces
    }

    /// Takes back what jobs grew by on servers that have promised more than they move.
    pub(super) fn take_back_lent(&mut self, now: Instant) {
        let over = |space: &StorageSpace| {
            space.bytes_per_second > 0 && space.reserved_bytes_per_second > space.bytes_per_second
        };
        if !self.jobs.all().any(has_grown) {
            return;
        }
        let spaces = self.spaces();
        let over: Vec<ServerId> = spaces
            .iter()
            .filter(|space| over(space))
            .map(|space| space.server)
            .collect();
        if over.is_empty() {
            return;
        }
        let on_these = |job: &&Job| {
            has_grown(job) && job.shares.iter().any(|share| over.contains(&share.server))
        };
        let grown: Vec<JobId> = self.jobs.all().filter(on_these).map(|job| job.id).collect();
        for id in grown {
            let Some(job) = self.jobs.get(id) else {
                continue;
            };
            let kept = without_growth(job);
            self.reserve(id, kept, now);
            if let Some(job) = self.jobs.get_mut(id) {
                let rate = job.reserved.bytes_per_second;
                job.gave_up_throughput(
                    rate,
                    format!(
                        "another job needs what it grew by: {} are reserved now",
                        rate_text(rate)
                    ),
                );
            }
        }
    }
}

fn has_grown(job: &Job) -> bool {
    job.reserved.bytes_per_second > job.spec.bandwidth_bytes_per_second
}

fn without_growth(job: &Job) -> Vec<Share> {
    let kept = Needs {
        capacity_bytes: u64::MAX,
        bytes_per_second: job.spec.bandwidth_bytes_per_second,
    };
    shrink(&job.shares, kept)
}
