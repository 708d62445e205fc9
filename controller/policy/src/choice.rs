//! The cheapest mix of node types for a job, solved exactly.
//!
//! **Shares of servers** ([`cheapest_mix`]). A job's data are spread by weights, so a server with
//! the fraction w of the data carries w of the job's capacity *and* w of its throughput: it must
//! have w C bytes and w T bytes per second free. On node type i the job is billed for both
//! ([`Catalogue::share_price`]), which is linear in w: it costs w u_i with a constant u_i. What
//! remains is to minimise the sum of w_i u_i where the w_i sum to 1 and none exceeds what there is
//! of its type: a fractional knapsack, which filling the cheapest first solves exactly (moving
//! any data from a cheaper to a dearer type costs more).
//!
//! **Whole servers** ([`whole_servers`]). If nobody shares the servers, each is paid in full, and the
//! fractions become counts: a covering knapsack in a handful of types. It is solved by branch and
//! bound: types by cost per data covered, each tried from "all that is left" downward, and
//! abandoned as soon as the cost so far plus the rest at the next type's rate (a bound that no
//! completion can beat) is no better than the best found. Every branch is cut only by that bound,
//! so the answer is exact; where types are so alike that the search would take long ([`STEPS_MAX`])
//! it ends with the best found so far, and says that this is not proven.

use crate::packing::{Needs, WHOLE};
use crate::{Catalogue, NodeType, Price};

/// Counts tried in a search; a handful of types takes some hundred, and this many some ten milliseconds.
const STEPS_MAX: u32 = 500_000;

/// A node type that can be had, and how much of the job it could take at most.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The type.
    pub node: &'a NodeType,
    /// Parts of the job, at most [`WHOLE`].
    pub parts_max: u64,
}

/// What an offer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Index of the offer.
    pub offer: usize,
    /// Parts of the job, of [`WHOLE`].
    pub parts: u64,
}

/// Fractions of the job per offer that cost the least, dearest last; they sum to [`WHOLE`], or to
/// all that is offered. Of equal offers the earlier is taken first.
pub fn cheapest_mix(needs: Needs, offers: &[Offer<'_>], catalogue: &Catalogue) -> Vec<Fill> {
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by_key(|&at| catalogue.share_cost(offers[at].node, needs));
    fill_in_order(&order, offers)
}

/// Fills offers in a given order.
pub(crate) fn fill_in_order(order: &[usize], offers: &[Offer<'_>]) -> Vec<Fill> {
    let mut left = WHOLE;
    let fills = order.iter().map(|&offer| {
        let parts = offers[offer].parts_max.min(left);
        left -= parts;
        Fill { offer, parts }
    });
    fills.filter(|fill| fill.parts > 0).collect()
}

/// Whole servers for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeServers {
    /// How many, one per entry of the nodes there were.
    pub counts: Vec<u32>,
    /// Whether no other counts are cheaper; else these are the cheapest that were found in time.
    pub proven: bool,
}

/// The cheapest counts of whole nodes, one per entry of `nodes` with the most there may be of
/// each, that meet `needs`. `None` if all of them do not.
pub fn whole_servers(needs: Needs, nodes: &[(&NodeType, u32)]) -> Option<WholeServers> {
    let mut kinds: Vec<Kind> = nodes
        .iter()
        .enumerate()
        .map(|(index, (node, available))| Kind {
            index,
            covers: covered_by_one(needs, node),
            price: node.price.0.into(),
            available: (*available).into(),
        })
        .filter(|kind| kind.covers > 0)
        .collect();
    kinds.sort_by(|a, b| (a.price * b.covers).cmp(&(b.price * a.covers)));
    let all: u128 = kinds.iter().map(|kind| kind.covers * kind.available).sum();
    if all < u128::from(WHOLE) {
        return None;
    }
    let mut search = Search {
        kinds: &kinds,
        counts: vec![0; nodes.len()],
        best: None,
        steps_left: STEPS_MAX,
    };
    // The first descent takes all it can of each kind, and so finds one.
    search.descend(0, u128::from(WHOLE), 0);
    let proven = search.steps_left > 0;
    search
        .best
        .map(|(_, counts)| WholeServers { counts, proven })
}

/// What so many nodes of each type cost.
pub(crate) fn price_of(nodes: &[(&NodeType, u32)], counts: &[u32]) -> Price {
    let each = nodes.iter().zip(counts);
    each.map(|((node, _), count)| node.price.times((*count).into()))
        .sum()
}

/// Parts of the job that one node takes: WHOLE / max(C / C_i, T / T_i), but WHOLE at most. Rounded up,
/// which is less than a byte per petabyte, or fifty nodes that hold the job exactly would be one too few.
fn covered_by_one(needs: Needs, node: &NodeType) -> u128 {
    let parts = |has: u64, need: u64| match need {
        0 => u128::from(WHOLE),
        need => (u128::from(has) * u128::from(WHOLE))
            .div_ceil(need.into())
            .min(WHOLE.into()),
    };
    let capacity = parts(node.capacity_bytes, needs.capacity_bytes);
    capacity.min(parts(node.bytes_per_second, needs.bytes_per_second))
}

struct Kind {
    index: usize,
    covers: u128,
    price: u128,
    available: u128,
}

struct Search<'a> {
    kinds: &'a [Kind],
    counts: Vec<u32>,
    best: Option<(u128, Vec<u32>)>,
    steps_left: u32,
}

impl Search<'_> {
    fn descend(&mut self, at: usize, missing: u128, spent: u128) {
        if missing == 0 {
            // Whoever came here had seen that it costs less than the best.
            self.best = Some((spent, self.counts.clone()));
            return;
        }
        let kinds = self.kinds;
        let Some(kind) = kinds.get(at) else { return };
        let most = missing.div_ceil(kind.covers).min(kind.available);
        for count in (0..=most).rev() {
            if self.steps_left == 0 {
                return;
            }
            self.steps_left -= 1;
            let cost = spent + count * kind.price;
            let rest = missing.saturating_sub(count * kind.covers);
            // No completion is cheaper than the rest at the next kind's price per part.
            let bound = match (rest, kinds.get(at + 1)) {
                (0, _) => cost,
                (rest, Some(next)) => cost + (rest * next.price).div_ceil(next.covers),
                (_, None) => break,
            };
            if self.best.as_ref().is_some_and(|(best, _)| bound >= *best) {
                match rest {
                    // The last of this kind may be paid for in vain: fewer may cost less.
                    0 => continue,
                    // From here on every one fewer is replaced at a higher price: the bound rises.
                    _ => break,
                }
            }
            self.counts[kind.index] = count as u32;
            self.descend(at + 1, rest, cost);
            self.counts[kind.index] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tier;

    fn node(capacity_bytes: u64, bytes_per_second: u64, price: u64) -> NodeType {
        NodeType {
            name: String::new(),
            tier: Tier::Nvme,
            capacity_bytes,
            bytes_per_second,
            get_us: 1,
            put_us: 1,
            price: Price(price),
        }
    }

    fn nodes() -> impl Strategy<Value = Vec<(NodeType, u32)>> {
        let one = (1..20u64, 1..20u64, 1..30u64, 0..4u32);
        let one = one.prop_map(|(c, t, p, n)| (node(c, t, p), n));
        proptest::collection::vec(one, 1..5)
    }

    /// Whether so many of each hold all of the job, whose data are on each as its smaller part of both
    /// needs: exactly, in parts of the product of the needs.
    fn suffice(needs: Needs, nodes: &[(&NodeType, u32)], counts: &[u32]) -> bool {
        let capacity = u128::from(needs.capacity_bytes);
        let rate = u128::from(needs.bytes_per_second.max(1));
        let covers = |node: &NodeType| {
            let by_capacity = u128::from(node.capacity_bytes) * rate;
            match needs.bytes_per_second {
                0 => by_capacity,
                _ => by_capacity.min(u128::from(node.bytes_per_second) * capacity),
            }
        };
        let each = nodes.iter().zip(counts);
        let all: u128 = each
            .map(|((node, _), n)| covers(node) * u128::from(*n))
            .sum();
        all >= capacity * rate
    }

    /// Every combination of counts.
    fn brute_force(needs: Needs, nodes: &[(&NodeType, u32)]) -> Option<Price> {
        let mut best = None;
        let mut counts = vec![0; nodes.len()];
        loop {
            if suffice(needs, nodes, &counts) {
                let price = price_of(nodes, &counts);
                best = Some(best.map_or(price, |best: Price| best.min(price)));
            }
            let Some(at) = (0..counts.len()).find(|&at| counts[at] < nodes[at].1) else {
                return best;
            };
            counts[at] += 1;
            counts[..at].fill(0);
        }
    }

    proptest! {
        #[test]
        fn no_other_choice_of_whole_servers_is_cheaper(
            nodes in nodes(), capacity_bytes in 1..60u64, bytes_per_second in 0..60u64,
        ) {
            let nodes: Vec<_> = nodes.iter().map(|(node, n)| (node, *n)).collect();
            let needs = Needs { capacity_bytes, bytes_per_second };
            let found = whole_servers(needs, &nodes);
            prop_assert!(found.as_ref().is_none_or(|found| found.proven));
            let counts = found.map(|found| found.counts);
            prop_assert!(counts.as_deref().is_none_or(|counts| suffice(needs, &nodes, counts)));
            prop_assert_eq!(counts.as_deref().map(|c| price_of(&nodes, c)), brute_force(needs, &nodes));
            for (count, (_, available)) in counts.iter().flatten().zip(&nodes) {
                prop_assert!(count <= available);
            }
        }

        #[test]
        fn no_other_mix_of_shares_is_cheaper(
            nodes in nodes(), capacity_bytes in 1..60u64, bytes_per_second in 0..60u64,
            limits in proptest::collection::vec(0..=8u64, 5),
        ) {
            // In eighths of the job, so that every mix can be tried.
            let needs = Needs { capacity_bytes, bytes_per_second };
            // So much that the price of each is exact to the nanodollar.
            let large = Needs {
                capacity_bytes: capacity_bytes * 232_792_560,
                bytes_per_second: bytes_per_second * 232_792_560,
            };
            let table = Catalogue { machine: Price(7), ..Catalogue::default() };
            let eighth = WHOLE / 8;
            let offers: Vec<_> = nodes.iter().zip(&limits).map(|((node, _), limit)| Offer {
                node,
                parts_max: limit * eighth,
            }).collect();
            // What a job is billed, in eighths of the whole on each type.
            let cost = |parts: &[u64]| -> u128 {
                let each = offers.iter().zip(parts);
                each.map(|(o, p)| u128::from(table.share_price(o.node, large).0) * u128::from(*p)).sum()
            };
            let mut chosen = vec![0; offers.len()];
            for fill in cheapest_mix(needs, &offers, &table) {
                prop_assert!(fill.parts <= offers[fill.offer].parts_max);
                chosen[fill.offer] += fill.parts / eighth;
            }
            let offered: u64 = offers.iter().map(|offer| offer.parts_max / eighth).sum();
            let placed: u64 = chosen.iter().sum();
            prop_assert_eq!(placed, offered.min(8));
            let mut parts = vec![0u64; offers.len()];
            'all: loop {
                if parts.iter().sum::<u64>() == placed {
                    prop_assert!(cost(&chosen) <= cost(&parts), "{parts:?} beats {chosen:?}");
                }
                for at in 0..=parts.len() {
                    if at == parts.len() { break 'all; }
                    if parts[at] < offers[at].parts_max / eighth {
                        parts[at] += 1;
                        parts[..at].fill(0);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_job_far_larger_than_a_server_is_solved_at_once() {
        let table = Catalogue::default();
        let nodes: Vec<_> = table.nodes.iter().map(|node| (node, 100_000)).collect();
        let needs = Needs {
            capacity_bytes: 1 << 53,
            bytes_per_second: 1 << 40,
        };
        let found = whole_servers(needs, &nodes).expect("enough of them");
        let total: u32 = found.counts.iter().sum();
        assert!(total > 4_000 && found.proven, "{found:?}");
        let few: Vec<_> = table.nodes.iter().map(|node| (node, 1)).collect();
        assert_eq!(whole_servers(needs, &few), None);
    }

    #[test]
    fn servers_that_hold_a_job_exactly_are_enough_and_those_that_hold_none_are_not_taken() {
        let table = Catalogue::default();
        let (dram, still) = (&table.nodes[0], node(1 << 50, 0, 1));
        for count in 1..200 {
            let needs = Needs {
                capacity_bytes: dram.capacity_bytes * u64::from(count),
                bytes_per_second: 1,
            };
            let found = whole_servers(needs, &[(dram, 1_000), (&still, 1_000)]);
            assert_eq!(found.expect("enough of them").counts, [count, 0]);
            assert_eq!(whole_servers(needs, &[(dram, count - 1)]), None);
        }
    }

    #[test]
    fn types_that_are_nearly_alike_are_given_up_on_in_time() {
        // Each a little larger and a little dearer than the last: no bound tells them apart.
        let nodes: Vec<_> = (0..64)
            .map(|i| node((1 << 40) + i * 7_919, 1 << 30, 1_000_000_000 + i * 7))
            .collect();
        let nodes: Vec<_> = nodes.iter().map(|node| (node, 1_000_000)).collect();
        let needs = Needs {
            capacity_bytes: 1 << 53,
            bytes_per_second: 1,
        };
        let found = whole_servers(needs, &nodes).expect("enough of them");
        assert!(!found.proven, "{found:?}");
        assert!(
            suffice(needs, &nodes, &found.counts),
            "and it does meet the needs"
        );
    }
}
