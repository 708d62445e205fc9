//! Where the cluster can grow: on which servers a job goes, and which have to be started for it.
//!
//! Gaps of running servers are filled before one is started, tier by tier: fastest first for a job
//! to which latency matters (or that does not say), else in the order of what the job would cost
//! on each node type, which is the cheapest mix (see [`crate::cheapest_mix`]). A tier is left for the
//! next one only when it can neither take the job nor grow, or when the servers there may be in all would
//! not hold the job otherwise.

use crate::{
    Catalogue, Demand, Needs, Room, Share, StorageSpace, Tier, WHOLE,
    packing::{Packed, Packing, pack, to_shares},
};

/// What may be had.
#[derive(Clone, Copy, Debug)]
pub struct Market<'a> {
    /// Node types and prices.
    pub catalogue: &'a Catalogue,
    /// What can be started.
    pub startable: &'a [Startable],
    /// Servers there may still be started in all.
    pub startable_in_all: u32,
}

/// A kind of server that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Startable {
    /// Index of its node type in the price table.
    pub node: usize,
    /// Bytes of blocks that each will hold.
    pub capacity_bytes: u64,
    /// What each will move, in bytes per second. 0: not known, and then not planned.
    pub bytes_per_second: u64,
    /// So many at most.
    pub count: u32,
}

impl Startable {
    /// Servers as the price table describes their type.
    pub fn of_table(node: usize, count: u32, catalogue: &Catalogue) -> Self {
        let kind = &catalogue.nodes[node];
        Startable {
            node,
            capacity_bytes: kind.capacity_bytes,
            bytes_per_second: kind.bytes_per_second,
            count,
        }
    }

    /// Parts of the job that one of them takes.
    fn parts(&self, needs: Needs) -> u128 {
        let parts = |has: u64, need: u64| match (has, need) {
            (_, 0) => u128::from(WHOLE),
            (has, need) => u128::from(has) * u128::from(WHOLE) / u128::from(need),
        };
        let capacity = parts(self.capacity_bytes, needs.capacity_bytes);
        let rate = match self.bytes_per_second {
            0 => WHOLE.into(),
            rate => parts(rate, needs.bytes_per_second),
        };
        capacity.min(rate).clamp(1, WHOLE.into())
    }
}

/// What to do for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Growth {
    /// There is room: this is what it gets.
    Placed(Vec<Share>),
    /// Start so many of each [`Startable`], and ask again: it will fit.
    Start(Vec<u32>),
    /// The cluster can neither hold it nor grow enough; so many parts of it have no room.
    Full {
        /// Parts of [`WHOLE`].
        parts_left: u64,
    },
}

/// Finds room for `needs` of a job with this demand on the servers there are and those that can be
/// started, all of it or nothing. For what a running job needs more than it has, too: the shares are
/// beside those that it has.
pub fn grow(needs: Needs, demand: &Demand, servers: &[StorageSpace], market: Market<'_>) -> Growth {
    // Steer clear of what is in use though not promised, as long as nothing is started for it.
    if servers
        .iter()
        .any(|space| space.used_bytes > space.reserved_bytes)
    {
        let empty = StorageSpace::empty_bytes;
        if let placed @ Growth::Placed(_) = grow_into(needs, demand, servers, empty, market) {
            return placed;
        }
    }
    grow_into(
        needs,
        demand,
        servers,
        StorageSpace::unpromised_bytes,
        market,
    )
}

fn grow_into(
    needs: Needs,
    demand: &Demand,
    servers: &[StorageSpace],
    free_bytes: impl Fn(&StorageSpace) -> u64,
    market: Market<'_>,
) -> Growth {
    let mut packed = Packed {
        parts: Vec::new(),
        left: WHOLE,
    };
    let mut start = vec![0; market.startable.len()];
    let mut startable_in_all = market.startable_in_all;
    let mut ranked = Vec::with_capacity(start.len());
    for class in order(needs, demand, market.catalogue) {
        if packed.left <= rounding(needs) {
            break;
        }
        let of_class = servers
            .iter()
            .filter(|space| Class::of(space, market.catalogue) == class);
        let rooms: Vec<Room> = of_class
            .map(|space| space.room(free_bytes(space)))
            .collect();
        let gaps = pack(needs, packed.left, &rooms, Packing::Fill);
        packed.parts.extend(gaps.parts);
        packed.left = gaps.left;
        let kinds = market.startable.iter().enumerate().zip(&mut start);
        for ((at, startable), start) in kinds {
            if class != Class::Node(startable.node) {
                continue;
            }
            let parts = startable.parts(needs);
            let most = startable.count.min(startable_in_all);
            let left = packed.left.saturating_sub(rounding(needs));
            let count = u128::from(left).div_ceil(parts).min(most.into()) as u32;
            *start = count;
            startable_in_all -= count;
            let taken = u128::from(count) * parts;
            packed.left -= taken.min(packed.left.into()) as u64;
            ranked.push((at, parts));
        }
    }
    let lacks = packed.left.saturating_sub(rounding(needs));
    let gained = make_way(lacks, &ranked, market.startable, &mut start);
    packed.left -= gained.min(packed.left.into()) as u64;
    let starts = start.iter().any(|count| *count > 0);
    // A third of a job is not a whole number of parts: the last server takes what rounding left, which
    // is nothing.
    if packed.left <= rounding(needs) {
        let rest = std::mem::take(&mut packed.left);
        if let Some((_, last)) = packed.parts.last_mut() {
            *last += rest;
        }
    }
    match (packed.left, starts) {
        (0, true) => Growth::Start(start),
        (0, false) => Growth::Placed(to_shares(needs, &packed)),
        (parts_left, _) => Growth::Full { parts_left },
    }
}

/// Where so many parts of a job lack room as the servers there may be in all are spent on kinds that hold
/// little, these give way to later kinds that hold more: no more of them than it takes, and the least
/// first, to the best one. `kinds` are those to be started in the order of preference, with the parts
/// that one holds. Says how many parts more they then hold.
fn make_way(
    lacks: u64,
    kinds: &[(usize, u128)],
    startable: &[Startable],
    start: &mut [u32],
) -> u128 {
    let (lacks, mut gained) = (u128::from(lacks), 0);
    for (rank, &(to, holds)) in kinds.iter().enumerate() {
        let mut lesser: Vec<_> = kinds[..rank].iter().filter(|kind| kind.1 < holds).collect();
        lesser.sort_by_key(|kind| kind.1);
        for &&(from, held) in &lesser {
            let count = lacks.saturating_sub(gained).div_ceil(holds - held);
            let most = start[from].min(startable[to].count.saturating_sub(start[to]));
            let count = count.min(most.into()) as u32;
            start[from] -= count;
            start[to] += count;
            gained += u128::from(count) * (holds - held);
        }
    }
    gained
}

/// Finds room for a running job that was given so much and wants so much in all: in the shape of what it
/// has, since throughput follows the data; where there is no room for that at least what it lacks; and
/// where there is no throughput either at least the bytes, or its writes would fail. Says how much
/// more that is. `None` if it may have no more ([`Demand::capacity_max`]), or if there is nothing.
pub fn extend(
    given: Needs,
    wanted: Needs,
    demand: &Demand,
    servers: &[StorageSpace],
    market: Market<'_>,
) -> Option<(Needs, Growth)> {
    let most = demand.capacity_max().unwrap_or(u64::MAX);
    let lacks = Needs {
        capacity_bytes: wanted
            .capacity_bytes
            .min(most)
            .saturating_sub(given.capacity_bytes),
        bytes_per_second: wanted
            .bytes_per_second
            .saturating_sub(given.bytes_per_second),
    };
    if lacks == Needs::default() {
        return None;
    }
    let in_shape = more_in_shape(given, lacks);
    let may_have = most.saturating_sub(given.capacity_bytes);
    let in_shape = Needs {
        capacity_bytes: in_shape.capacity_bytes.min(may_have).max(1),
        ..in_shape
    };
    // Where a job goes follows its data: there is no share without a byte.
    let lacking = Needs {
        capacity_bytes: lacks.capacity_bytes.max(1),
        ..lacks
    };
    let bytes = Needs {
        bytes_per_second: 0,
        ..lacking
    };
    [in_shape, lacking, bytes].into_iter().find_map(|more| {
        match grow(more, demand, servers, market) {
            Growth::Full { .. } => None,
            found => Some((more, found)),
        }
    })
}

/// What to add so that neither figure is lacking, in the proportion of what was given.
fn more_in_shape(given: Needs, lacks: Needs) -> Needs {
    let parts = |given: u64, lacks: u64| {
        (u128::from(lacks) * u128::from(WHOLE)).div_ceil(u128::from(given.max(1)))
    };
    let parts = parts(given.capacity_bytes, lacks.capacity_bytes)
        .max(parts(given.bytes_per_second, lacks.bytes_per_second));
    let part = |amount: u64| {
        let exact = u128::from(amount)
            .saturating_mul(parts)
            .div_ceil(u128::from(WHOLE));
        u64::try_from(exact).unwrap_or(u64::MAX)
    };
    Needs {
        capacity_bytes: part(given.capacity_bytes),
        bytes_per_second: part(given.bytes_per_second),
    }
}

/// So many parts of a job are less than half a byte, and less than half a byte per second.
fn rounding(needs: Needs) -> u64 {
    (WHOLE / 2 - 1) / needs.capacity_bytes.max(needs.bytes_per_second).max(1)
}

/// Servers of one price: of a node type of the table, or of a tier that the table does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Node(usize),
    Unpriced(Tier),
}

impl Class {
    /// A server that does not say what it runs on is of the type that stands for its tier.
    pub(crate) fn of(space: &StorageSpace, catalogue: &Catalogue) -> Self {
        let typical = || {
            catalogue
                .nodes
                .iter()
                .position(|node| node.tier == space.tier)
        };
        match space
            .node
            .filter(|node| *node < catalogue.nodes.len())
            .or_else(typical)
        {
            Some(node) => Class::Node(node),
            None => Class::Unpriced(space.tier),
        }
    }
}

/// Classes of servers, best first; what has no price is last of its rank.
fn order(needs: Needs, demand: &Demand, catalogue: &Catalogue) -> Vec<Class> {
    let rank = |tier: Tier| match demand.latency_sensitive {
        true => demand.tiers.iter().position(|other| *other == tier),
        // DRAM is last for whoever does not care, however cheap (paper, table 3).
        false => Some(usize::from(tier == Tier::Dram)),
    };
    let nodes = catalogue.nodes.iter().enumerate().map(|(index, node)| {
        let cost = catalogue.share_cost(node, needs);
        (rank(node.tier), cost, Class::Node(index))
    });
    let unpriced = Tier::FASTEST_FIRST
        .into_iter()
        .filter(|tier| catalogue.typical(*tier).is_none())
        .map(|tier| (rank(tier), u128::MAX, Class::Unpriced(tier)));
    let mut order: Vec<_> = nodes.chain(unpriced).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, class)| class).collect()
}

#[cfg(test)]
mod tests;
