//! Where a job that needs more throughput finds it, and what stays as it was.

use proptest::prelude::*;

use super::*;
use crate::Ledger;

const GIB: u64 = 1 << 30;
const MB: u64 = 1_000_000;

fn share(server: u64, bytes: u64, bytes_per_second: u64) -> Share {
    Share {
        server: ServerId(server),
        bytes,
        bytes_per_second,
    }
}

/// A DRAM server of 8 GiB with so much throughput, of which so much is promised.
fn server(server: u64, bytes_per_second: u64, reserved_bytes_per_second: u64) -> StorageSpace {
    StorageSpace {
        server: ServerId(server),
        tier: Tier::Dram,
        node: None,
        capacity_bytes: 8 * GIB,
        reserved_bytes: 0,
        used_bytes: 0,
        bytes_per_second,
        reserved_bytes_per_second,
    }
}

fn widened(shares: &[Share], rate: u64, servers: &[StorageSpace]) -> Option<Widened> {
    widen(shares, rate, &Tier::FASTEST_FIRST, servers)
}

#[test]
fn throughput_is_found_where_the_job_is_if_it_is_there() {
    let shares = [share(1, 3 * GIB, 30 * MB), share(2, GIB, 10 * MB)];
    let servers = [server(1, 100 * MB, 40 * MB), server(2, 100 * MB, 10 * MB)];
    let found = widened(&shares, 120 * MB, &servers).expect("is there");
    assert_eq!(
        found.shares,
        [share(1, 3 * GIB, 90 * MB), share(2, GIB, 30 * MB)]
    );
    assert!(!found.moved);
    // Of a server that says nothing there is enough.
    let silent = [server(1, 0, 30 * MB), server(2, 0, 10 * MB)];
    let found = widened(&shares, 4_000 * MB, &silent).expect("is there");
    assert_eq!(total(&found.shares).bytes_per_second, 4_000 * MB);
    assert!(!found.moved);
}

#[test]
fn other_servers_take_what_the_jobs_own_have_not() {
    let shares = [share(1, 4 * GIB, 40 * MB)];
    let full = server(1, 100 * MB, 100 * MB);
    let servers = [full, server(2, 100 * MB, 50 * MB)];
    let found = widened(&shares, 60 * MB, &servers).expect("is there");
    assert!(found.moved);
    let bytes = |share: &Share| (share.bytes + GIB / 2) / GIB;
    let of: Vec<_> = found
        .shares
        .iter()
        .map(|share| (share.server.0, bytes(share), share.bytes_per_second / MB))
        .collect();
    // Two thirds and a third, of the data as well.
    assert_eq!(of, [(1, 3, 40), (2, 1, 20)]);
    assert_eq!(total(&found.shares).capacity_bytes, 4 * GIB);
    let all = widened(&shares, 200 * MB, &servers).expect("some is there");
    assert_eq!(total(&all.shares).bytes_per_second / MB, 90, "all there is");
    assert_eq!(widened(&shares, 60 * MB, &[full]), None);
    assert_eq!(widened(&shares, 40 * MB, &servers), None, "it has that");
    assert_eq!(widened(&shares, 60 * MB, &[]), None);
}

#[test]
fn data_follow_the_throughput_on_a_server_that_gives_some_more_as_well() {
    let shares = [share(1, 4 * GIB, 40 * MB)];
    let servers = [server(1, 60 * MB, 40 * MB), server(2, 60 * MB, 0)];
    let found = widened(&shares, 80 * MB, &servers).expect("is there");
    // The forty more are a quarter here and three quarters there, as there is room.
    let of: Vec<_> = found
        .shares
        .iter()
        .map(|share| (share.bytes.div_ceil(GIB / 2), share.bytes_per_second / MB))
        .collect();
    assert_eq!(of, [(5, 50), (3, 30)]);
}

#[test]
fn a_slower_tier_is_next_when_the_faster_has_nothing_left() {
    let shares = [share(1, 4 * GIB, 40 * MB)];
    let disk = StorageSpace {
        tier: Tier::Hdd,
        ..server(3, 100 * MB, 0)
    };
    let servers = [
        disk,
        server(1, 100 * MB, 100 * MB),
        server(2, 100 * MB, 95 * MB),
    ];
    let found = widened(&shares, 60 * MB, &servers).expect("is there");
    let rates: Vec<_> = found
        .shares
        .iter()
        .map(|share| share.bytes_per_second.div_ceil(MB))
        .collect();
    assert_eq!(rates, [40, 5, 15]);
}

#[test]
fn a_job_without_any_throughput_leaves_for_where_there_is_some() {
    let shares = [share(1, 4 * GIB, 0)];
    let full = server(1, 100 * MB, 100 * MB);
    let found = widened(&shares, 60 * MB, &[full, server(2, 100 * MB, 0)]).expect("is there");
    let [old, new] = &found.shares[..] else {
        panic!("{found:?}");
    };
    assert_eq!((old.bytes, old.bytes_per_second), (1, 0));
    assert_eq!((new.bytes, new.bytes_per_second), (4 * GIB, 60 * MB));
    let half = widened(&shares, 60 * MB, &[full, server(2, 30 * MB, 0)]).expect("some is there");
    assert_eq!(half.shares[1].bytes_per_second, 30 * MB);
    assert_eq!(half.shares[1].bytes, 2 * GIB, "the rest of the data stays");
}

#[test]
fn less_is_less_of_every_share() {
    let shares = [share(1, 3 * GIB, 30 * MB), share(2, GIB, 10 * MB)];
    let kept = Needs {
        capacity_bytes: 2 * GIB,
        bytes_per_second: 40 * MB,
    };
    let less = shrink(&shares, kept);
    assert_eq!(
        less,
        [share(1, 3 * GIB / 2, 30 * MB), share(2, GIB / 2, 10 * MB)]
    );
    let nothing = shrink(&shares, Needs::default());
    assert_eq!(nothing, [share(1, 1, 0), share(2, 1, 0)], "its map stays");
    let more = Needs {
        capacity_bytes: u64::MAX,
        bytes_per_second: u64::MAX,
    };
    assert_eq!(shrink(&shares, more), shares);
}

proptest! {
    #[test]
    fn nobody_loses_and_no_server_is_overpromised(
        own in proptest::collection::vec((1..4 * GIB, 0..400 * MB), 1..5),
        others in proptest::collection::vec((0..400 * MB, 400 * MB..900 * MB, any::<bool>()), 5..9),
        wanted in 1..4_000 * MB,
    ) {
        let shares: Vec<Share> = own
            .iter()
            .enumerate()
            .map(|(at, (bytes, rate))| share(at as u64, *bytes, *rate))
            .collect();
        let mut servers: Vec<StorageSpace> = others
            .iter()
            .enumerate()
            .map(|(at, (promised, all, disk))| StorageSpace {
                tier: if *disk { Tier::Nvme } else { Tier::Dram },
                // The job's own are besides.
                ..server(at as u64, *all + 400 * MB, *promised)
            })
            .collect();
        for own in &shares {
            let space = &mut servers[own.server.0 as usize];
            space.reserved_bytes += own.bytes;
            space.reserved_bytes_per_second += own.bytes_per_second;
        }
        let before = total(&shares);
        let Some(found) = widened(&shares, wanted, &servers) else {
            return Ok(());
        };
        let after = total(&found.shares);
        prop_assert!(after.bytes_per_second > before.bytes_per_second);
        // Parts are rounded, by less than one for each share.
        let slack = 1 + before.bytes_per_second / (1 << 20) + found.shares.len() as u64;
        prop_assert!(after.bytes_per_second <= wanted + slack, "{} {wanted}", after.bytes_per_second);
        let rounded = found.shares.len() as u64;
        prop_assert!(after.capacity_bytes.abs_diff(before.capacity_bytes) <= rounded);
        let mut ledger = Ledger::default();
        ledger.take(&found.shares);
        for own in &shares {
            prop_assert!(ledger.reserved_bytes_per_second(own.server) >= own.bytes_per_second);
        }
        for (space, (promised, ..)) in servers.iter().zip(&others) {
            prop_assert!(ledger.reserved_bytes(space.server) <= space.capacity_bytes);
            let promised = ledger.reserved_bytes_per_second(space.server) + promised;
            prop_assert!(promised <= space.bytes_per_second);
        }
    }
}
