//! What a job would get and cost, without a cluster: hints, the price table, and nothing else.

use pocket_proto::{ByteCount, control::Hints};

use crate::{
    Catalogue, Demand, Forecast, Needs, NodeType, Offer, Price, Tier, WHOLE, Wanted,
    choice::{WholeServers, cheapest_mix, fill_in_order, price_of, whole_servers},
    demand,
};

/// Servers of a type in a plan, at most.
const SERVERS_MAX: u32 = 1_000_000;

/// What a job would get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Capacity and throughput in all.
    pub needs: Needs,
    /// What of it no server of the table takes, however many there are; nothing as a rule.
    pub missing: Needs,
    /// By node type, first filled first.
    pub tiers: Vec<PlannedTier>,
    /// What it costs on servers shared with other jobs, by what it takes of them.
    pub price: Price,
    /// Whole servers of its own, per node type of the table that has any, and their price.
    pub alone: Vec<(String, u32)>,
    /// What these cost; `None` if there are not enough of them.
    pub price_alone: Option<Price>,
    /// How the figures came about, a sentence each.
    pub reasons: Vec<String>,
}

/// A job's part on one node type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTier {
    /// The node type's name.
    pub node: String,
    /// Its tier.
    pub tier: Tier,
    /// What the job takes there.
    pub needs: Needs,
    /// Servers that amounts to, in thousandths.
    pub servers_permille: u64,
    /// What that costs.
    pub price: Price,
}

/// What a job with these hints (checked before) and earlier runs gets where servers of every type
/// of the table can be had.
pub fn plan(hints: &Hints, catalogue: &Catalogue, past: Option<&Forecast>) -> Plan {
    let demand = demand(hints, catalogue, past);
    let needs = demand.needs();
    let table: Vec<Tier> = catalogue.nodes.iter().map(|node| node.tier).collect();
    let offers = catalogue.nodes.iter().map(|node| {
        let limit = server_limit(&demand, node.tier, node.bytes_per_second, &table);
        Offer {
            node,
            parts_max: parts_of(needs, node, limit),
        }
    });
    let offers: Vec<Offer<'_>> = offers.collect();
    let insensitive = !demand.latency_sensitive;
    let fills = match insensitive {
        // DRAM only where there is nothing else (paper, table 3).
        true if offers.iter().any(|offer| offer.node.tier != Tier::Dram) => {
            let without_dram: Vec<_> = offers
                .iter()
                .map(|offer| Offer {
                    parts_max: if offer.node.tier == Tier::Dram {
                        0
                    } else {
                        offer.parts_max
                    },
                    ..*offer
                })
                .collect();
            cheapest_mix(needs, &without_dram, catalogue)
        }
        true => cheapest_mix(needs, &offers, catalogue),
        false => fill_in_order(&by_tier(&demand, catalogue, needs), &offers),
    };
    let tiers: Vec<PlannedTier> = fills
        .iter()
        .map(|fill| planned(offers[fill.offer].node, needs.parts(fill.parts), catalogue))
        .collect();
    let placed: u64 = fills.iter().map(|fill| fill.parts).sum();
    let missing = needs.parts(WHOLE - placed);
    let mut reasons = demand.reasons;
    reasons.extend(tiers.iter().map(sentence));
    if missing.capacity_bytes > 0 {
        reasons.push(format!(
            "{} and {} of it fit nowhere, on {SERVERS_MAX} servers of every type: ask for less, or \
             list larger node types",
            ByteCount(missing.capacity_bytes),
            crate::rate_text(missing.bytes_per_second)
        ));
    }
    let alone = match missing.capacity_bytes {
        0 => alone(&tiers, catalogue),
        _ => None,
    };
    if let Some(Alone { proven: false, .. }) = alone {
        reasons.push(
            "the whole servers are the cheapest found: the node types are too many and too much \
             alike to try every mix"
                .to_owned(),
        );
    }
    Plan {
        needs,
        missing,
        price: tiers.iter().map(|tier| tier.price).sum(),
        tiers,
        price_alone: alone.as_ref().map(|alone| alone.price),
        alone: alone.map(|alone| alone.servers).unwrap_or_default(),
        reasons,
    }
}

/// Servers of such a tier and throughput that a job may take, where servers of `tiers` can be had. A
/// capacity that a rule derived is an upper bound and not a need: of each tier the job gets as many
/// servers as its throughput takes, and what does not fit on these goes to the next tier (paper, table
/// 3: DRAM first, then flash). Of the last of the tiers that it may use there is always enough.
pub(crate) fn server_limit(
    demand: &Demand,
    tier: Tier,
    bytes_per_second: u64,
    tiers: &[Tier],
) -> u32 {
    let usable = |other: &&Tier| {
        let spared = !demand.latency_sensitive && **other == Tier::Dram;
        tiers.contains(other) && (!spared || tiers.iter().all(|tier| *tier == Tier::Dram))
    };
    let last = demand.tiers.iter().rev().find(usable);
    match demand.capacity_bytes {
        Wanted::UpTo(_) if last != Some(&tier) && bytes_per_second > 0 => {
            let rate = demand.bytes_per_second.amount();
            let servers = rate.div_ceil(bytes_per_second).max(1);
            u32::try_from(servers).map_or(SERVERS_MAX, |servers| servers.min(SERVERS_MAX))
        }
        _ => SERVERS_MAX,
    }
}

/// Node types in the order of the tiers, within one the cheapest first.
fn by_tier(demand: &Demand, catalogue: &Catalogue, needs: Needs) -> Vec<usize> {
    let mut order: Vec<usize> = (0..catalogue.nodes.len()).collect();
    order.sort_by_key(|&at| {
        let node = &catalogue.nodes[at];
        let tier = demand.tiers.iter().position(|tier| *tier == node.tier);
        (tier, catalogue.share_cost(node, needs))
    });
    order
}

/// Parts of the job that so many servers hold.
fn parts_of(needs: Needs, node: &NodeType, servers: u32) -> u64 {
    let parts = u128::from(servers) * u128::from(WHOLE) * u128::from(WHOLE)
        / node.nodes_parts(needs).max(1);
    parts.min(WHOLE.into()) as u64
}

fn planned(node: &NodeType, needs: Needs, catalogue: &Catalogue) -> PlannedTier {
    PlannedTier {
        node: node.name.clone(),
        tier: node.tier,
        needs,
        servers_permille: (node.nodes_parts(needs) * 1_000).div_ceil(WHOLE.into()) as u64,
        price: catalogue.share_price(node, needs),
    }
}

/// Whole servers for a job alone.
struct Alone {
    servers: Vec<(String, u32)>,
    price: Price,
    proven: bool,
}

/// The cheapest whole servers: of each tier that the plan uses, for what the plan puts there. `None` if
/// there are not enough of them.
fn alone(tiers: &[PlannedTier], catalogue: &Catalogue) -> Option<Alone> {
    let mut alone = Alone {
        servers: Vec::new(),
        price: Price(0),
        proven: true,
    };
    for planned in tiers {
        let nodes: Vec<_> = catalogue
            .of_tier(planned.tier)
            .map(|node| (node, SERVERS_MAX))
            .collect();
        let WholeServers { counts, proven } = whole_servers(planned.needs, &nodes)?;
        alone.proven &= proven;
        alone.price += price_of(&nodes, &counts);
        let used = nodes.iter().zip(counts).filter(|(_, count)| *count > 0);
        let used = used.map(|((node, _), count)| (node.name.clone(), count));
        alone.servers.extend(used);
    }
    Some(alone)
}

/// "12.5GiB and 4Gb/s on nvme: 0.5 servers at $0.6240/h each".
fn sentence(tier: &PlannedTier) -> String {
    let rate = crate::rate_text(tier.needs.bytes_per_second);
    let servers = tier.servers_permille as f64 / 1_000.0;
    format!(
        "{} and {rate} on {}: what {servers} servers have, for {}",
        ByteCount(tier.needs.capacity_bytes),
        tier.node,
        tier.price
    )
}

#[cfg(test)]
mod tests;
