//! The shares of a running job made larger or smaller.
//!
//! Throughput follows the data: what a job moves on a server is as the server's part of its data.

use std::collections::BTreeMap;

use pocket_proto::ServerId;

use crate::{
    Needs, Share, StorageSpace, Tier, WHOLE,
    allocation::rooms_by_tier,
    packing::{Packing, pack, to_shares},
};

/// More than this many times what it had is not found for a job at a time.
const TIMES_MAX: u64 = 1_000;

/// A running job's shares with more throughput.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Widened {
    /// All of them.
    pub shares: Vec<Share>,
    /// Whether data go to other servers than before, so that a new map is needed.
    pub moved: bool,
}

/// Finds so much throughput in all for a job with these shares, among `servers`, whose reservations
/// count the job as well: on the servers that it is on, and if these have not enough of it, on others,
/// tier by tier, which take their part of the data from now on. Where there is not so much, the job
/// gets what there is. No share's throughput falls. `None` if that is not more than it has.
pub fn widen(
    shares: &[Share],
    bytes_per_second: u64,
    tiers: &[Tier],
    servers: &[StorageSpace],
) -> Option<Widened> {
    let has = total(shares);
    if bytes_per_second <= has.bytes_per_second {
        return None;
    }
    if let Some(shares) = in_place(shares, bytes_per_second, servers) {
        return Some(Widened {
            shares,
            moved: false,
        });
    }
    // Of a job without any throughput the whole finds another place, else the part that it lacks.
    let (needs, parts) = match has.bytes_per_second {
        0 => (
            Needs {
                bytes_per_second,
                ..has
            },
            WHOLE,
        ),
        rate => (has, parts_of(bytes_per_second - rate, rate)),
    };
    let (mut left, mut added) = (parts, Vec::new());
    for rooms in rooms_by_tier(needs.parts(parts).capacity_bytes, tiers, servers) {
        let packed = pack(needs, left, &rooms, Packing::Spread);
        left = packed.left;
        added.extend(to_shares(needs, &packed));
    }
    let more = total(&added);
    if more.bytes_per_second == 0 {
        return None;
    }
    // All parts together hold what the job held.
    let kept = match has.bytes_per_second {
        0 => has.capacity_bytes.saturating_sub(more.capacity_bytes),
        _ => has.capacity_bytes,
    };
    let old = shares.iter().map(|share| Share {
        bytes: part(share.bytes, kept, has.capacity_bytes),
        ..*share
    });
    let merged = merge(old.chain(added));
    let bytes = in_proportion(has.capacity_bytes, &merged);
    let scaled = merged.iter().zip(bytes).map(|(share, bytes)| Share {
        bytes: bytes.max(1),
        ..*share
    });
    Some(Widened {
        shares: scaled.collect(),
        moved: true,
    })
}

/// The same servers with more throughput each; `None` if one of them has not so much.
fn in_place(
    shares: &[Share],
    bytes_per_second: u64,
    servers: &[StorageSpace],
) -> Option<Vec<Share>> {
    let rates = in_proportion(bytes_per_second, shares);
    let widened = shares.iter().zip(rates).map(|(share, rate)| {
        let space = servers.iter().find(|space| space.server == share.server)?;
        let free = match space.bytes_per_second {
            0 => u64::MAX,
            _ => space.unpromised_bytes_per_second(),
        };
        let more = rate.checked_sub(share.bytes_per_second)?;
        (more <= free).then_some(Share {
            bytes_per_second: rate,
            ..*share
        })
    });
    widened.collect()
}

/// The same servers with less: of each share the part that `kept` is of all of them.
pub fn shrink(shares: &[Share], kept: Needs) -> Vec<Share> {
    let all = total(shares);
    let less = |share: &Share| Share {
        server: share.server,
        bytes: part(share.bytes, kept.capacity_bytes, all.capacity_bytes)
            .clamp(1, share.bytes.max(1)),
        bytes_per_second: part(
            share.bytes_per_second,
            kept.bytes_per_second,
            all.bytes_per_second,
        )
        .min(share.bytes_per_second),
    };
    shares.iter().map(less).collect()
}

/// One share for each server, in the order of their ids.
pub fn merge(shares: impl IntoIterator<Item = Share>) -> Vec<Share> {
    let mut merged: BTreeMap<ServerId, Share> = BTreeMap::new();
    for share in shares {
        let sum = merged.entry(share.server).or_insert(Share {
            bytes: 0,
            bytes_per_second: 0,
            ..share
        });
        sum.bytes += share.bytes;
        sum.bytes_per_second += share.bytes_per_second;
    }
    merged.into_values().collect()
}

/// What shares promise together.
pub fn total(shares: &[Share]) -> Needs {
    let sum = |of: fn(&Share) -> u64| shares.iter().map(of).fold(0, u64::saturating_add);
    Needs {
        capacity_bytes: sum(|share| share.bytes),
        bytes_per_second: sum(|share| share.bytes_per_second),
    }
}

/// The amount divided as the bytes of the shares are: all of it, and to each its part rounded up at
/// most.
fn in_proportion(amount: u64, shares: &[Share]) -> Vec<u64> {
    let bytes = total(shares).capacity_bytes;
    let (mut before, mut given) = (0, 0);
    let parts = shares.iter().map(|share| {
        before += share.bytes;
        let part = part(amount, before, bytes) - given;
        given += part;
        part
    });
    parts.collect()
}

/// `amount` as parts of a job that has `whole` of it.
fn parts_of(amount: u64, whole: u64) -> u64 {
    let parts = (u128::from(amount) * u128::from(WHOLE)).div_ceil(u128::from(whole));
    parts.min(u128::from(WHOLE * TIMES_MAX)) as u64
}

/// `of / all` of the amount; nothing of nothing.
fn part(amount: u64, of: u64, all: u64) -> u64 {
    let exact = u128::from(amount) * u128::from(of) / u128::from(all.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
