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
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn planned_by(hints: &Hints) -> Plan {
        plan(hints, &Catalogue::default(), None)
    }

    fn tiers(plan: &Plan) -> Vec<(Tier, u64)> {
        let tiers = plan.tiers.iter();
        let rounded = |bytes: u64| (bytes + GB / 2) / GB;
        tiers
            .map(|tier| (tier.tier, rounded(tier.needs.capacity_bytes)))
            .collect()
    }

    #[test]
    fn without_hints_it_is_fifty_nodes_dram_first_then_flash() {
        let plan = planned_by(&Hints::default());
        assert_eq!(plan.needs.bytes_per_second, 50 * GB);
        assert_eq!(plan.needs.capacity_bytes, 98_000 * GB);
        assert_eq!(tiers(&plan), [(Tier::Dram, 3_000), (Tier::Nvme, 95_000)]);
        assert_eq!(plan.tiers[0].servers_permille, 50_000);
    }

    #[test]
    fn every_hint_added_makes_it_cheaper_for_a_typical_job() {
        let tasks = Hints {
            max_tasks: Some(250),
            ..Hints::default()
        };
        let insensitive = Hints {
            latency_sensitive: Some(false),
            ..tasks
        };
        let exact = Hints {
            capacity_bytes: Some(100 * GB),
            bandwidth_bytes_per_second: Some(10 * GB),
            ..insensitive
        };
        let prices =
            [Hints::default(), tasks, insensitive, exact].map(|hints| planned_by(&hints).price);
        assert!(prices.is_sorted_by(|a, b| a > b), "{prices:?}");
    }

    #[test]
    fn an_insensitive_job_gets_no_dram_and_a_sensitive_one_only_what_it_said() {
        let hints = |latency_sensitive| Hints {
            latency_sensitive: Some(latency_sensitive),
            capacity_bytes: Some(120 * GB),
            bandwidth_bytes_per_second: Some(GB),
            ..Hints::default()
        };
        let fast = planned_by(&hints(true));
        assert_eq!(tiers(&fast), [(Tier::Dram, 120)]);
        assert_eq!(fast.alone, [("dram".to_owned(), 2)]);
        assert_eq!(fast.price_alone, Some(Price(1_064_000_000)));
        let cheap = planned_by(&hints(false));
        assert_eq!(tiers(&cheap), [(Tier::Nvme, 120)]);
        assert_eq!(cheap.alone, [("nvme".to_owned(), 1)]);
        assert!(cheap.price < fast.price && Some(fast.price) < fast.price_alone);
        assert!(
            cheap
                .reasons
                .iter()
                .any(|reason| reason.contains("on nvme"))
        );
    }

    #[test]
    fn a_table_of_dram_alone_serves_everybody() {
        let mut table = Catalogue::default();
        table.nodes.truncate(1);
        for latency_sensitive in [None, Some(true), Some(false)] {
            let hints = Hints {
                latency_sensitive,
                ..Hints::default()
            };
            let plan = plan(&hints, &table, None);
            assert_eq!(tiers(&plan), [(Tier::Dram, 98_000)]);
        }
    }
    /// The built-in table with only these types.
    fn table_of(names: &[&str]) -> Catalogue {
        let mut table = Catalogue::default();
        table
            .nodes
            .retain(|node| names.contains(&node.name.as_str()));
        table
    }

    #[test]
    fn the_cheapest_plan_is_the_one_that_is_billed_least() {
        // Servers full of one resource say HDD; what a job is billed for both says NVMe.
        let hints = Hints {
            capacity_bytes: Some(2_000 * GB),
            bandwidth_bytes_per_second: Some(GB / 5),
            latency_sensitive: Some(false),
            ..Hints::default()
        };
        let table = Catalogue::default();
        let chosen = plan(&hints, &table, None);
        assert_eq!(tiers(&chosen), [(Tier::Nvme, 2_000)]);
        for node in &table.nodes {
            let other = table.share_price(node, chosen.needs);
            assert!(
                node.tier == Tier::Dram || chosen.price <= other,
                "{}",
                node.name
            );
        }
    }

    #[test]
    fn a_plan_meets_all_needs_or_says_what_is_missing() {
        let hints = Hints {
            max_tasks: Some(100),
            latency_sensitive: Some(false),
            ..Hints::default()
        };
        for names in [
            &["dram", "nvme"][..],
            &["dram", "ssd"],
            &["dram", "hdd"],
            &["nvme"],
        ] {
            let mut table = table_of(names);
            table.nodes.last_mut().expect("some").capacity_bytes = 480 * GB;
            let plan = plan(&hints, &table, None);
            let sum =
                |of: fn(&Needs) -> u64| -> u64 { plan.tiers.iter().map(|t| of(&t.needs)).sum() };
            assert_eq!(
                sum(|needs| needs.capacity_bytes),
                plan.needs.capacity_bytes,
                "{names:?}"
            );
            assert_eq!(plan.missing, Needs::default());
            assert!(
                plan.tiers.iter().all(|tier| tier.tier != Tier::Dram),
                "{names:?}"
            );
        }
        let mut tiny = table_of(&["nvme"]);
        tiny.nodes[0].capacity_bytes = 64 << 20;
        let hints = Hints {
            capacity_bytes: Some(1 << 53),
            ..Hints::default()
        };
        let plan = plan(&hints, &tiny, None);
        let planned = plan.tiers[0].needs.capacity_bytes;
        assert_eq!(planned, 1_000_000 * (64 << 20));
        assert_eq!(plan.missing.capacity_bytes, (1 << 53) - planned);
        assert_eq!((plan.price_alone, plan.alone.len()), (None, 0));
        assert!(
            plan.reasons.iter().any(|r| r.contains("fit nowhere")),
            "{:?}",
            plan.reasons
        );
    }
}
