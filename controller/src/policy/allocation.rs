//! Demand into an allocation: which servers give how much to a job, or why none can.

use std::collections::HashSet;

use pocket_proto::{ByteCount, Failure, ServerId, Status};

use super::{
    demand::{Demand, Wanted, rate_text},
    sentence::{at_most, storage_servers},
    tier::Tier,
    weights::{Share, Weight, spread, weights},
};

/// A job without a hint of its capacity gets at most this part of what is free, so that the next
/// one also finds room.
const UNHINTED_PART: u64 = 2;
/// ... but not less than this, where there is so much.
const UNHINTED_BYTES_MIN: u64 = 64 << 20;

/// A living storage server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StorageSpace {
    pub(crate) server: ServerId,
    pub(crate) tier: Tier,
    pub(crate) capacity_bytes: u64,
    /// Promised to jobs.
    pub(crate) reserved_bytes: u64,
    /// Held, as it last reported: may exceed what is promised by what jobs placed elsewhere than
    /// foreseen, and by jobs that ended a moment ago.
    pub(crate) used_bytes: u64,
    /// 0: not known.
    pub(crate) bytes_per_second: u64,
}

impl StorageSpace {
    fn unpromised_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.reserved_bytes)
    }

    fn empty_bytes(&self) -> u64 {
        let taken = self.reserved_bytes.max(self.used_bytes);
        self.capacity_bytes.saturating_sub(taken)
    }
}

/// What a job is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) capacity_bytes: u64,
    pub(crate) bytes_per_second: u64,
    /// What each server promises.
    pub(crate) shares: Vec<Share>,
    /// How the figures came about, a sentence each.
    pub(crate) reasons: Vec<String>,
    /// What the user should know at once; empty for nothing.
    pub(crate) notice: String,
}

/// Gives job `name` what it demands of the living `servers`, or says what would fit.
pub(crate) fn allocate(
    name: &str,
    demand: Demand,
    servers: &[StorageSpace],
) -> Result<Allocation, Failure> {
    let free = sum(servers, StorageSpace::unpromised_bytes);
    let mut reasons = demand.reasons;
    let capacity_bytes = match demand.capacity_bytes {
        Wanted::Exactly(bytes) if bytes <= free => bytes,
        Wanted::UpTo(bytes) if free > 0 => {
            let part = (free / UNHINTED_PART).max(free.min(UNHINTED_BYTES_MIN));
            if part < bytes {
                reasons.push(format!(
                    "capacity {}: part of the {} that the cluster has free, to leave room for \
                     other jobs; hint a capacity to get another one",
                    at_most(part),
                    at_most(free)
                ));
            }
            part.min(bytes)
        }
        wanted => return Err(no_room(name, wanted, free, servers)),
    };
    let shares = fill_tiers(capacity_bytes, &demand.tiers, servers);
    let (bytes_per_second, notice) = throughput(name, demand.bytes_per_second, &shares, servers);
    if !notice.is_empty() {
        reasons.push(notice.clone());
    }
    Ok(Allocation {
        capacity_bytes,
        bytes_per_second,
        shares,
        reasons,
        notice,
    })
}

/// Spreads a running job of `capacity_bytes` anew over the living `servers`, whose reservations
/// do not count this job. Takes what room there is, since the job runs already; where there is
/// none the weights go by size and the shares are empty. `None` if there is no server at all.
pub(crate) fn reallocate(
    capacity_bytes: u64,
    tiers: &[Tier],
    servers: &[StorageSpace],
) -> Option<(Vec<Share>, Vec<Weight>)> {
    let shares = fill_tiers(capacity_bytes, tiers, servers);
    let weights = match weights(&shares) {
        none if none.is_empty() => weights(&rooms(servers, |space| space.capacity_bytes)),
        weights => weights,
    };
    (!weights.is_empty()).then_some((shares, weights))
}

/// Fills the tiers in their order. Steers clear of what is in use though not promised, unless
/// that leaves too little.
fn fill_tiers(bytes: u64, tiers: &[Tier], servers: &[StorageSpace]) -> Vec<Share> {
    let room = if sum(servers, StorageSpace::empty_bytes) >= bytes {
        StorageSpace::empty_bytes
    } else {
        StorageSpace::unpromised_bytes
    };
    let mut left = bytes;
    let mut shares = Vec::new();
    for tier in tiers {
        let of_tier: Vec<_> = servers
            .iter()
            .copied()
            .filter(|s| s.tier == *tier)
            .collect();
        let part = spread(left, &rooms(&of_tier, room));
        left -= part.iter().map(|share| share.bytes).sum::<u64>();
        shares.extend(part);
    }
    shares
}

/// What the servers chosen can move, where all of them say so.
fn throughput(
    name: &str,
    wanted: Wanted,
    shares: &[Share],
    servers: &[StorageSpace],
) -> (u64, String) {
    let chosen: HashSet<_> = shares.iter().map(|share| share.server).collect();
    let chosen = servers.iter().filter(|s| chosen.contains(&s.server));
    let mut rates = chosen.map(|s| s.bytes_per_second);
    let possible = rates.try_fold(0u64, |sum, rate| match rate {
        0 => None,
        rate => Some(sum.saturating_add(rate)),
    });
    match (wanted, possible) {
        (Wanted::Exactly(rate), Some(possible)) if rate > possible => (
            possible,
            format!(
                "job '{name}' asks for {} but its {} move {} together: it gets what there is, \
                 add storage servers for more",
                rate_text(rate),
                storage_servers(shares.len()),
                rate_text(possible),
            ),
        ),
        (Wanted::Exactly(rate) | Wanted::UpTo(rate), possible) => {
            (rate.min(possible.unwrap_or(u64::MAX)), String::new())
        }
    }
}

fn no_room(name: &str, wanted: Wanted, free: u64, servers: &[StorageSpace]) -> Failure {
    let total = sum(servers, |space| space.capacity_bytes);
    let cluster = format!("{} on {}", at_most(total), storage_servers(servers.len()));
    let asks = match wanted {
        Wanted::Exactly(bytes) => format!("asks for {}", ByteCount(bytes)),
        Wanted::UpTo(_) => "finds no room".to_owned(),
    };
    let sentence = if servers.is_empty() {
        format!("job '{name}' {asks} but no storage server is alive: start one (pocket storage)")
    } else if free == 0 {
        format!(
            "job '{name}' {asks} but all {cluster} are given to other jobs: \
             end one (pocket jobs lists them), or add storage servers"
        )
    } else {
        let fits = at_most(free);
        format!(
            "job '{name}' {asks} but the cluster has {fits} free of {cluster}: \
             ask for --capacity {fits} or less, or add storage servers"
        )
    };
    Failure::new(Status::NoSpace, sentence)
}

fn rooms(servers: &[StorageSpace], room: impl Fn(&StorageSpace) -> u64) -> Vec<Share> {
    let rooms = servers.iter().map(|space| Share {
        server: space.server,
        bytes: room(space),
    });
    rooms.collect()
}

fn sum(servers: &[StorageSpace], of: impl Fn(&StorageSpace) -> u64) -> u64 {
    servers.iter().map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
