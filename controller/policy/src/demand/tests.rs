//! Hints and earlier runs, and the figures they become.

use super::*;
use crate::Startable;

const GB: u64 = 1_000_000_000;

#[test]
fn hints_become_the_figures_of_the_papers_table_3() {
    use Wanted::{Exactly, UpTo};
    let hints = |max_tasks, capacity_bytes, bandwidth_bytes_per_second| Hints {
        latency_sensitive: None,
        max_tasks,
        capacity_bytes,
        bandwidth_bytes_per_second,
        ..Hints::default()
    };
    let table = Catalogue::default();
    for (hints, rate, capacity) in [
        (hints(None, None, None), UpTo(50 * GB), UpTo(98_000 * GB)),
        // 100 tasks: 60 Gb/s, and 60 / 8 nodes of 1960 GB.
        (
            hints(Some(100), None, None),
            UpTo(7_500_000_000),
            UpTo(14_700 * GB),
        ),
        (
            hints(None, Some(1960 * GB), None),
            UpTo(GB),
            Exactly(1960 * GB),
        ),
        // In proportion it would be 0.04 Mb/s: less than any task.
        (
            hints(None, Some(10 << 20), None),
            UpTo(75_000_000),
            Exactly(10 << 20),
        ),
        (
            hints(None, None, Some(2 * GB)),
            Exactly(2 * GB),
            UpTo(3920 * GB),
        ),
        (
            hints(Some(100), Some(10 * GB), None),
            UpTo(7_500_000_000),
            Exactly(10 * GB),
        ),
        (
            hints(Some(100), None, Some(GB)),
            Exactly(GB),
            UpTo(1960 * GB),
        ),
        (
            hints(Some(1), Some(10 * GB), Some(3 * GB)),
            Exactly(3 * GB),
            Exactly(10 * GB),
        ),
    ] {
        let demand = demand(&hints, &table, None);
        assert_eq!(demand.bytes_per_second, rate, "{hints:?}");
        assert_eq!(demand.capacity_bytes, capacity, "{hints:?}");
        assert_eq!(demand.reasons.len(), 3);
    }
}

#[test]
fn only_jobs_that_are_not_latency_sensitive_take_dram_last() {
    for (latency_sensitive, first, last) in [
        (None, Tier::Dram, Tier::Hdd),
        (Some(true), Tier::Dram, Tier::Hdd),
        // A job of the defaults' shape is as cheap on flash as it gets.
        (Some(false), Tier::Nvme, Tier::Dram),
    ] {
        let hints = Hints {
            latency_sensitive,
            ..Hints::default()
        };
        let tiers = demand(&hints, &Catalogue::default(), None).tiers;
        assert_eq!((tiers[0], tiers[3]), (first, last));
    }
}

#[test]
fn hints_per_task_count_times_the_tasks_and_totals_override_them() {
    let table = Catalogue::default();
    let per_task = Hints {
        max_tasks: Some(10),
        task_capacity_bytes: Some(GB),
        task_bandwidth_bytes_per_second: Some(50_000_000),
        ..Hints::default()
    };
    let given = demand(&per_task, &table, None);
    assert_eq!(given.capacity_bytes, Wanted::Exactly(10 * GB));
    assert_eq!(given.bytes_per_second, Wanted::Exactly(GB / 2));
    assert!(given.reasons[0].contains("0.4Gb/s for each of 10 tasks"));
    let total = Hints {
        capacity_bytes: Some(3 * GB),
        bandwidth_bytes_per_second: Some(GB),
        ..per_task
    };
    let given = demand(&total, &table, None);
    assert_eq!(given.capacity_bytes, Wanted::Exactly(3 * GB));
    assert_eq!(given.bytes_per_second, Wanted::Exactly(GB));
    // One of them alone gives the other in the node's proportion.
    let only_rate = Hints {
        task_capacity_bytes: None,
        ..per_task
    };
    let given = demand(&only_rate, &table, None);
    assert_eq!(given.capacity_bytes, Wanted::UpTo(980 * GB));
}

#[test]
fn earlier_runs_stand_in_for_what_is_not_hinted_and_say_so() {
    let table = Catalogue::default();
    let past = Forecast {
        capacity_bytes: 7 * GB,
        bytes_per_second: 3 * GB,
        object_bytes: 0,
        runs: 2,
        margin_percent: 5,
        profile: "nightly".to_owned(),
    };
    let none = demand(&Hints::default(), &table, Some(&past));
    assert_eq!(none.needs().capacity_bytes, 7 * GB);
    assert_eq!(none.bytes_per_second, Wanted::Expected(3 * GB));
    assert!(
        none.reasons[1].contains("2 earlier runs of 'nightly'"),
        "{:?}",
        none.reasons
    );
    let hinted = Hints {
        capacity_bytes: Some(GB),
        ..Hints::default()
    };
    let given = demand(&hinted, &table, Some(&past));
    assert_eq!(given.capacity_bytes, Wanted::Exactly(GB));
    assert_eq!(given.bytes_per_second, Wanted::Expected(3 * GB));
    assert!(given.reasons[1].contains("as hinted"));
}

#[test]
fn capacity_that_comes_with_the_throughput_is_headroom() {
    let table = Catalogue::default();
    let needs = |capacity_bytes, bytes_per_second, hinted| {
        let past = Forecast {
            capacity_bytes,
            bytes_per_second,
            object_bytes: 0,
            runs: 1,
            margin_percent: 5,
            profile: "x".to_owned(),
        };
        let hints = Hints {
            capacity_bytes: hinted,
            ..Hints::default()
        };
        let demand = demand(&hints, &table, Some(&past));
        let nodes = 0..table.nodes.len();
        let startable: Vec<_> = nodes
            .map(|node| Startable::of_table(node, 1, &table))
            .collect();
        let market = Market {
            catalogue: &table,
            startable: &startable,
            startable_in_all: 1,
        };
        let roomy = demand.needs_with_headroom(market);
        assert_eq!(roomy.bytes_per_second, demand.needs().bytes_per_second);
        roomy.capacity_bytes
    };
    // A DRAM server has 60 GB and moves 1 GB/s.
    assert_eq!(needs(10 * GB, GB, None), 15 * GB);
    assert_eq!(
        needs(25 * GB, GB, None),
        30 * GB,
        "half of what a server has"
    );
    assert_eq!(
        needs(40 * GB, GB, None),
        40 * GB,
        "never less than foretold"
    );
    assert_eq!(
        needs(90 * GB, GB, None),
        90 * GB,
        "it takes servers for this"
    );
    assert_eq!(needs(10 * GB, GB, Some(12 * GB)), 12 * GB, "as hinted");
}

#[test]
fn earlier_runs_tell_whether_latency_is_felt() {
    let table = Catalogue::default();
    let tiers = |object_bytes| {
        let past = Forecast {
            capacity_bytes: GB,
            bytes_per_second: GB,
            object_bytes,
            runs: 1,
            margin_percent: 10,
            profile: "x".to_owned(),
        };
        demand(&Hints::default(), &table, Some(&past))
    };
    // The paper's compile and video jobs.
    assert!(tiers(5_600).latency_sensitive);
    assert!(!tiers(10_000_000).latency_sensitive);
    assert_eq!(tiers(10_000_000).tiers[0], Tier::Nvme);
    assert!(tiers(10_000_000).reasons[2].contains("0.0 % longer off dram"));
    assert!(tiers(0).latency_sensitive, "nobody knows");
}

#[test]
fn rates_are_shown_in_bits() {
    for (rate, text) in [
        (GB, "8Gb/s"),
        (75_000_000, "0.6Gb/s"),
        (5_102_040, "40.82Mb/s"),
        (1_000, "0.01Mb/s"),
    ] {
        assert_eq!(rate_text(rate), text);
    }
}

#[test]
fn what_earlier_runs_do_not_tell_is_left_to_the_rules() {
    let table = Catalogue::default();
    let past = |bytes_per_second, object_bytes| Forecast {
        capacity_bytes: GB,
        bytes_per_second,
        object_bytes,
        runs: 1,
        margin_percent: 5,
        profile: "x".to_owned(),
    };
    let unmeasured = demand(&Hints::default(), &table, Some(&past(0, 0)));
    assert_eq!(unmeasured.bytes_per_second, Wanted::UpTo(50 * GB));
    assert_eq!(unmeasured.capacity_bytes, Wanted::Expected(GB));
    assert!(unmeasured.latency_sensitive);
    let said = |demand: &Demand, part: &str| demand.reasons.iter().any(|r| r.contains(part));
    assert!(said(&unmeasured, "latency not hinted: fastest tier first"));
    assert!(said(&unmeasured, "no hint: 50 nodes of 8Gb/s"));
    // An object of 345 kB takes 5.037 ms on DRAM, and 2 % longer on NVMe: that is not felt.
    assert!(!demand(&Hints::default(), &table, Some(&past(GB, 345_000))).latency_sensitive);
    assert!(demand(&Hints::default(), &table, Some(&past(GB, 310_000))).latency_sensitive);
}

#[test]
fn reasons_tell_the_ratio_and_the_size_of_a_node() {
    let table = Catalogue::default();
    let said = |hints: Hints, part: &str| {
        let reasons = demand(&hints, &table, None).reasons;
        assert!(
            reasons.iter().any(|r| r.contains(part)),
            "{part}: {reasons:?}"
        );
    };
    said(Hints::default(), "no hint: 50 nodes of 1960GB");
    let tasks = Hints {
        max_tasks: Some(100),
        ..Hints::default()
    };
    said(tasks, "100 tasks at 0.6Gb/s each and 1960GB per 8Gb/s");
}

#[test]
fn only_a_hint_bounds_what_a_job_may_grow_to() {
    let table = Catalogue::default();
    let most = |capacity_bytes| {
        let hints = Hints {
            capacity_bytes,
            ..Hints::default()
        };
        demand(&hints, &table, None).capacity_max()
    };
    assert_eq!(most(Some(GB)), Some(10 * GB));
    assert_eq!(most(None), None);
}
