//! One decision for every kind of cluster, and that it can be relied on.

use pocket_proto::ServerId;
use proptest::prelude::*;

use super::*;
use crate::{Catalogue, Tier};

const GIB: u64 = 1 << 30;
const GB: u64 = 1_000_000_000;

fn wants(capacity_bytes: Wanted, bytes_per_second: Wanted) -> Demand {
    Demand {
        capacity_bytes,
        bytes_per_second,
        latency_sensitive: true,
        tiers: Tier::FASTEST_FIRST,
        reasons: vec!["as told".to_owned()],
    }
}

fn exactly(bytes: u64) -> Demand {
    wants(Wanted::Exactly(bytes), Wanted::UpTo(0))
}

fn space(server: u64, capacity_bytes: u64, reserved_bytes: u64) -> StorageSpace {
    StorageSpace {
        server: ServerId(server),
        tier: Tier::Dram,
        node: None,
        capacity_bytes,
        reserved_bytes,
        used_bytes: 0,
        bytes_per_second: 0,
        reserved_bytes_per_second: 0,
    }
}

/// Servers of a GiB that say nothing of what they move.
fn small(count: u32) -> [Startable; 1] {
    [Startable {
        node: 0,
        capacity_bytes: GIB,
        bytes_per_second: 0,
        count,
    }]
}

fn placed(placement: Placement) -> Allocation {
    match placement {
        Placement::Placed(allocation) => allocation,
        other => panic!("not placed: {other:?}"),
    }
}

fn on<'a>(catalogue: &'a Catalogue, startable: &'a [Startable]) -> Option<Market<'a>> {
    Some(Market {
        catalogue,
        startable,
        startable_in_all: u32::MAX,
    })
}

#[test]
fn a_cluster_that_cannot_grow_places_lets_wait_or_refuses() {
    let servers = [space(1, 4 * GIB, 3 * GIB), space(2, 4 * GIB, 0)];
    let decide = |bytes| place("x", &exactly(bytes), &servers, None);
    assert_eq!(placed(decide(5 * GIB)).shares.len(), 2);
    assert!(matches!(decide(6 * GIB), Placement::Wait(_)));
    assert!(matches!(decide(8 * GIB), Placement::Wait(_)));
    assert!(matches!(decide(9 * GIB), Placement::Never(_)));
    let none = place("x", &exactly(GIB), &[], None);
    assert!(matches!(none, Placement::Wait(_)), "servers may yet come");
}

#[test]
fn nobody_starts_with_crumbs_while_others_may_end() {
    for (wanted, free, starts) in [
        (Wanted::UpTo(98 * GIB), 1 << 20, false),
        (Wanted::UpTo(98 * GIB), 64 << 20, true),
        (Wanted::UpTo(1 << 20), 1 << 20, true),
        (Wanted::Expected(GIB), 256 << 20, false),
        (Wanted::Expected(GIB), 512 << 20, true),
        (Wanted::Expected(1 << 20), 1 << 20, true),
        // An eighth of the cluster is no crumb.
        (Wanted::Expected(99 * GIB), GIB, true),
    ] {
        let servers = [space(1, 8 * GIB, 8 * GIB - free)];
        let decision = place("x", &wants(wanted, Wanted::UpTo(0)), &servers, None);
        match starts {
            true => assert!(placed(decision).capacity_bytes <= free, "{wanted:?}"),
            false => assert!(matches!(decision, Placement::Wait(_)), "{wanted:?}"),
        }
    }
}

#[test]
fn a_cluster_that_can_grow_fills_gaps_and_starts_the_rest() {
    let table = Catalogue::default();
    // The servers do not say what they run on: they are of the type that stands for their tier.
    let servers = [space(1, GIB, GIB / 2), space(2, GIB, GIB)];
    let decide = |bytes, count| {
        let startable = small(count);
        place("x", &exactly(bytes), &servers, on(&table, &startable))
    };
    let gap = placed(decide(GIB / 2, 9));
    assert_eq!((gap.shares[0].server.0, gap.capacity_bytes), (1, GIB / 2));
    assert_eq!(decide(GIB, 9), Placement::Start(vec![1]));
    assert_eq!(decide(3 * GIB, 9), Placement::Start(vec![3]));
    assert!(matches!(decide(3 * GIB, 2), Placement::Wait(_)));
    match decide(5 * GIB, 2) {
        Placement::Never(failure) => assert_eq!(
            failure.message,
            "job 'x' asks for 5GiB but the cluster has 2.5GiB free of 2GiB on 2 storage servers, \
             and 2GiB that can be started: ask for --capacity 2.5GiB or less, or add storage servers"
        ),
        other => panic!("it fits nowhere: {other:?}"),
    }
}

#[test]
fn a_tier_without_a_price_is_used_when_nothing_else_is_left() {
    let mut table = Catalogue::default();
    table.nodes.retain(|node| node.tier == Tier::Dram);
    let disk = StorageSpace {
        tier: Tier::Hdd,
        ..space(2, 8 * GIB, 0)
    };
    let servers = [disk, space(1, GIB, 0)];
    for latency_sensitive in [true, false] {
        let demand = Demand {
            latency_sensitive,
            ..exactly(5 * GIB)
        };
        let given = placed(place("x", &demand, &servers, on(&table, &[])));
        assert_eq!(given.shares.len(), if latency_sensitive { 2 } else { 1 });
        assert_eq!(given.shares.last().map(|share| share.server.0), Some(2));
    }
}

#[test]
fn what_is_in_use_though_not_promised_is_spared_before_anything_is_started() {
    let table = Catalogue::default();
    // The tighter gap, but for the bytes that lie in it.
    let used = StorageSpace {
        used_bytes: GIB,
        ..space(1, GIB, GIB / 2)
    };
    let decide = |bytes| {
        let servers = [used, space(2, GIB / 4 * 3, 0)];
        placed(place("x", &exactly(bytes), &servers, on(&table, &small(9)))).shares
    };
    assert_eq!(decide(GIB / 2)[0].server.0, 2);
    // A job that has just ended leaves room that is not seen yet: nothing is started for that.
    assert_eq!(decide(GIB + GIB / 4).len(), 2);
}

#[test]
fn a_slower_tier_does_not_stand_in_for_what_is_in_use_though_not_promised() {
    let table = Catalogue::default();
    let used = StorageSpace {
        used_bytes: GIB,
        ..space(1, GIB, 0)
    };
    let flash = StorageSpace::empty(ServerId(2), 1, &table);
    let decide = |bytes| place("x", &exactly(bytes), &[used, flash], on(&table, &small(9)));
    assert_eq!(placed(decide(GIB)).shares[0].server.0, 1);
    assert_eq!(decide(2 * GIB), Placement::Start(vec![1]));
}

#[test]
fn nobody_is_placed_on_nothing_where_everything_is_promised() {
    let table = Catalogue::default();
    for wanted in [Wanted::UpTo(GIB), Wanted::Expected(GIB)] {
        let demand = wants(wanted, Wanted::UpTo(GB));
        let full = [StorageSpace {
            bytes_per_second: GB,
            ..space(1, GIB, GIB)
        }];
        let decision = place("x", &demand, &full, on(&table, &[]));
        assert!(matches!(decision, Placement::Wait(_)), "{decision:?}");
    }
}

#[test]
fn a_guess_leaves_half_and_an_expectation_takes_what_there_is() {
    let table = Catalogue::default();
    let decide = |wanted| {
        let startable = small(3);
        let servers = [space(1, GIB, 0)];
        place(
            "x",
            &wants(wanted, Wanted::UpTo(0)),
            &servers,
            on(&table, &startable),
        )
    };
    // Half of four.
    assert_eq!(
        decide(Wanted::UpTo(98_000 * GIB)),
        Placement::Start(vec![1])
    );
    assert_eq!(decide(Wanted::Expected(9 * GIB)), Placement::Start(vec![3]));
    let servers = [1, 2, 3, 4].map(|server| space(server, GIB, 0));
    let demand = wants(Wanted::UpTo(98_000 * GIB), Wanted::UpTo(0));
    let guess = placed(place("x", &demand, &servers, on(&table, &[])));
    assert_eq!(guess.capacity_bytes, 2 * GIB);
    assert_eq!(guess.shares.len(), 2, "and is on few servers");
    assert!(
        guess
            .reasons
            .iter()
            .any(|r| r.contains("what the cluster has"))
    );
    let demand = wants(Wanted::Expected(9 * GIB), Wanted::UpTo(0));
    assert_eq!(
        placed(place("x", &demand, &servers, on(&table, &[]))).capacity_bytes,
        4 * GIB
    );
}

#[test]
fn throughput_is_waited_for_unless_the_cluster_never_has_it() {
    let table = Catalogue::default();
    let server = |reserved| StorageSpace {
        bytes_per_second: GB,
        reserved_bytes_per_second: reserved,
        ..space(1, 8 * GIB, 0)
    };
    let decide = |rate, reserved| {
        let demand = wants(Wanted::Exactly(GIB), Wanted::Exactly(rate));
        place("x", &demand, &[server(reserved)], on(&table, &[]))
    };
    assert_eq!(placed(decide(GB, 0)).bytes_per_second, GB);
    match decide(GB, GB / 2) {
        Placement::Wait(failure) => assert!(
            failure
                .message
                .contains("asks for 1GiB and 8Gb/s but the cluster has 8GiB and 4Gb/s"),
            "{failure:?}"
        ),
        other => panic!("others have it: {other:?}"),
    }
    let less = placed(decide(4 * GB, 0));
    assert_eq!(less.bytes_per_second, GB);
    assert!(less.notice.contains("asks for 32Gb/s"), "{}", less.notice);
    assert!(matches!(decide(4 * GB, GB / 2), Placement::Wait(_)));
}

#[test]
fn headroom_is_that_of_the_servers_which_are_really_started() {
    let table = Catalogue::default();
    let demand = wants(Wanted::Expected(10 * GB), Wanted::Expected(GB));
    let given = |capacity_bytes, bytes_per_second| {
        let kinds = [Startable {
            node: 0,
            capacity_bytes,
            bytes_per_second,
            count: 0,
        }];
        let has = StorageSpace {
            bytes_per_second: 2 * GB,
            ..space(1, 60 * GB, 0)
        };
        placed(place("x", &demand, &[has], on(&table, &kinds))).capacity_bytes
    };
    assert_eq!(given(60 * GB, GB), 15 * GB);
    assert_eq!(given(24 * GB, GB), 12 * GB, "half of what they hold");
    assert_eq!(given(60 * GB, 0), 10 * GB, "nobody knows how many it takes");
}

#[test]
fn where_nothing_is_yet_a_job_waits_and_where_too_little_can_be_started_it_never_fits() {
    let table = Catalogue::default();
    let decide =
        |startable: &[Startable]| place("x", &exactly(3 * GIB), &[], on(&table, startable));
    assert!(
        matches!(decide(&[]), Placement::Wait(_)),
        "servers may yet come"
    );
    assert!(matches!(decide(&small(2)), Placement::Never(_)));
    assert_eq!(decide(&small(3)), Placement::Start(vec![3]));
}

#[test]
fn of_throughput_that_the_cluster_never_has_half_and_half_of_that_is_tried_down_to_a_tasks() {
    let table = Catalogue::default();
    let task = table.defaults.task_bytes_per_second;
    let given = |asked, has| {
        let demand = wants(Wanted::Exactly(GIB), Wanted::Exactly(asked));
        let server = StorageSpace {
            bytes_per_second: has,
            ..space(1, 8 * GIB, 0)
        };
        let given = placed(place("x", &demand, &[server], on(&table, &[])));
        assert!(!given.notice.is_empty(), "{asked} of {has}");
        given.bytes_per_second
    };
    assert_eq!(given(2 * task, 2 * task - 1), task);
    assert_eq!(given(5 * task, 2 * task), task + task / 4);
    assert_eq!(
        given(2 * task - 2, 2 * task - 3),
        0,
        "less than a task's is not promised"
    );
}

#[test]
fn a_guessed_capacity_takes_of_each_tier_the_servers_that_its_throughput_takes() {
    let table = Catalogue::default();
    let kinds: Vec<_> = (0..4)
        .map(|node| Startable::of_table(node, 5_000, &table))
        .collect();
    let demand = crate::demand(&Default::default(), &table, None);
    let decide = |servers: &[StorageSpace]| place("x", &demand, servers, on(&table, &kinds));
    // Fifty nodes (paper, table 3), and what else the data take on the next tier.
    assert_eq!(decide(&[]), Placement::Start(vec![50, 49, 0, 0]));
    let idle: Vec<_> = (1..=20)
        .map(|id| StorageSpace::empty(ServerId(id), 0, &table))
        .collect();
    assert_eq!(decide(&idle), Placement::Start(vec![30, 49, 0, 0]));
}

#[test]
fn what_is_expected_is_halved_until_one_of_the_servers_has_both() {
    let table = Catalogue::default();
    // One has the bytes, the other the throughput.
    let server = |id, reserved_bytes, bytes_per_second| StorageSpace {
        bytes_per_second,
        ..space(id, 8 * GIB, reserved_bytes)
    };
    let servers = [server(1, 0, 100_000_000), server(2, 8 * GIB, GB)];
    let demand = wants(Wanted::Expected(8 * GIB), Wanted::Expected(800_000_000));
    let given = placed(place("x", &demand, &servers, on(&table, &[])));
    assert_eq!(
        (given.capacity_bytes, given.bytes_per_second),
        (2 * GIB, 100_000_000)
    );
}

#[test]
fn only_what_differs_from_the_demand_is_explained() {
    let table = Catalogue::default();
    let reasons = |capacity, bytes_per_second| {
        let server = StorageSpace {
            bytes_per_second: GB,
            ..space(1, 60 * GB, 0)
        };
        let kinds = [Startable::of_table(0, 0, &table)];
        let demand = wants(capacity, Wanted::Expected(bytes_per_second));
        placed(place("x", &demand, &[server], on(&table, &kinds))).reasons
    };
    assert_eq!(reasons(Wanted::Exactly(GB), 0), ["as told"]);
    let more = reasons(Wanted::Expected(10 * GB), GB);
    assert!(
        more[1].contains("hold that much anyway") && more.len() == 2,
        "{more:?}"
    );
    let less = reasons(Wanted::Expected(70 * GB), 0);
    assert!(
        less[1].contains("what the cluster has") && less.len() == 2,
        "{less:?}"
    );
}

#[test]
fn capacity_that_is_lacking_is_told_before_throughput() {
    let table = Catalogue::default();
    let server = StorageSpace {
        bytes_per_second: GB,
        ..space(1, 4 * GIB, GIB)
    };
    let demand = wants(Wanted::Exactly(4 * GIB), Wanted::Exactly(GB));
    match place("x", &demand, &[server], on(&table, &[])) {
        Placement::Wait(failure) => assert!(
            failure.message.contains("ask for --capacity 3GiB or less"),
            "{failure:?}"
        ),
        other => panic!("others have it: {other:?}"),
    }
}

#[test]
fn throughput_is_planned_where_all_servers_tell_theirs_those_to_be_started_included() {
    let table = Catalogue::default();
    let demand = wants(Wanted::Exactly(GIB), Wanted::UpTo(4 * GB));
    let decide = |bytes_per_second, count| {
        let kinds = [Startable {
            node: 0,
            capacity_bytes: 8 * GIB,
            bytes_per_second,
            count,
        }];
        let server = StorageSpace {
            bytes_per_second: GB,
            ..space(1, 8 * GIB, 0)
        };
        place("x", &demand, &[server], on(&table, &kinds))
    };
    let rate = |placement| placed(placement).bytes_per_second;
    assert_eq!(rate(decide(0, 0)), GB / 2, "half of the only server's");
    assert_eq!(rate(decide(GB, 1)), GB, "half of both");
    assert_eq!(
        decide(0, 1),
        Placement::Start(vec![1]),
        "nobody knows how much is half"
    );
}

fn any_wanted(most: u64) -> impl Strategy<Value = Wanted> {
    (0..3u8, 1..most).prop_map(|(kind, amount)| match kind {
        0 => Wanted::Exactly(amount),
        1 => Wanted::Expected(amount),
        _ => Wanted::UpTo(amount),
    })
}

fn any_servers() -> impl Strategy<Value = Vec<StorageSpace>> {
    let one = (0..4usize, 1..100 * GIB, 0..=100u64, 1..4 * GB, 0..=100u64);
    let servers = proptest::collection::vec(one, 0..8);
    servers.prop_map(|servers| {
        let servers = servers.into_iter().zip(1..);
        let space = |((tier, bytes, full, rate, busy), id)| StorageSpace {
            tier: Tier::FASTEST_FIRST[tier],
            bytes_per_second: rate,
            reserved_bytes_per_second: rate / 100 * busy,
            ..space(id, bytes, bytes / 100 * full)
        };
        servers.map(space).collect()
    })
}

proptest! {
    #[test]
    fn every_decision_keeps_its_word(
        mut servers in any_servers(), capacity in any_wanted(200 * GIB), rate in any_wanted(4 * GB),
        latency_sensitive: bool, counts in [0..4u32, 0..4u32, 0..4u32, 0..4u32], in_all in 0..9u32,
        grows: bool,
    ) {
        let table = Catalogue::default();
        let demand = Demand { latency_sensitive, ..wants(capacity, rate) };
        let kinds: Vec<_> = counts.iter().enumerate().map(|(node, count)| Startable {
            capacity_bytes: 10 * GIB,
            bytes_per_second: GB,
            ..Startable::of_table(node, *count, &table)
        }).collect();
        let decide = |servers: &[StorageSpace], startable: &[Startable], startable_in_all| {
            let market = Market { catalogue: &table, startable, startable_in_all };
            place("x", &demand, servers, grows.then_some(market))
        };
        let alone = decide(&emptied(&servers), &kinds, in_all);
        let mut found = decide(&servers, &kinds, in_all);
        if let Placement::Start(starts) = &found {
            prop_assert!(grows && starts.iter().any(|count| *count > 0));
            prop_assert!(starts.iter().sum::<u32>() <= in_all);
            let mut left = kinds.clone();
            for (node, count) in starts.iter().enumerate() {
                prop_assert!(*count <= counts[node]);
                left[node].count -= count;
                for _ in 0..*count {
                    servers.push(StorageSpace {
                        tier: table.nodes[node].tier,
                        node: Some(node),
                        bytes_per_second: GB,
                        ..space(servers.len() as u64 + 1, 10 * GIB, 0)
                    });
                }
            }
            found = decide(&servers, &left, in_all - starts.iter().sum::<u32>());
            prop_assert!(matches!(found, Placement::Placed(_)), "{found:?}");
        }
        match found {
            Placement::Placed(given) => {
                let sum = |of: fn(&Share) -> u64| given.shares.iter().map(of).sum::<u64>();
                prop_assert_eq!(sum(|share| share.bytes), given.capacity_bytes);
                let rates = sum(|share| share.bytes_per_second);
                prop_assert!(rates + rates / 500 + 64 >= given.bytes_per_second);
                if let Wanted::Exactly(bytes) = capacity {
                    prop_assert_eq!(given.capacity_bytes, bytes);
                }
                if let Wanted::Exactly(rate) = rate {
                    prop_assert!(given.bytes_per_second == rate || !given.notice.is_empty());
                }
                for share in &given.shares {
                    let server = servers.iter().find(|s| s.server == share.server);
                    let server = server.expect("one of those there are");
                    prop_assert!(share.bytes <= server.unpromised_bytes());
                    prop_assert!(share.bytes_per_second <= server.unpromised_bytes_per_second());
                }
            }
            Placement::Start(_) => prop_assert!(false, "asked twice"),
            Placement::Wait(_) => prop_assert!(
                !matches!(alone, Placement::Never(_)),
                "it waits for what never comes"
            ),
            Placement::Never(_) => prop_assert!(matches!(alone, Placement::Never(_)), "{alone:?}"),
        }
    }
}
