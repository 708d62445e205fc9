//! Servers that are promised to more than they can hold: those of jobs that a new controller learns of,
//! whose maps name fewer servers than their reservations would need.

use pocket_policy::{Share, StorageSpace};
use pocket_proto::JobId;

use super::Cluster;

impl Cluster {
    /// Lowers what jobs are promised on such servers to what there is, for each by the same part. Their
    /// reservations stay, and are met when there is room again.
    pub(super) fn trim_promises(&mut self) {
        let too_much = |space: &StorageSpace| {
            space.reserved_bytes > space.capacity_bytes
                || space.reserved_bytes_per_second > throughput(space)
        };
        for space in self.spaces().into_iter().filter(too_much) {
            let trimmed: Vec<(JobId, Vec<Share>)> = self
                .jobs
                .all()
                .filter(|job| job.shares.iter().any(|share| share.server == space.server))
                .map(|job| (job.id, trimmed(&job.shares, &space)))
                .collect();
            for (id, shares) in trimmed {
                self.jobs.set_shares(id, shares);
            }
        }
    }
}

/// What the server moves; where it does not say, nobody knows what would be too much.
fn throughput(space: &StorageSpace) -> u64 {
    match space.bytes_per_second {
        0 => u64::MAX,
        known => known,
    }
}

/// The shares with those on the server cut to their part of what it has.
fn trimmed(shares: &[Share], space: &StorageSpace) -> Vec<Share> {
    let part = |amount: u64, there_is: u64, promised: u64| match promised > there_is {
        true => (u128::from(amount) * u128::from(there_is) / u128::from(promised)) as u64,
        false => amount,
    };
    let trim = |share: &Share| match share.server == space.server {
        true => Share {
            bytes: part(share.bytes, space.capacity_bytes, space.reserved_bytes),
            bytes_per_second: part(
                share.bytes_per_second,
                throughput(space),
                space.reserved_bytes_per_second,
            ),
            ..*share
        },
        false => *share,
    };
    shares.iter().map(trim).collect()
}
