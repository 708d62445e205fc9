//! Small runs whose outcome can be told by hand.

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_trace_ends_with_nothing_promised_and_no_flaps(jobs in jobs(), servers_max in 5..40u32) {
        let trace = Trace { jobs, ..Trace::default() };
        let scenario = Scenario { servers_max, ..Scenario::default() };
        let mut engine = Engine::new(&trace, &scenario);
        while engine.goes_on() && engine.now_ms < 10_000_000 {
            engine.tick();
            prop_assert!(engine.fleet.servers().len() <= servers_max as usize);
        }
        let ended = engine.next_job == trace.jobs.len() && engine.running.is_empty();
        if ended && engine.waiting.is_empty() {
            prop_assert!(engine.fleet.servers().iter().all(|server| server.is_free()));
        }
        let report = engine.tally.report(&trace, &scenario, &engine.fleet, engine.now_ms);
        prop_assert_eq!(report.flaps, 0);
    }

    #[test]
    fn more_servers_never_slow_a_job(jobs in jobs()) {
        let trace = Trace { jobs, ..Trace::default() };
        let slowest = |servers_max, dram| {
            let scenario = Scenario {
                servers_max,
                type_max: vec![("dram".to_owned(), dram)],
                hints: HintMode::Full,
                ..Scenario::default()
            };
            simulate(&trace, scenario).expect("sound").slow_down_mean
        };
        let (few, many) = (slowest(200, 3), slowest(400, 400));
        prop_assert!(many <= few + 0.01, "{few} {many}");
    }
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
