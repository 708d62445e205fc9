//! Demand into an allocation: which servers give how much to a job, or why none can.

use std::collections::HashMap;

use pocket_proto::{ByteCount, Failure, ServerId, Status};

use crate::{
    Catalogue, Demand, Needs, Room, Share, Tier, WHOLE, Wanted, Weight,
    demand::rate_text,
    packing::{Packed, Packing, pack, to_shares},
    sentence::{at_most, storage_servers},
    weights::weights,
};

/// A job without a hint of its capacity gets at most this part of what is free, so that the next
/// one also finds room.
pub(crate) const UNHINTED_PART: u64 = 2;
/// ... but not less than this, where there is so much.
pub(crate) const UNHINTED_BYTES_MIN: u64 = 64 << 20;
/// Less than this part of all the cluster has is a crumb, if the job is not that small.
const CRUMB_PART: u64 = 8;

/// A living storage server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSpace {
    /// The server.
    pub server: ServerId,
    /// What its blocks are held on.
    pub tier: Tier,
    /// Index of its node type in the price table; `None` where nobody said: the one that stands for
    /// its tier.
    pub node: Option<usize>,
    /// Bytes of blocks that it holds at most.
    pub capacity_bytes: u64,
    /// Promised to jobs.
    pub reserved_bytes: u64,
    /// Held, as it last reported: may exceed what is promised by what jobs placed elsewhere than
    /// foreseen, and by jobs that ended a moment ago.
    pub used_bytes: u64,
    /// What it moves, in bytes per second. 0: not known, and then not planned.
    pub bytes_per_second: u64,
    /// Promised to jobs, in bytes per second.
    pub reserved_bytes_per_second: u64,
}

impl StorageSpace {
    /// A server as the price table describes the type at `node`, with nothing on it.
    pub fn empty(server: ServerId, node: usize, catalogue: &Catalogue) -> Self {
        let kind = &catalogue.nodes[node];
        StorageSpace {
            server,
            tier: kind.tier,
            node: Some(node),
            capacity_bytes: kind.capacity_bytes,
            reserved_bytes: 0,
            used_bytes: 0,
            bytes_per_second: kind.bytes_per_second,
            reserved_bytes_per_second: 0,
        }
    }

    /// Whether nothing of it is promised.
    pub fn is_free(&self) -> bool {
        self.reserved_bytes == 0 && self.reserved_bytes_per_second == 0
    }

    /// As packing sees it, with so many bytes free.
    pub(crate) fn room(&self, free_bytes: u64) -> Room {
        let known = |rate: u64| match self.bytes_per_second {
            0 => u64::MAX,
            _ => rate,
        };
        Room {
            server: self.server,
            free_bytes,
            free_bytes_per_second: known(self.unpromised_bytes_per_second()),
            capacity_bytes: self.capacity_bytes,
            bytes_per_second: known(self.bytes_per_second),
            used_bytes: self.used_bytes,
        }
    }

    pub(crate) fn unpromised_bytes_per_second(&self) -> u64 {
        self.bytes_per_second
            .saturating_sub(self.reserved_bytes_per_second)
    }

    pub(crate) fn unpromised_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.reserved_bytes)
    }

    pub(crate) fn empty_bytes(&self) -> u64 {
        let taken = self.reserved_bytes.max(self.used_bytes);
        self.capacity_bytes.saturating_sub(taken)
    }
}

/// What a job is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Bytes that it may hold.
    pub capacity_bytes: u64,
    /// Throughput that it may count on, in bytes per second.
    pub bytes_per_second: u64,
    /// What each server promises.
    pub shares: Vec<Share>,
    /// How the figures came about, a sentence each.
    pub reasons: Vec<String>,
    /// What the user should know at once; empty for nothing.
    pub notice: String,
}

/// Gives job `name` what it demands of the living `servers`, or says what would fit. What is only
/// expected or guessed is given when there is so much of it that the job can do something with it
/// (see [`least`]): it had better wait for the next one to end than start with crumbs.
pub fn allocate(
    name: &str,
    demand: Demand,
    servers: &[StorageSpace],
) -> Result<Allocation, Failure> {
    let free = sum(servers, StorageSpace::unpromised_bytes);
    let total = sum(servers, |space| space.capacity_bytes);
    let mut reasons = demand.reasons;
    let enough = free > 0 && free >= least(demand.capacity_bytes, total);
    let capacity_bytes = match demand.capacity_bytes {
        Wanted::Exactly(bytes) if bytes <= free => bytes,
        Wanted::UpTo(bytes) if enough => {
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
        Wanted::Expected(bytes) if enough => {
            if free < bytes {
                reasons.push(format!("capacity {}: all that is free", at_most(free)));
            }
            free.min(bytes)
        }
        wanted => return Err(no_room(name, wanted, free, servers, 0)),
    };
    let rates_known = servers.iter().all(|space| space.bytes_per_second > 0);
    let free_rate = sum(servers, StorageSpace::unpromised_bytes_per_second);
    let needs = Needs {
        capacity_bytes,
        bytes_per_second: match demand.bytes_per_second {
            wanted if !rates_known => wanted.amount(),
            Wanted::Exactly(rate) | Wanted::Expected(rate) => rate.min(free_rate),
            Wanted::UpTo(rate) => rate.min(free_rate / UNHINTED_PART),
        },
    };
    let shares = fill_tiers(needs, &demand.tiers, servers);
    let bytes_per_second = promised_rate(needs.bytes_per_second, &shares);
    let less = less_rate(name, demand.bytes_per_second, bytes_per_second, servers);
    reasons.extend(less.clone());
    let notice = match demand.bytes_per_second {
        Wanted::Exactly(_) => less.unwrap_or_default(),
        Wanted::Expected(_) | Wanted::UpTo(_) => String::new(),
    };
    Ok(Allocation {
        capacity_bytes,
        bytes_per_second,
        shares,
        reasons,
        notice,
    })
}

/// Spreads a running job of such a capacity and throughput anew over the living `servers`, whose
/// reservations do not count this job. Takes what room there is, since the job runs already; where
/// there is none the weights go by size and the shares are empty. `None` if there is no server at
/// all.
pub fn reallocate(
    promised: Needs,
    tiers: &[Tier],
    servers: &[StorageSpace],
) -> Option<(Vec<Share>, Vec<Weight>)> {
    let shares = fill_tiers(promised, tiers, servers);
    let weights = match weights(&shares) {
        none if none.is_empty() => weights(&by_size(servers)),
        weights => weights,
    };
    (!weights.is_empty()).then_some((shares, weights))
}

/// What room there is on each tier, in their order, for so many bytes. Steers clear of what is in use
/// though not promised, unless that leaves too little.
pub(crate) fn rooms_by_tier(
    bytes: u64,
    tiers: &[Tier],
    servers: &[StorageSpace],
) -> Vec<Vec<Room>> {
    let room = if sum(servers, StorageSpace::empty_bytes) >= bytes {
        StorageSpace::empty_bytes
    } else {
        StorageSpace::unpromised_bytes
    };
    let of_tier = |tier: &Tier| {
        let servers = servers.iter().filter(|space| space.tier == *tier);
        servers.map(|space| space.room(room(space))).collect()
    };
    tiers.iter().map(of_tier).collect()
}

/// Fills the tiers in their order, over all servers of a tier in proportion to their room: they are
/// there anyway. Capacity is a promise and throughput a plan: bytes that fit only where all throughput is promised
/// go there all the same, and share what the other jobs leave.
fn fill_tiers(needs: Needs, tiers: &[Tier], servers: &[StorageSpace]) -> Vec<Share> {
    let tiers = rooms_by_tier(needs.capacity_bytes, tiers, servers);
    let mut packed = Packed {
        parts: Vec::new(),
        left: WHOLE,
    };
    for rooms in &tiers {
        let part = pack(needs, packed.left, rooms, Packing::Spread);
        packed.parts.extend(part.parts);
        packed.left = part.left;
    }
    let mut shares = to_shares(needs, &packed);
    let placed: u64 = shares.iter().map(|share| share.bytes).sum();
    let mut left = needs.capacity_bytes - placed.min(needs.capacity_bytes);
    for rooms in &tiers {
        left = fill_bytes(left, rooms, &mut shares);
    }
    shares
}

/// Adds shares of bytes alone, in proportion to what room is left; says how many found none.
fn fill_bytes(bytes: u64, rooms: &[Room], shares: &mut Vec<Share>) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let taken: HashMap<ServerId, usize> = shares
        .iter()
        .enumerate()
        .map(|(at, share)| (share.server, at))
        .collect();
    let rooms: Vec<Room> = rooms
        .iter()
        .map(|room| Room {
            free_bytes: room.free_bytes - taken.get(&room.server).map_or(0, |&at| shares[at].bytes),
            ..*room
        })
        .collect();
    let needs = Needs {
        capacity_bytes: bytes,
        bytes_per_second: 0,
    };
    let packed = pack(needs, WHOLE, &rooms, Packing::Spread);
    let mut added: HashMap<ServerId, u64> = HashMap::new();
    let mut left = bytes;
    for share in to_shares(needs, &packed) {
        left -= share.bytes;
        added.insert(share.server, share.bytes);
    }
    // What rounding left of rooms that are needed to the last byte.
    for room in rooms {
        let mut more = added.get(&room.server).copied().unwrap_or(0);
        let rest = left.min(room.free_bytes - more);
        left -= rest;
        more += rest;
        match taken.get(&room.server) {
            _ if more == 0 => {}
            Some(&at) => shares[at].bytes += more,
            None => shares.push(Share {
                server: room.server,
                bytes: more,
                bytes_per_second: 0,
            }),
        }
    }
    left
}

/// What the shares of a job that is to have such a rate promise together. Shares are whole numbers, and
/// one without a byte is dropped: a thousandth is not missed.
pub(crate) fn promised_rate(wanted: u64, shares: &[Share]) -> u64 {
    let promised = shares.iter().map(|share| share.bytes_per_second);
    let promised = promised.fold(0, u64::saturating_add);
    match promised.saturating_add(wanted / 1_000 + shares.len() as u64) >= wanted {
        true => wanted,
        false => promised,
    }
}

/// The least of what is expected or guessed that a job is started with, where the cluster has `total`
/// bytes. One that has run before and finds half of what it needs grows while it runs; one of which
/// nothing is known takes what there is, but no crumbs.
pub(crate) fn least(wanted: Wanted, total: u64) -> u64 {
    match wanted {
        Wanted::Exactly(bytes) => bytes,
        Wanted::Expected(bytes) => (bytes / 2).min(total / CRUMB_PART),
        Wanted::UpTo(bytes) => bytes.min(UNHINTED_BYTES_MIN).min(total / CRUMB_PART),
    }
}

/// Why a job is given less throughput than it wants, if it is.
pub(crate) fn less_rate(
    name: &str,
    wanted: Wanted,
    given: u64,
    servers: &[StorageSpace],
) -> Option<String> {
    if given >= wanted.amount() {
        return None;
    }
    let free = sum(servers, StorageSpace::unpromised_bytes_per_second);
    let count = storage_servers(servers.len());
    let (given_text, free_text) = (rate_text(given), rate_text(free));
    Some(match wanted {
        Wanted::Exactly(rate) if given == free => format!(
            "job '{name}' asks for {} but its {count} move {free_text} together: it gets what there \
             is, add storage servers for more",
            rate_text(rate),
        ),
        Wanted::Exactly(rate) => format!(
            "job '{name}' asks for {} but those of its {count} that have room for its data can \
             promise {given_text}: it gets that, add storage servers for more",
            rate_text(rate),
        ),
        Wanted::Expected(_) => format!(
            "throughput {given_text}: all that the servers with room for its data can promise"
        ),
        Wanted::UpTo(_) => format!(
            "throughput {given_text}: part of the {free_text} that the servers have free, to leave \
             some for other jobs; hint a bandwidth to get another one"
        ),
    })
}

/// Why a job cannot be placed where so many bytes are free and so many can be started.
pub(crate) fn no_room(
    name: &str,
    wanted: Wanted,
    free: u64,
    servers: &[StorageSpace],
    startable: u64,
) -> Failure {
    let total = sum(servers, |space| space.capacity_bytes);
    let mut cluster = format!("{} on {}", at_most(total), storage_servers(servers.len()));
    if startable > 0 {
        cluster = format!("{cluster}, and {} that can be started", at_most(startable));
    }
    let free = free.saturating_add(startable);
    let asks = match wanted {
        Wanted::Exactly(bytes) => format!("asks for {}", ByteCount(bytes)),
        Wanted::Expected(_) | Wanted::UpTo(_) => "finds no room".to_owned(),
    };
    let sentence = if servers.is_empty() && startable == 0 {
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

fn by_size(servers: &[StorageSpace]) -> Vec<Share> {
    let shares = servers.iter().map(|space| Share {
        server: space.server,
        bytes: space.capacity_bytes,
        bytes_per_second: 0,
    });
    shares.collect()
}

pub(crate) fn sum(servers: &[StorageSpace], of: impl Fn(&StorageSpace) -> u64) -> u64 {
    servers.iter().map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
