//! Small runs whose outcome can be told by hand.

use pocket_policy::{Catalogue, Needs, Share};
use proptest::prelude::*;

use super::*;
use crate::{HintMode, Kind, generate};

fn run(lines: &str) -> Report {
    let trace: Trace = format!("pocket-trace 1\n{lines}").parse().expect("sound");
    simulate(&trace, Scenario::default()).expect("sound settings")
}

#[test]
fn a_job_alone_starts_its_servers_and_pays_for_them_until_they_go() {
    let report = run("job a at=10s for=60s tasks=10 capacity=30GB bandwidth=1GB/s shape=steady");
    assert_eq!(
        (report.finished, report.servers_most, report.servers_started),
        (1, 1, 1)
    );
    assert_eq!((report.wait_mean_ms, report.waited_for_servers), (4_000, 1));
    assert!(
        (report.slow_down_mean - 1.0).abs() < 1e-3,
        "{}",
        report.slow_down_mean
    );
    // Four seconds of starting, 61 of work and some until it goes, at $0.532 an hour.
    let seconds = report.cost / 0.532 * 3_600.0;
    assert!((64.0..72.0).contains(&seconds), "{seconds}");
    let losses = report.losses;
    let all =
        losses.starting + losses.idle + losses.fragmentation + losses.reservation + losses.time;
    assert!((report.cost - report.oracle_cost - all).abs() < 1e-9);
}

#[test]
fn a_second_job_fills_the_gap_of_the_first_and_does_not_wait() {
    let report = run(
        "job a at=10s for=60s tasks=10 capacity=30GB bandwidth=500MB/s\n\
         job b at=30s for=20s tasks=10 capacity=30GB bandwidth=500MB/s",
    );
    assert_eq!((report.servers_started, report.waited_for_servers), (1, 1));
}

#[test]
fn where_the_cluster_cannot_grow_jobs_queue_in_order() {
    let report = run("set servers-max 1\n\
         job a at=10s for=60s tasks=10 capacity=60GB bandwidth=1GB/s\n\
         job b at=11s for=60s tasks=10 capacity=60GB bandwidth=1GB/s\n\
         job c at=12s for=10s tasks=10 capacity=1GB bandwidth=1MB/s");
    assert_eq!((report.finished, report.queued), (3, 2));
    assert!(
        report.wait_most_ms >= 60_000 + 60_000 - 12_000,
        "c did not overtake b"
    );
}

#[test]
fn a_job_that_outgrows_its_hints_spills_and_is_hardly_slowed() {
    let report = run("set hints 20%\nset dram-max 1\n\
         job a at=10s for=120s tasks=10 capacity=300GB bandwidth=500MB/s");
    assert_eq!(report.finished, 1);
    assert!(
        report.grown > 0 && report.spilled == 1,
        "{} {}",
        report.grown,
        report.spilled
    );
    assert!(report.slow_down_mean < 1.3, "{}", report.slow_down_mean);
}

#[test]
fn a_job_without_hints_gives_back_what_it_does_not_use() {
    let report = run("set hints none\n\
         job a at=10s for=200s tasks=10 capacity=30GB bandwidth=500MB/s shape=steady");
    assert!(report.given_back > 0);
    assert!(report.servers_most >= 50, "the default is fifty nodes");
}

#[test]
fn allocated_bandwidth_follows_demand() {
    let trace = generate(Kind::Elasticity, 0);
    let report = simulate(&trace, Scenario::default()).expect("sound");
    assert_eq!(
        (report.finished, report.flaps, report.servers_most),
        (3, 0, 6)
    );
    let at = |second: u64| {
        let sample = report.samples.iter().find(|sample| sample.second == second);
        sample.expect("sampled").servers_bytes_per_second / 1_000_000_000
    };
    // Before, sort, sort and video, video, nothing, sort, nothing.
    let last = report.samples.last().expect("sampled").second;
    let seconds = [5, 20, 48, 80, 128, 150, last];
    assert_eq!(seconds.map(at), [2, 3, 6, 3, 2, 3, 2]);
}

#[test]
fn settings_that_make_no_sense_are_sentences() {
    let trace: Trace = "pocket-trace 1\nset servers-min 9\nset servers-max 3\n"
        .parse()
        .expect("read");
    let error = simulate(&trace, Scenario::default()).expect_err("contradiction");
    assert!(error.contains("correct one of them"), "{error}");
    let empty = simulate(&Trace::default(), Scenario::default()).expect("nothing to do");
    assert_eq!((empty.jobs, empty.finished), (0, 0));
}

fn jobs() -> impl Strategy<Value = Vec<TraceJob>> {
    let job = (
        0..200u64,
        5..60u64,
        1..50u32,
        1..200u64,
        10..4_000u64,
        any::<(bool, bool)>(),
    );
    let job = job.prop_map(
        |(at, runs, tasks, gb, mb, (latency_sensitive, stream))| TraceJob {
            name: "x".to_owned(),
            profile: "x".to_owned(),
            at_ms: at * 1_000,
            runs_ms: runs * 1_000,
            tasks,
            peak: Needs {
                capacity_bytes: gb * 1_000_000_000,
                bytes_per_second: mb * 1_000_000,
            },
            object_bytes: 1_600_000,
            latency_sensitive,
            shape: if stream {
                crate::Shape::Stream
            } else {
                crate::Shape::Shuffle
            },
        },
    );
    proptest::collection::vec(job, 1..12).prop_map(|mut jobs| {
        jobs.sort_by_key(|job| job.at_ms);
        jobs
    })
}

/// Runs a trace to its end.
fn engine_of<'a>(trace: &'a Trace, scenario: &'a Scenario) -> Engine<'a> {
    let mut engine = Engine::new(trace, scenario);
    while engine.goes_on() {
        engine.tick();
        assert!(engine.fleet.servers().len() <= scenario.servers_max as usize);
        assert!(engine.now_ms < 20_000_000, "it does not come to its end");
    }
    engine
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_job_with_hints_finishes_and_nothing_is_left_promised(
        jobs in jobs(), servers_max in 5..40u32,
    ) {
        let trace = Trace { jobs, ..Trace::default() };
        let scenario = Scenario { servers_max, ..Scenario::default() };
        let engine = engine_of(&trace, &scenario);
        prop_assert!(engine.running.is_empty() && engine.waiting.is_empty());
        prop_assert!(engine.fleet.servers().iter().all(|server| server.is_free()));
        let report = engine.tally.report(&trace, &scenario, &engine.fleet, engine.now_ms);
        prop_assert_eq!(report.finished, trace.jobs.len());
        prop_assert_eq!(report.shortfall(), None);
    }

    #[test]
    fn more_servers_never_slow_a_job(jobs in jobs()) {
        let trace = Trace { jobs, ..Trace::default() };
        let of_each = |servers_max, dram| {
            let scenario = Scenario {
                servers_max,
                type_max: vec![("dram".to_owned(), dram)],
                hints: HintMode::Full,
                ..Scenario::default()
            };
            let mut slow_downs = engine_of(&trace, &scenario).tally.slow_downs;
            slow_downs.sort_by_key(|(job, _)| *job);
            slow_downs
        };
        let (few, many) = (of_each(200, 3), of_each(400, 400));
        prop_assert_eq!(few.len(), trace.jobs.len());
        for ((job, few), (same, many)) in few.into_iter().zip(many) {
            prop_assert_eq!(job, same);
            prop_assert!(many <= few + 0.01, "{job}: {few} {many}");
        }
    }
}

#[test]
fn a_job_that_fits_nowhere_is_refused_and_holds_nobody_up() {
    let report = run("set servers-max 1\n\
         job giant at=10s for=60s tasks=10 capacity=8192TiB bandwidth=1GB/s\n\
         job b at=11s for=60s tasks=10 capacity=60GB bandwidth=1GB/s");
    assert_eq!((report.finished, report.refused, report.failed), (1, 1, 0));
    let why = report.shortfall().expect("one did not finish");
    assert!(
        why.starts_with("1 of 2 jobs did not finish (1 refused, 0 given up"),
        "{why}"
    );
    assert!(
        why.contains("job 'giant' asks for 8192TiB but the cluster has"),
        "{why}"
    );
    // An idle server of another type is no reason to refuse: it goes.
    let report = run("set servers-max 1\n\
         job a at=10s for=60s tasks=10 capacity=60GB bandwidth=1GB/s\n\
         job b at=11s for=60s tasks=10 capacity=1800GB bandwidth=1MB/s latency=no");
    assert_eq!((report.finished, report.refused, report.queued), (2, 0, 1));
}

#[test]
fn a_job_outgrows_its_hint_tenfold_and_no_further() {
    let lines = |percent| {
        format!(
            "set hints {percent}%\n\
             job a at=10s for=60s tasks=10 capacity=30GB bandwidth=1GB/s shape=steady"
        )
    };
    let grown = run(&lines(10));
    assert_eq!((grown.finished, grown.failed), (1, 0));
    let wild = run(&lines(9));
    assert_eq!((wild.finished, wild.failed), (0, 1));
    let why = wild.shortfall().expect("it was given up");
    assert!(why.contains("job 'a' found no room for 600 s"), "{why}");
    assert!(
        !wild.rows().iter().any(|(_, value)| value.contains("-0.0")),
        "{:?}",
        wild.rows()
    );
    let giant = run("set hints 1%\n\
         job a at=10s for=60s tasks=10 capacity=8192TiB bandwidth=1GB/s");
    assert_eq!((giant.finished, giant.failed + giant.refused), (0, 1));
}

#[test]
fn a_full_queue_refuses_with_the_reason() {
    let mut lines = "set servers-max 1\n\
         job first at=1s for=600s tasks=1 capacity=60GB bandwidth=1GB/s\n"
        .to_owned();
    for job in 0..10_001 {
        lines += &format!("job j{job} at=2s for=0.001s tasks=1 capacity=60GB bandwidth=1GB/s\n");
    }
    let trace: Trace = format!("pocket-trace 1\n{lines}").parse().expect("sound");
    let scenario = Scenario {
        servers_max: 1,
        ..Scenario::default()
    };
    let mut engine = Engine::new(&trace, &scenario);
    while engine.next_job < trace.jobs.len() {
        engine.tick();
    }
    let report = engine
        .tally
        .report(&trace, &scenario, &engine.fleet, engine.now_ms);
    assert_eq!((report.queued, report.refused), (10_000, 1));
    assert!(
        report.unfinished.contains("too many jobs wait"),
        "{}",
        report.unfinished
    );
}

#[test]
fn a_server_removed_though_it_is_needed_again_is_a_flap_whoever_starts_it() {
    let mut fleet = Fleet::new(&Catalogue::default());
    let share = |server: u64, bytes| Share {
        server: pocket_proto::ServerId(server),
        bytes,
        bytes_per_second: 0,
    };
    fleet.start(0, 2, 0, 0);
    fleet.promise(&[share(1, 50)]);
    fleet.promise(&[share(2, 50)]);
    fleet.give_back(&[share(2, 50)]);
    fleet.count_flaps(0);
    fleet.remove_free(0, 1, 1_000);
    // More is promised than when it went: there is a cause.
    fleet.start(0, 1, 2_000, 0);
    fleet.promise(&[share(3, 1_000_000_000)]);
    fleet.count_flaps(2_000);
    assert_eq!((fleet.regretted, fleet.flaps), (1, 0));
    fleet.give_back(&[share(3, 1_000_000_000)]);
    fleet.remove_free(0, 1, 3_000);
    fleet.start(0, 1, 4_000, 0);
    fleet.count_flaps(4_000);
    assert_eq!((fleet.regretted, fleet.flaps), (2, 1));
    // And one that was never used.
    fleet.remove_free(0, 1, 5_000);
    assert_eq!(fleet.flaps, 2);
    fleet.start(0, 1, 70_000, 0);
    fleet.count_flaps(70_000);
    assert_eq!((fleet.regretted, fleet.flaps), (2, 2), "long ago");
}

#[test]
fn settings_are_wrong_on_their_line() {
    let trace: Trace = "pocket-trace 1\n\nset servers-max 0\nset hints some\n"
        .parse()
        .expect("read");
    let error = simulate(&trace, Scenario::default()).expect_err("no such hints");
    assert!(
        error.starts_with("trace, line 4, set hints: hints 'some'"),
        "{error}"
    );
    let mut own = Trace::default();
    own.push_setting("hints", "some");
    let error = simulate(&own, Scenario::default()).expect_err("no such hints");
    assert!(error.starts_with("hints 'some'"), "{error}");
}

#[test]
fn ten_thousand_jobs_cost_little_more_than_the_oracles_and_none_is_slowed() {
    for (hints, most) in [(HintMode::Full, 1.10), (HintMode::None, 1.15)] {
        let scenario = Scenario {
            hints,
            ..Scenario::default()
        };
        let report = simulate(&generate(Kind::Bursts, 2), scenario).expect("sound");
        let cost = report.cost / report.oracle_cost;
        assert!(cost < most, "{hints:?} {cost}");
        assert_eq!((report.jobs_slowed, report.flaps), (0, 0), "{hints:?}");
        assert_eq!(report.finished, 10_000);
    }
}

#[test]
fn jobs_that_understate_their_needs_are_slowed_less_than_published_for_jiffy() {
    let trace = generate(Kind::Bursts, 1);
    for (percent, most) in [(60, 1.3), (20, 2.5)] {
        let scenario = Scenario {
            hints: HintMode::Understated(percent),
            ..Scenario::default()
        };
        let report = simulate(&trace, scenario).expect("sound");
        assert_eq!((report.finished, report.flaps), (10_000, 0), "{percent}");
        assert!(
            report.slow_down_mean < most,
            "{percent}: {}",
            report.slow_down_mean
        );
        assert!(
            report.slow_down_most < most,
            "{percent}: {}",
            report.slow_down_most
        );
    }
}
