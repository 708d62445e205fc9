//! Tables of what jobs get, and any sequence of jobs.

use pocket_proto::control::Hints;
use proptest::prelude::*;

use super::*;
use crate::{Catalogue, Ledger};

const GIB: u64 = 1 << 30;

fn demand(hints: &Hints) -> Demand {
    crate::demand(hints, &Catalogue::default(), None)
}

fn space(server: u64, tier: Tier, capacity_bytes: u64, reserved_bytes: u64) -> StorageSpace {
    StorageSpace {
        server: ServerId(server),
        tier,
        node: None,
        capacity_bytes,
        reserved_bytes,
        used_bytes: 0,
        bytes_per_second: 0,
        reserved_bytes_per_second: 0,
    }
}

fn dram(server: u64, capacity_bytes: u64, reserved_bytes: u64) -> StorageSpace {
    space(server, Tier::Dram, capacity_bytes, reserved_bytes)
}

fn capacity(bytes: u64) -> Demand {
    demand(&Hints {
        capacity_bytes: Some(bytes),
        ..Hints::default()
    })
}

fn shares(allocation: &Allocation) -> Vec<(u64, u64)> {
    let shares = allocation.shares.iter();
    shares.map(|share| (share.server.0, share.bytes)).collect()
}

#[test]
fn hinted_capacity_is_honoured_to_the_byte_by_free_space() {
    let servers = [dram(1, 8 * GIB, 6 * GIB), dram(2, 8 * GIB, 2 * GIB)];
    let given = allocate("x", capacity(4 * GIB + 1), &servers).expect("fits");
    assert_eq!(given.capacity_bytes, 4 * GIB + 1);
    assert_eq!(shares(&given), [(1, GIB), (2, 3 * GIB + 1)]);
    let all = allocate("x", capacity(8 * GIB), &servers).expect("fits exactly");
    assert_eq!(shares(&all), [(1, 2 * GIB), (2, 6 * GIB)]);
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let half = [dram(1, 4 * GIB, 2 * GIB), dram(2, 4 * GIB, 2 * GIB)];
    let odd = [dram(1, 4 * GIB, 1)];
    let full = [dram(1, 4 * GIB, 4 * GIB), dram(2, 4 * GIB, 5 * GIB)];
    for (demand, servers, sentence) in [
        (
            capacity(10 * GIB),
            &half[..],
            "job 'x' asks for 10GiB but the cluster has 4GiB free of 8GiB on 2 storage servers: \
             ask for --capacity 4GiB or less, or add storage servers",
        ),
        (
            capacity(4 * GIB),
            &odd,
            "job 'x' asks for 4GiB but the cluster has 3.999GiB free of 4GiB on 1 storage server: \
             ask for --capacity 3.999GiB or less, or add storage servers",
        ),
        (
            capacity(GIB),
            &full,
            "job 'x' asks for 1GiB but all 8GiB on 2 storage servers are given to other jobs: \
             end one (pocket jobs lists them), or add storage servers",
        ),
        (
            demand(&Hints::default()),
            &full,
            "job 'x' finds no room but all 8GiB on 2 storage servers are given to other jobs: \
             end one (pocket jobs lists them), or add storage servers",
        ),
        (
            capacity(GIB),
            &[],
            "job 'x' asks for 1GiB but no storage server is alive: start one (pocket storage)",
        ),
    ] {
        let failure = allocate("x", demand, servers).expect_err(sentence);
        assert_eq!(failure, Failure::new(Status::NoSpace, sentence));
    }
}

#[test]
fn without_a_hint_a_job_leaves_room_for_the_next() {
    let mut servers = [dram(1, 4 * GIB, 0), dram(2, 4 * GIB, 0)];
    let none = Hints::default();
    for expected in [4 * GIB, 2 * GIB, GIB] {
        let given = allocate("x", demand(&none), &servers).expect("there is room");
        assert_eq!(given.capacity_bytes, expected);
        assert!(given.reasons.iter().any(|r| r.contains("leave room")));
        for share in &given.shares {
            servers[share.server.0 as usize - 1].reserved_bytes += share.bytes;
        }
    }
    let small = [dram(1, 10 << 20, 0)];
    let given = allocate("x", demand(&none), &small).expect("there is room");
    assert_eq!(given.capacity_bytes, 10 << 20);
}

#[test]
fn a_derived_capacity_is_not_exceeded_where_there_is_more() {
    let huge = [dram(1, 1 << 60, 0)];
    let given = allocate("x", demand(&Hints::default()), &huge).expect("there is room");
    assert_eq!(given.capacity_bytes, 98_000_000_000_000);
}

#[test]
fn tiers_are_filled_in_the_order_of_the_hint() {
    let servers = [
        space(1, Tier::Hdd, 100, 0),
        space(2, Tier::Dram, 100, 0),
        space(3, Tier::Nvme, 100, 0),
    ];
    for (latency_sensitive, order) in [
        (Some(true), [(2, 100), (3, 50)]),
        (Some(false), [(3, 100), (1, 50)]),
    ] {
        let demand = Demand {
            capacity_bytes: Wanted::Exactly(150),
            ..demand(&Hints {
                latency_sensitive,
                ..Hints::default()
            })
        };
        let given = allocate("x", demand, &servers).expect("fits");
        assert_eq!(shares(&given), order);
    }
}

#[test]
fn servers_in_use_beyond_their_promises_are_spared_if_others_suffice() {
    let filled = StorageSpace {
        used_bytes: 8 * GIB,
        ..dram(1, 8 * GIB, 0)
    };
    let servers = [filled, dram(2, 8 * GIB, 0)];
    let small = allocate("x", capacity(4 * GIB), &servers).expect("fits");
    assert_eq!(shares(&small), [(2, 4 * GIB)]);
    let large = allocate("x", capacity(12 * GIB), &servers).expect("is promised to nobody");
    assert_eq!(shares(&large), [(1, 6 * GIB), (2, 6 * GIB)]);
}

#[test]
fn throughput_is_what_the_servers_give_and_the_user_is_told() {
    let wanted = |rate| {
        demand(&Hints {
            bandwidth_bytes_per_second: Some(rate),
            capacity_bytes: Some(GIB),
            ..Hints::default()
        })
    };
    let server = |id, bytes_per_second| StorageSpace {
        bytes_per_second,
        ..dram(id, GIB, 0)
    };
    let known = [server(1, 1_000_000_000), server(2, 1_000_000_000)];
    let unknown = [server(1, 1_000_000_000), server(2, 0)];
    for (rate, servers, given, told) in [
        (1_500_000_000, &known, 1_500_000_000, false),
        (5_000_000_000, &known, 2_000_000_000, true),
        (5_000_000_000, &unknown, 5_000_000_000, false),
    ] {
        let allocation = allocate("x", wanted(rate), servers).expect("fits");
        assert_eq!(allocation.bytes_per_second, given);
        assert_eq!(
            allocation
                .notice
                .contains("40Gb/s but its 2 storage servers move 16Gb/s"),
            told
        );
    }
}

#[test]
fn throughput_is_promised_once_and_bytes_are_placed_all_the_same() {
    let servers = |reserved| {
        [1, 2].map(|id| StorageSpace {
            bytes_per_second: 1_000,
            reserved_bytes_per_second: reserved,
            ..dram(id, GIB, 0)
        })
    };
    let wanted = |rate| Demand {
        bytes_per_second: rate,
        ..capacity(GIB)
    };
    let exactly = allocate("x", wanted(Wanted::Exactly(1_500)), &servers(0)).expect("fits");
    let rates: Vec<_> = exactly
        .shares
        .iter()
        .map(|share| share.bytes_per_second)
        .collect();
    assert_eq!(rates.iter().sum::<u64>(), 1_500);
    assert!(rates.iter().all(|&rate| rate <= 1_000));
    // Whoever does not say leaves half of it to the next.
    let up_to = allocate("x", wanted(Wanted::UpTo(1_500)), &servers(0)).expect("fits");
    assert_eq!(up_to.bytes_per_second, 1_000);
    // None is left: the bytes find their place nevertheless.
    let none = allocate("x", wanted(Wanted::Exactly(1_500)), &servers(1_000)).expect("fits");
    assert_eq!((none.bytes_per_second, none.shares.len()), (0, 2));
    assert!(
        none.notice.contains("it gets what there is"),
        "{}",
        none.notice
    );
    // Half of the bytes fit beside the throughput, the rest goes where there is none left.
    let full = StorageSpace {
        reserved_bytes_per_second: 1_000,
        ..servers(0)[0]
    };
    let small = StorageSpace {
        capacity_bytes: GIB / 2,
        ..servers(0)[1]
    };
    let part = allocate("x", wanted(Wanted::Exactly(800)), &[full, small]).expect("fits");
    assert_eq!(shares(&part), [(2, GIB / 2), (1, GIB / 2)]);
}

#[test]
fn the_throughput_told_is_what_the_servers_promise() {
    // One server has the room, the other the throughput: neither helps.
    let full_of_bytes = StorageSpace {
        bytes_per_second: 1_000,
        ..dram(1, GIB, GIB)
    };
    let out_of_rate = StorageSpace {
        bytes_per_second: 1_000,
        reserved_bytes_per_second: 1_000,
        ..dram(2, GIB, 0)
    };
    for (wanted, told) in [
        (
            Wanted::Exactly(800),
            "those of its 2 storage servers that have room for its data",
        ),
        (
            Wanted::Expected(800),
            "all that the servers with room for its data",
        ),
        (Wanted::UpTo(800), "to leave some for other jobs"),
    ] {
        let demand = Demand {
            bytes_per_second: wanted,
            ..capacity(GIB / 2)
        };
        let given = allocate("x", demand, &[full_of_bytes, out_of_rate]).expect("fits");
        let promised: u64 = given
            .shares
            .iter()
            .map(|share| share.bytes_per_second)
            .sum();
        assert_eq!((given.bytes_per_second, promised), (0, 0), "{wanted:?}");
        assert!(
            given.reasons.iter().any(|r| r.contains(told)),
            "{:?}",
            given.reasons
        );
        assert_eq!(
            given.notice.is_empty(),
            !matches!(wanted, Wanted::Exactly(_))
        );
    }
}

#[test]
fn rooms_that_are_needed_to_the_last_byte_are_filled_to_the_last_byte() {
    // So large that parts of the job are several bytes.
    let sizes = [3, 5, 11].map(|odd| (1 << 51) + odd);
    let known = |server: u64, capacity_bytes, reserved_bytes_per_second| StorageSpace {
        bytes_per_second: RATE,
        reserved_bytes_per_second,
        ..dram(server, capacity_bytes, 0)
    };
    let mut servers: Vec<_> = (1..)
        .zip(sizes)
        .map(|(id, size)| known(id, size, RATE))
        .collect();
    // The only one with throughput left, and without a byte.
    servers.push(known(4, 0, 0));
    let wanted = Demand {
        bytes_per_second: Wanted::Exactly(RATE),
        ..capacity(sizes.iter().sum())
    };
    let filled = [(1, sizes[0]), (2, sizes[1]), (3, sizes[2])];
    let given = allocate("x", wanted.clone(), &servers).expect("fits exactly");
    assert_eq!(shares(&given), filled);
    // And the next tier gets what is left, to the byte.
    servers.push(StorageSpace {
        tier: Tier::Nvme,
        ..known(5, 1 << 51, RATE)
    });
    let more = Demand {
        capacity_bytes: Wanted::Exactly(wanted.capacity_bytes.amount() + 100),
        ..wanted
    };
    let given = allocate("x", more, &servers).expect("fits");
    assert_eq!(shares(&given), [&filled[..], &[(5, 100)]].concat());
}

#[test]
fn a_thousandth_of_the_throughput_and_a_byte_of_each_share_are_not_missed() {
    let promised = |rate| {
        let share = |bytes_per_second| Share {
            server: ServerId(1),
            bytes: 1,
            bytes_per_second,
        };
        promised_rate(10_000, &[share(rate), share(0)])
    };
    assert_eq!(promised(9_987), 9_987);
    assert_eq!(promised(9_988), 10_000);
    assert_eq!(promised(10_001), 10_000);
}

#[test]
fn a_server_is_free_if_neither_bytes_nor_throughput_of_it_are_promised() {
    let server = dram(1, GIB, 0);
    assert!(server.is_free());
    assert!(!dram(1, GIB, 1).is_free());
    let busy = StorageSpace {
        reserved_bytes_per_second: 1,
        ..server
    };
    assert!(!busy.is_free());
}

#[test]
fn only_a_capacity_that_was_cut_is_explained() {
    let servers = [dram(1, 4 * GIB, 0)];
    let told = |wanted| {
        let demand = Demand {
            capacity_bytes: wanted,
            reasons: Vec::new(),
            ..capacity(GIB)
        };
        let given = allocate("x", demand, &servers).expect("there is room");
        given.reasons.join("; ")
    };
    assert_eq!(told(Wanted::Expected(4 * GIB)), "");
    assert_eq!(
        told(Wanted::Expected(4 * GIB + 1)),
        "capacity 4GiB: all that is free"
    );
    assert_eq!(told(Wanted::UpTo(2 * GIB)), "");
    let cut = told(Wanted::UpTo(2 * GIB + 1));
    assert!(
        cut.starts_with("capacity 2GiB: part of the 4GiB that the cluster has free"),
        "{cut}"
    );
}

#[test]
fn a_running_job_takes_what_room_is_left() {
    let tiers = Tier::FASTEST_FIRST;
    let promised = |capacity_bytes| Needs {
        capacity_bytes,
        bytes_per_second: 0,
    };
    let some = [dram(1, 4 * GIB, GIB), dram(2, GIB, 0)];
    let (shares, weights) = reallocate(promised(10 * GIB), &tiers, &some).expect("servers");
    assert_eq!(shares.iter().map(|share| share.bytes).sum::<u64>(), 4 * GIB);
    assert_eq!(
        weights[0].weight,
        weights[1].weight * 3,
        "by the room that is left, and not by size"
    );

    let full = [dram(1, 4 * GIB, 4 * GIB), dram(2, 12 * GIB, 12 * GIB)];
    let (shares, weights) = reallocate(promised(GIB), &tiers, &full).expect("servers");
    assert_eq!(shares, []);
    assert_eq!(weights[0].weight * 3, weights[1].weight);

    assert_eq!(reallocate(promised(GIB), &tiers, &[]), None);
}

const RATE: u64 = 1_000_000_000;

/// What a random sequence does to a cluster.
#[derive(Clone, Debug)]
enum Step {
    Register(Option<u64>),
    End(usize),
    ReallocateWithout(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::option::of(1..20 * GIB).prop_map(Step::Register),
        2 => any::<usize>().prop_map(Step::End),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(j, s)| Step::ReallocateWithout(j, s)),
    ]
}

fn with_reservations(servers: &[StorageSpace], ledger: &Ledger) -> Vec<StorageSpace> {
    let mut servers = servers.to_vec();
    for space in &mut servers {
        space.reserved_bytes = ledger.reserved_bytes(space.server);
        space.reserved_bytes_per_second = ledger.reserved_bytes_per_second(space.server);
    }
    servers
}

proptest! {
    #[test]
    fn no_byte_is_on_a_slower_tier_while_a_faster_has_room(
        sizes in proptest::collection::vec((0..4usize, 0..8 * GIB, 0..=100u64, any::<bool>()), 1..9),
        bytes in 1..20 * GIB, rate in 0..RATE,
    ) {
        let servers: Vec<_> = sizes.iter().zip(1..).map(|((tier, size, full, told), id)| StorageSpace {
            bytes_per_second: if *told { RATE } else { 0 },
            ..space(id, Tier::FASTEST_FIRST[*tier], *size, size / 100 * full)
        }).collect();
        let demand = Demand {
            bytes_per_second: Wanted::UpTo(rate),
            ..capacity(bytes)
        };
        let Ok(given) = allocate("x", demand, &servers) else { return Ok(()) };
        let of = |server: ServerId| servers.iter().find(|s| s.server == server).expect("there");
        let slowest = given.shares.iter().map(|share| of(share.server).tier).max();
        for space in servers.iter().filter(|space| Some(space.tier) < slowest) {
            let here = given.shares.iter().filter(|share| share.server == space.server);
            let (bytes, rates) = here.fold((0, 0), |(bytes, rates), share| {
                (bytes + share.bytes, rates + share.bytes_per_second)
            });
            // Full, or of throughput at least: a share that moves nothing comes behind all that do.
            let full = bytes == space.unpromised_bytes();
            let busy = space.bytes_per_second > 0 && rates + 1 >= RATE;
            prop_assert!(full || busy, "{space:?} {bytes} {given:?}");
        }
    }

    #[test]
    fn reservations_never_exceed_capacity_and_all_ended_is_as_at_the_start(
        sizes in proptest::collection::vec(prop_oneof![Just(0), 1..8 * GIB], 1..6),
        rates in proptest::collection::vec(prop_oneof![Just(0), 1..RATE], 1..3),
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let servers = sizes.iter().zip(1..).map(|(&size, id)| StorageSpace {
            bytes_per_second: rates[id as usize % rates.len()],
            ..dram(id, size, 0)
        });
        let servers: Vec<_> = servers.collect();
        let mut ledger = Ledger::default();
        let mut jobs: Vec<(u64, Vec<Share>)> = Vec::new();
        for step in steps {
            let now = with_reservations(&servers, &ledger);
            match step {
                Step::Register(hint) => {
                    let hints = Hints { capacity_bytes: hint, ..Hints::default() };
                    let free: u64 = now.iter().map(StorageSpace::unpromised_bytes).sum();
                    match allocate("x", demand(&hints), &now) {
                        Ok(given) => {
                            prop_assert!(hint.is_none_or(|hint| hint == given.capacity_bytes));
                            let sum: u64 = given.shares.iter().map(|share| share.bytes).sum();
                            prop_assert_eq!(sum, given.capacity_bytes);
                            for weight in weights(&given.shares) {
                                let space = now.iter().find(|s| s.server == weight.server);
                                prop_assert!(space.is_some_and(|s| s.unpromised_bytes() > 0));
                            }
                            ledger.take(&given.shares);
                            jobs.push((given.capacity_bytes, given.shares));
                        }
                        Err(_) => match hint {
                            Some(hint) => prop_assert!(hint > free),
                            None => prop_assert!(free == 0 || free < 64 << 20),
                        },
                    }
                }
                Step::End(_) | Step::ReallocateWithout(..) if jobs.is_empty() => {}
                Step::End(job) => {
                    let (_, shares) = jobs.swap_remove(job % jobs.len());
                    ledger.give_back(&shares);
                }
                Step::ReallocateWithout(job, dead) => {
                    let job = job % jobs.len();
                    ledger.give_back(&jobs[job].1);
                    let mut alive = with_reservations(&servers, &ledger);
                    let dead = alive.remove(dead % alive.len()).server;
                    let moved = reallocate(
                        Needs { capacity_bytes: jobs[job].0, bytes_per_second: RATE },
                        &Tier::FASTEST_FIRST,
                        &alive,
                    );
                    if let Some((shares, weights)) = moved {
                        prop_assert!(weights.iter().all(|w| w.server != dead && w.weight > 0));
                        prop_assert!(shares.iter().all(|share| share.server != dead));
                        jobs[job].1 = shares;
                    }
                    ledger.take(&jobs[job].1);
                }
            }
            for space in &servers {
                prop_assert!(ledger.reserved_bytes(space.server) <= space.capacity_bytes);
                let rate = ledger.reserved_bytes_per_second(space.server);
                prop_assert!(space.bytes_per_second == 0 || rate <= space.bytes_per_second);
            }
        }
        for (_, shares) in jobs {
            ledger.give_back(&shares);
        }
        prop_assert_eq!(ledger, Ledger::default());
    }
}

#[test]
fn servers_of_unknown_throughput_promise_what_their_bytes_are_of_it() {
    let hints = Hints {
        capacity_bytes: Some(4 * GIB),
        bandwidth_bytes_per_second: Some(1 << 30),
        ..Hints::default()
    };
    let servers = [dram(1, 8 * GIB, 5 * GIB), dram(2, 8 * GIB, 7 * GIB)];
    let given = allocate("x", demand(&hints), &servers).expect("fits");
    let rates = given.shares.iter().map(|share| share.bytes_per_second);
    assert_eq!(rates.collect::<Vec<_>>(), [3 << 28, 1 << 28]);
}
