//! Growing clusters: what is started, in which tier, and that it then suffices.

use pocket_proto::ServerId;
use proptest::prelude::*;

use super::*;
use crate::{Price, Wanted};

const GB: u64 = 1_000_000_000;

fn needs(capacity_bytes: u64, bytes_per_second: u64) -> Needs {
    Needs {
        capacity_bytes,
        bytes_per_second,
    }
}

/// A cluster that grows as it is told.
struct World {
    catalogue: Catalogue,
    servers: Vec<StorageSpace>,
    startable: Vec<u32>,
    startable_in_all: u32,
}

impl World {
    fn new(startable: [u32; 4]) -> Self {
        World {
            catalogue: Catalogue::default(),
            servers: Vec::new(),
            startable: startable.to_vec(),
            startable_in_all: startable.iter().sum(),
        }
    }

    fn ask(&self, needs: Needs, fastest_first: bool) -> Growth {
        let kinds = self.startable.iter().enumerate();
        let kinds: Vec<_> = kinds
            .map(|(node, count)| Startable::of_table(node, *count, &self.catalogue))
            .collect();
        let market = Market {
            catalogue: &self.catalogue,
            startable: &kinds,
            startable_in_all: self.startable_in_all,
        };
        let demand = Demand {
            capacity_bytes: Wanted::Exactly(needs.capacity_bytes),
            bytes_per_second: Wanted::Exactly(needs.bytes_per_second),
            latency_sensitive: fastest_first,
            tiers: Tier::FASTEST_FIRST,
            reasons: Vec::new(),
        };
        grow(needs, &demand, &self.servers, market)
    }

    fn register(&mut self, needs: Needs, fastest_first: bool) -> Option<Vec<Share>> {
        if let Growth::Start(counts) = self.ask(needs, fastest_first) {
            for (node, count) in counts.into_iter().enumerate() {
                self.startable[node] -= count;
                self.startable_in_all -= count;
                for _ in 0..count {
                    let id = ServerId(self.servers.len() as u64 + 1);
                    self.servers
                        .push(StorageSpace::empty(id, node, &self.catalogue));
                }
            }
        }
        match self.ask(needs, fastest_first) {
            Growth::Placed(shares) => {
                for share in &shares {
                    let server = &mut self.servers[share.server.0 as usize - 1];
                    server.reserved_bytes += share.bytes;
                    server.reserved_bytes_per_second += share.bytes_per_second;
                }
                Some(shares)
            }
            Growth::Full { .. } => None,
            Growth::Start(more) => {
                panic!("asked for more after it got what it asked for: {more:?}")
            }
        }
    }

    fn end(&mut self, shares: Vec<Share>) {
        for share in shares {
            let server = &mut self.servers[share.server.0 as usize - 1];
            server.reserved_bytes -= share.bytes;
            server.reserved_bytes_per_second -= share.bytes_per_second;
        }
    }

    /// Whether nothing was put on a slower tier that a faster one would have taken: neither can another
    /// server of that be started, nor has one of its servers a gap worth filling.
    fn is_monotone(&self, shares: &[Share], needs: Needs) -> bool {
        let slowest = self.tiers(shares).into_iter().map(|(tier, _)| tier).max();
        let faster = |tier: Tier| Some(tier) < slowest;
        let nodes = self.catalogue.nodes.iter().zip(&self.startable);
        let startable = nodes.filter(|(node, left)| faster(node.tier) && **left > 0);
        let parts = |bytes: u64, rate: u64| {
            let part =
                |has: u64, need: u64| u128::from(has) * u128::from(WHOLE) / u128::from(need.max(1));
            match needs.bytes_per_second {
                0 => part(bytes, needs.capacity_bytes),
                need => part(bytes, needs.capacity_bytes).min(part(rate, need)),
            }
        };
        let gap = |space: &&StorageSpace| {
            let gap = parts(
                space.unpromised_bytes(),
                space.unpromised_bytes_per_second(),
            );
            let empty = parts(space.capacity_bytes, space.bytes_per_second);
            // A part of two for rounding.
            gap > 2 && gap >= empty.min(WHOLE.into()) / 8
        };
        let servers = self.servers.iter().filter(|space| faster(space.tier));
        startable.count() == 0 && servers.filter(gap).count() == 0
    }

    fn tiers(&self, shares: &[Share]) -> Vec<(Tier, u64)> {
        let tiers = shares.iter().map(|share| {
            let server = &self.servers[share.server.0 as usize - 1];
            (server.tier, share.bytes)
        });
        tiers.collect()
    }
}

#[test]
fn only_the_remainder_starts_servers() {
    let mut world = World::new([9; 4]);
    assert_eq!(
        world.ask(needs(30 * GB, GB / 2), true),
        Growth::Start(vec![1, 0, 0, 0])
    );
    world.register(needs(30 * GB, GB / 2), true).expect("grows");
    assert!(matches!(
        world.ask(needs(30 * GB, GB / 2), true),
        Growth::Placed(_)
    ));
    assert_eq!(
        world.ask(needs(60 * GB, GB), true),
        Growth::Start(vec![1, 0, 0, 0])
    );
    world.register(needs(60 * GB, GB), true).expect("grows");
    assert_eq!(world.servers.len(), 2);
}

#[test]
fn a_byte_more_than_there_is_does_not_fit() {
    let full = |capacity_bytes, bytes_per_second| {
        let mut world = World::new([0; 4]);
        world
            .servers
            .push(StorageSpace::empty(ServerId(1), 0, &world.catalogue));
        let ask = world.ask(needs(capacity_bytes, bytes_per_second), true);
        matches!(ask, Growth::Full { .. })
    };
    assert!(!full(60 * GB, GB) && full(60 * GB + 1, GB) && full(60 * GB, GB + 1));
}

#[test]
fn three_servers_hold_three_times_what_one_does_to_the_byte() {
    let mut world = World::new([0; 4]);
    world.servers = [1, 2, 3]
        .map(|id| StorageSpace {
            // So much that a third of a job, rounded down to parts, is a third of a byte too little.
            capacity_bytes: 1 << 47,
            ..StorageSpace::empty(ServerId(id), 0, &world.catalogue)
        })
        .to_vec();
    let shares = world.register(needs(3 << 47, 0), true).expect("is there");
    assert!(
        shares.len() == 3 && shares.iter().all(|share| share.bytes == 1 << 47),
        "{shares:?}"
    );
}

#[test]
fn a_server_is_of_the_type_it_names_and_else_of_the_one_that_stands_for_its_tier() {
    let table = Catalogue::default();
    let class = |node, tier| {
        let space = StorageSpace {
            node,
            tier,
            ..StorageSpace::empty(ServerId(1), 0, &table)
        };
        Class::of(&space, &table)
    };
    assert_eq!(class(Some(3), Tier::Dram), Class::Node(3));
    assert_eq!(
        class(Some(4), Tier::Nvme),
        Class::Node(1),
        "not in the table"
    );
    assert_eq!(class(None, Tier::Nvme), Class::Node(1));
    let empty = Catalogue {
        nodes: Vec::new(),
        ..table.clone()
    };
    let space = StorageSpace::empty(ServerId(1), 2, &table);
    assert_eq!(Class::of(&space, &empty), Class::Unpriced(Tier::Ssd));
}

#[test]
fn a_job_of_three_servers_takes_three() {
    for servers in [3, 7, 11] {
        let mut world = World::new([99; 4]);
        let job = needs(servers * 60 * GB, servers * GB);
        assert_eq!(
            world.ask(job, true),
            Growth::Start(vec![servers as u32, 0, 0, 0])
        );
        let shares = world.register(job, true).expect("grows");
        assert_eq!(
            (shares.len(), world.servers.len()),
            (servers as usize, servers as usize)
        );
        assert!(
            shares
                .iter()
                .all(|share| share.needs() == needs(60 * GB, GB)),
            "{shares:?}"
        );
    }
}

#[test]
fn latency_matters_first_and_money_otherwise() {
    let mut world = World::new([9; 4]);
    let sensitive = world.register(needs(GB, GB), true).expect("grows");
    assert_eq!(world.tiers(&sensitive), [(Tier::Dram, GB)]);
    let fast = world.register(needs(GB, GB), false).expect("grows");
    assert_eq!(world.tiers(&fast), [(Tier::Nvme, GB)]);
    let large = world
        .register(needs(1_000 * GB, GB / 100), false)
        .expect("grows");
    assert_eq!(world.tiers(&large)[0].0, Tier::Hdd);
}

#[test]
fn spilling_goes_down_tier_by_tier() {
    let mut world = World::new([1, 1, 1, 1]);
    let shares = world.register(needs(2_560 * GB, GB), true).expect("grows");
    let tiers = world.tiers(&shares);
    let order: Vec<_> = tiers.iter().map(|(tier, _)| *tier).collect();
    assert_eq!(order, [Tier::Dram, Tier::Nvme, Tier::Ssd]);
    assert!(tiers[0].1.abs_diff(60 * GB) < 10 && tiers[1].1.abs_diff(1_960 * GB) < 10);
    let sum: u64 = shares.iter().map(|share| share.bytes).sum();
    assert_eq!(sum, 2_560 * GB);
    assert!(matches!(
        world.ask(needs(GB, 9 * GB), true),
        Growth::Full { .. }
    ));
}

#[test]
fn a_job_larger_than_all_dram_there_may_be_spills_instead() {
    let limited = || World {
        startable_in_all: 3,
        ..World::new([9; 4])
    };
    let ask = |bytes| limited().ask(needs(bytes, GB), true);
    assert_eq!(ask(180 * GB), Growth::Start(vec![3, 0, 0, 0]));
    assert_eq!(ask(181 * GB), Growth::Start(vec![2, 1, 0, 0]));
    assert_eq!(ask(2_081 * GB), Growth::Start(vec![1, 2, 0, 0]));
    let too_few = World {
        startable_in_all: 1,
        ..World::new([9, 1, 0, 0])
    };
    let none = too_few.ask(needs(2_000 * GB, GB), true);
    assert!(matches!(none, Growth::Full { .. }), "{none:?}");
    let mut world = limited();
    let shares = world.register(needs(181 * GB, GB), true).expect("spills");
    assert_eq!(world.tiers(&shares)[0].0, Tier::Dram);
    // A running job as well.
    let (given, wanted) = (needs(100 * GB, GB), needs(400 * GB, GB));
    let kinds: Vec<_> = (0..4)
        .map(|node| Startable::of_table(node, 9, &world.catalogue))
        .collect();
    let market = Market {
        catalogue: &world.catalogue,
        startable: &kinds,
        startable_in_all: 2,
    };
    let demand = Demand {
        capacity_bytes: Wanted::Exactly(given.capacity_bytes),
        bytes_per_second: Wanted::Exactly(given.bytes_per_second),
        latency_sensitive: true,
        tiers: Tier::FASTEST_FIRST,
        reasons: Vec::new(),
    };
    let grown = extend(given, wanted, &demand, &[], market);
    assert!(
        matches!(&grown, Some((_, Growth::Start(counts))) if counts[1] > 0),
        "{grown:?}"
    );
}

#[test]
fn a_running_job_gets_what_it_may_have_in_its_shape_or_at_least_what_it_lacks() {
    let catalogue = Catalogue::default();
    let more_of = |capacity_bytes, free_bytes, free_rate, lacks_bytes| {
        let demand = Demand {
            capacity_bytes,
            bytes_per_second: Wanted::Expected(GB),
            latency_sensitive: true,
            tiers: Tier::FASTEST_FIRST,
            reasons: Vec::new(),
        };
        let space = StorageSpace {
            capacity_bytes: free_bytes,
            bytes_per_second: free_rate,
            ..StorageSpace::empty(ServerId(1), 0, &catalogue)
        };
        let market = Market {
            catalogue: &catalogue,
            startable: &[],
            startable_in_all: 0,
        };
        let given = needs(9 * GB, GB);
        let wanted = needs(9 * GB + lacks_bytes, GB + GB / 2);
        match extend(given, wanted, &demand, &[space], market) {
            Some((more, Growth::Placed(shares))) => (more, crate::total(&shares)),
            other => panic!("no room: {other:?}"),
        }
    };
    let more = |capacity_bytes, free_bytes| more_of(capacity_bytes, free_bytes, GB, 0);
    let in_shape = needs(9 * GB / 2, GB / 2);
    assert_eq!(
        more(Wanted::Expected(9 * GB), 60 * GB),
        (in_shape, in_shape)
    );
    // It may come to hold ten times what was hinted.
    let hinted = needs(GB, GB / 2);
    assert_eq!(more(Wanted::Exactly(GB), 60 * GB), (hinted, hinted));
    let lacks = needs(1, GB / 2);
    assert_eq!(more(Wanted::Expected(9 * GB), GB), (lacks, lacks));
    // Its writes must not fail for want of throughput.
    let bytes = needs(GB, 0);
    let found = more_of(Wanted::Expected(9 * GB), 60 * GB, GB / 10, GB);
    assert_eq!(found, (bytes, bytes));
}

#[derive(Clone, Debug)]
enum Step {
    Register(u64, u64, bool),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let register = (1..4_000 * GB, 0..8 * GB, any::<bool>());
    prop_oneof![
        3 => register.prop_map(|(bytes, rate, fast)| Step::Register(bytes, rate, fast)),
        1 => any::<usize>().prop_map(Step::End),
    ]
}

proptest! {
    #[test]
    fn any_sequence_stays_within_servers_and_leaves_what_was_there(
        steps in proptest::collection::vec(step(), 0..40), limits in [0..9u32, 0..9u32, 0..9u32, 0..9u32],
    ) {
        let mut world = World::new(limits);
        let mut jobs = Vec::new();
        for step in steps {
            match step {
                Step::Register(bytes, rate, fast) => {
                    let fitted = world.register(needs(bytes, rate), fast);
                    let Some(shares) = fitted else { continue };
                    let sum = |of: fn(&Share) -> u64| shares.iter().map(of).sum::<u64>();
                    prop_assert_eq!(sum(|share| share.bytes), bytes);
                    // A share of throughput without a byte is dropped; it was rounding.
                    prop_assert!(rate - sum(|share| share.bytes_per_second) <= rate / 1_000 + 64);
                    if fast {
                        prop_assert!(world.is_monotone(&shares, needs(bytes, rate)), "{shares:?}");
                    }
                    jobs.push(shares);
                }
                Step::End(_) if jobs.is_empty() => {}
                Step::End(at) => {
                    world.end(jobs.swap_remove(at % jobs.len()));
                }
            }
            for server in &world.servers {
                let promised = |of: fn(&Share) -> u64| -> u64 {
                    let here = jobs.iter().flatten().filter(|s| s.server == server.server);
                    here.map(of).sum()
                };
                let reserved = (server.reserved_bytes, server.reserved_bytes_per_second);
                prop_assert_eq!(reserved, (promised(|s| s.bytes), promised(|s| s.bytes_per_second)));
                prop_assert!(reserved.0 <= server.capacity_bytes);
                prop_assert!(reserved.1 <= server.bytes_per_second);
            }
        }
        jobs.into_iter().for_each(|shares| world.end(shares));
        prop_assert!(world.servers.iter().all(StorageSpace::is_free));
    }

    #[test]
    fn no_limit_in_all_keeps_a_job_out_that_fits(
        bytes in 1..9_000 * GB, rate in 0..8 * GB, fast in any::<bool>(),
        limits in [0..4u32, 0..4u32, 0..4u32, 0..4u32], in_all in 0..8u32,
    ) {
        let needs = needs(bytes, rate);
        let mut world = World { startable_in_all: in_all, ..World::new(limits) };
        // Those that hold the most.
        let kinds = limits.iter().enumerate().flat_map(|(node, count)| {
            let kind = Startable::of_table(node, 1, &world.catalogue);
            vec![kind.parts(needs); *count as usize]
        });
        let mut most: Vec<_> = kinds.collect();
        most.sort_unstable_by_key(|parts| std::cmp::Reverse(*parts));
        let most: u128 = most.into_iter().take(in_all as usize).sum();
        let found = world.register(needs, fast);
        prop_assert_eq!(found.is_some(), most >= u128::from(WHOLE - rounding(needs)));
    }

    #[test]
    fn no_other_servers_would_have_been_cheaper(
        bytes in 1..2_000 * GB, rate in 0..4 * GB, counts in [0..3u32, 0..3u32, 0..3u32],
        prices in [200..2_000u64, 200..2_000u64, 200..2_000u64],
    ) {
        let needs = needs(bytes, rate);
        let [nvme, ssd, hdd] = counts;
        let mut world = World::new([0, nvme, ssd, hdd]);
        for (node, price) in world.catalogue.nodes[1..].iter_mut().zip(prices) {
            node.price = Price(price * 1_000_000);
        }
        let kinds = world.catalogue.nodes[1..].to_vec();
        // What of the job, in eighths, servers of each type hold, rounded down; and what they cost.
        let most: Vec<u128> = kinds.iter().zip(counts).map(|(node, count)| {
            u128::from(count) * 8 * u128::from(WHOLE) / node.nodes_parts(needs).max(1)
        }).collect();
        let cost = |eighths: [u128; 3]| -> u128 {
            let each = kinds.iter().zip(eighths);
            each.map(|(node, parts)| world.catalogue.share_cost(node, needs) * parts).sum()
        };
        let mut others = Vec::new();
        for (a, b) in (0..=8u128).flat_map(|a| (0..=8 - a).map(move |b| (a, b))) {
            let eighths = [a, b, 8 - a - b];
            if eighths.iter().zip(&most).all(|(parts, most)| parts <= most) {
                others.push(cost(eighths));
            }
        }
        let catalogue = world.catalogue.clone();
        let cheapest = others.iter().min();
        match (world.register(needs, false), cheapest) {
            (Some(shares), Some(cheapest)) => {
                let billed = shares.iter().map(|share| {
                    let node = world.servers[share.server.0 as usize - 1].node.expect("of the table");
                    catalogue.share_cost(&catalogue.nodes[node], share.needs())
                });
                // A byte and a byte per second of each share are rounded.
                let rounding = shares.len() as u128 * catalogue.nodes.iter().map(|node| {
                    catalogue.share_cost(node, self::needs(1, 1)) + 2
                }).max().unwrap_or(0);
                prop_assert!(billed.sum::<u128>() * 8 <= cheapest + 8 * rounding, "{shares:?}");
            }
            (None, Some(_)) => prop_assert!(false, "there is room"),
            (_, None) => {}
        }
    }

    #[test]
    fn more_servers_never_push_a_job_down(
        bytes in 1..4_000 * GB, rate in 0..8 * GB, limits in [0..4u32, 0..4u32, 0..4u32, 0..4u32], at in 0..4usize,
    ) {
        let mut more = limits;
        more[at] += 1;
        let slow = |limits| {
            let mut world = World::new(limits);
            let shares = world.register(needs(bytes, rate), true)?;
            let tiers = world.tiers(&shares).into_iter();
            // Bytes at or below each tier.
            let below = |tier| tiers.clone().filter(|(t, _)| *t >= tier).map(|(_, b)| b).sum::<u64>();
            Some(Tier::FASTEST_FIRST.map(below))
        };
        match (slow(limits), slow(more)) {
            (Some(before), Some(after)) => {
                for (before, after) in before.into_iter().zip(after) {
                    prop_assert!(after <= before + 64, "{before} {after}");
                }
            }
            (before, after) => prop_assert!(before.is_none() || after.is_some()),
        }
    }
}
