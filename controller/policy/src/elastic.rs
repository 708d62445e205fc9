//! Where the cluster can grow: on which servers a job goes, and which have to be started for it.
//!
//! Gaps of running servers are filled before one is started, tier by tier: fastest first for a job
//! to which latency matters (or that does not say), else in the order of what the job would cost
//! on each node type, which is the cheapest mix (see [`crate::cheapest_mix`]). A tier is left for the
//! next one only when it can neither take the job nor grow.

use pocket_proto::ServerId;

use crate::{
    Catalogue, Needs, NodeType, Room, Share, Tier, WHOLE,
    packing::{Packed, Packing, pack, to_shares},
};

/// A storage server of an elastic cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolServer {
    /// Index of its node type in the price table.
    pub node: usize,
    /// What it has free. Servers that are only starting count as empty ones: whoever is placed there
    /// waits for them.
    pub room: Room,
}

/// What may be had.
#[derive(Clone, Copy, Debug)]
pub struct Market<'a> {
    /// Node types and prices.
    pub catalogue: &'a Catalogue,
    /// Servers there may still be started per node type, in the table's order.
    pub startable: &'a [u32],
    /// Servers there may still be started in all.
    pub startable_in_all: u32,
}

/// What to do for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Growth {
    /// There is room: this is what it gets.
    Placed(Vec<Share>),
    /// Start so many servers per node type of the table, and ask again: it will fit.
    Start(Vec<u32>),
    /// The cluster can neither hold it nor grow enough; so many parts of it have no room.
    Full {
        /// Parts of [`WHOLE`].
        parts_left: u64,
    },
}

/// Finds room for `needs` on tiers in this order, on the servers there are and those that can be
/// started. `fastest_first`: latency matters, so tiers count before prices.
pub fn grow(
    needs: Needs,
    tiers: &[Tier],
    fastest_first: bool,
    servers: &[PoolServer],
    market: Market<'_>,
) -> Growth {
    let mut packed = Packed {
        parts: Vec::new(),
        left: WHOLE,
    };
    let mut start = vec![0; market.catalogue.nodes.len()];
    let mut startable = market.startable_in_all;
    for index in order(needs, tiers, fastest_first, market.catalogue) {
        if packed.left == 0 {
            break;
        }
        let of_type = servers.iter().filter(|server| server.node == index);
        let rooms: Vec<Room> = of_type.map(|server| server.room).collect();
        let gaps = pack(needs, packed.left, &rooms, Packing::Fill);
        packed.parts.extend(gaps.parts);
        packed.left = gaps.left;
        let node = &market.catalogue.nodes[index];
        let limit = market
            .startable
            .get(index)
            .map_or(0, |most| (*most).min(startable));
        let count = servers_for(needs, packed.left, node).min(limit.into()) as u32;
        start[index] = count;
        startable -= count;
        let taken = u128::from(count) * parts_per_server(needs, node);
        packed.left -= taken.min(packed.left.into()) as u64;
    }
    match (packed.left, start.iter().any(|count| *count > 0)) {
        (0, true) => Growth::Start(start),
        (0, false) => Growth::Placed(to_shares(needs, &packed)),
        (parts_left, _) => Growth::Full { parts_left },
    }
}

/// Node types, best first.
fn order(needs: Needs, tiers: &[Tier], fastest_first: bool, catalogue: &Catalogue) -> Vec<usize> {
    let nodes = catalogue.nodes.iter().enumerate();
    let mut order: Vec<_> = nodes
        .filter_map(|(index, node)| {
            let tier = tiers.iter().position(|tier| *tier == node.tier)?;
            // DRAM is last for whoever does not care, however cheap (paper, table 3).
            let rank = match fastest_first {
                true => tier,
                false => usize::from(node.tier == Tier::Dram),
            };
            Some((rank, node.unit_cost(needs), index))
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, index)| index).collect()
}

/// Parts of the job that an empty server takes.
fn parts_per_server(needs: Needs, node: &NodeType) -> u128 {
    let parts = |has: u64, need: u64| match need {
        0 => u128::from(WHOLE),
        need => u128::from(has) * u128::from(WHOLE) / u128::from(need),
    };
    let capacity = parts(node.capacity_bytes, needs.capacity_bytes);
    capacity
        .min(parts(node.bytes_per_second, needs.bytes_per_second))
        .clamp(1, WHOLE.into())
}

/// Empty servers that so many parts of the job take.
fn servers_for(needs: Needs, parts: u64, node: &NodeType) -> u128 {
    u128::from(parts).div_ceil(parts_per_server(needs, node))
}

/// An empty server of a type.
impl PoolServer {
    /// A server of the type at `node` in the table, with nothing on it.
    pub fn empty(server: ServerId, node: usize, catalogue: &Catalogue) -> Self {
        let kind = &catalogue.nodes[node];
        PoolServer {
            node,
            room: Room {
                server,
                free_bytes: kind.capacity_bytes,
                free_bytes_per_second: kind.bytes_per_second,
                capacity_bytes: kind.capacity_bytes,
                bytes_per_second: kind.bytes_per_second,
                used_bytes: 0,
            },
        }
    }

    /// Takes or gives back a share.
    pub fn promise(&mut self, share: &Share) {
        self.room.free_bytes = self.room.free_bytes.saturating_sub(share.bytes);
        let rate = &mut self.room.free_bytes_per_second;
        *rate = rate.saturating_sub(share.bytes_per_second);
    }

    /// Gives back what [`PoolServer::promise`] took.
    pub fn give_back(&mut self, share: &Share) {
        let room = &mut self.room;
        room.free_bytes = (room.free_bytes + share.bytes).min(room.capacity_bytes);
        room.free_bytes_per_second =
            (room.free_bytes_per_second + share.bytes_per_second).min(room.bytes_per_second);
    }

    /// Whether nothing of it is promised.
    pub fn is_free(&self) -> bool {
        self.room.free_bytes == self.room.capacity_bytes
            && self.room.free_bytes_per_second == self.room.bytes_per_second
    }
}

#[cfg(test)]
mod tests;
