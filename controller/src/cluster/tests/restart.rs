//! A controller that starts while servers and jobs are there.

use super::*;

const SETTLE: Duration = Duration::from_secs(3);

/// Three jobs, one of them mounted.
fn running() -> World {
    let mut world = World::new(2);
    let id = world.mount(&job_of("a", 2 * GIB)).job;
    world.set_mounts(id, 3);
    world.pass(100);
    world.mount(&job_of("b", GIB + 12_345));
    world.pass(10);
    world.mount(&RegisterJobRequest {
        keep: true,
        ..job("c")
    });
    world.pass(10);
    world
}

#[test]
fn the_jobs_are_known_again_as_they_were() {
    let mut world = running();
    let (jobs, reserved) = (world.jobs(), world.reserved_bytes());
    world.restart(SETTLE);
    assert!(world.jobs().is_empty());
    world.add_metadata(META);
    world.add_storage(1, 8 * GIB);
    world.add_storage(2, 8 * GIB);
    world.heartbeat(META);
    // What they have cost so far only the first controller saw.
    let known_again = |job: &JobStatus| JobStatus {
        nanodollars_per_hour: 0,
        nanodollars: 0,
        epochs: Vec::new(),
        reserved_bytes: 0,
        reserved_bytes_per_second: 0,
        tiers: Vec::new(),
        ..job.clone()
    };
    for (now, before) in world.jobs().iter_mut().zip(&jobs) {
        let allocation = now.allocation.as_mut().expect("has one");
        let told = allocation.reasons.remove(0);
        assert!(
            told.ends_with("counted for 0 s only, since the controller was started again"),
            "{told}"
        );
        assert_eq!(known_again(now), known_again(before));
        // Shares are read from the weights, and rounded.
        assert!(now.reserved_bytes.abs_diff(before.reserved_bytes) <= 2);
        let (rate, rate_before) = (
            now.reserved_bytes_per_second,
            before.reserved_bytes_per_second,
        );
        assert!(rate.abs_diff(rate_before) <= 2, "{rate} {rate_before}");
        let (now, before) = (now.nanodollars_per_hour, before.nanodollars_per_hour);
        assert!(now.abs_diff(before) <= before / 1_000, "{now} {before}");
    }
    assert_eq!(world.jobs().len(), jobs.len());
    assert!(reserved - world.reserved_bytes() <= 6, "but for rounding");
    assert_eq!(world.pass(10), [], "and nothing needs to be done");
    let reply = world.mount(&job("b"));
    assert!(!reply.created);
}

#[test]
fn a_name_is_not_taken_before_all_had_time_to_report_it() {
    let mut world = running();
    world.restart(SETTLE);
    let settled = world.now + SETTLE;
    world.add_metadata(META);
    world.add_storage(1, 8 * GIB);
    for request in [
        job("a"),
        RegisterJobRequest {
            existing_only: true,
            ..job("a")
        },
    ] {
        let RegisterStep::Wait(_, Some(until)) = world.step(&request) else {
            panic!("waits");
        };
        assert_eq!(until, settled);
    }
    let EndStep::Unknown(_, until) = world.deregister("a") else {
        panic!("waits");
    };
    assert_eq!(until, settled);
    world.heartbeat(META);
    assert!(!world.mount(&job("a")).created, "joining need not wait");
    assert!(matches!(world.step(&job("new")), RegisterStep::Wait(..)));
    world.add_storage(2, 8 * GIB);
    world.pass(3);
    assert!(world.mount(&job_of("new", GIB)).created);
}

#[test]
fn storage_servers_that_have_not_reported_yet_are_not_taken_for_dead() {
    let mut world = running();
    world.restart(SETTLE);
    world.add_metadata(META);
    world.add_storage(1, 8 * GIB);
    let silent = [2];
    let living = world.heartbeat(META).storage_servers;
    assert_eq!(living.len(), 2);
    assert_eq!(world.pass_without(2, &silent), []);
    // When all had their time the one that did not come is dead.
    let commands = world.pass_without(2, &silent);
    assert_eq!(maps(&commands), [(2, vec![1]), (2, vec![1]), (2, vec![1])]);
    assert_eq!(world.heartbeat(META).storage_servers.len(), 1);
}

#[test]
fn a_lease_goes_on_over_a_restart() {
    let mut world = running();
    world.restart(SETTLE);
    world.add_metadata(META);
    world.add_storage(1, 8 * GIB);
    world.add_storage(2, 8 * GIB);
    world.pass(39);
    assert_eq!(world.jobs().len(), 3);
    let commands = world.pass(2);
    assert_eq!(drops(&commands).len(), 1);
    let names: Vec<_> = world.jobs().into_iter().map(|job| job.name).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn an_outdated_report_does_not_bring_an_ended_job_back() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    let outdated = world.held.clone();
    world.deregister("x");
    world.upkeep();
    world.held = outdated;
    assert_eq!(world.pass(5), []);
    assert!(world.jobs().is_empty());
    // But if it goes on to be reported it is there, and is dropped again.
    let commands = world.pass(1);
    assert_eq!(drops(&commands), [id]);
    assert_eq!(world.pass(20), []);
    assert!(world.jobs().is_empty() && world.reserved_bytes() == 0);
}

#[test]
fn of_two_jobs_of_one_name_the_older_has_it() {
    let mut world = World::new(1);
    let old = world.mount(&job_of("x", GIB)).job;
    world.pass(10);
    let mut other = world.held[&META][0].clone();
    other.age_seconds = 1;
    other.job.as_mut().expect("a job").job = 4_711;
    world.add_metadata(101);
    world.held.insert(101, vec![other]);
    world.pass(1);
    assert_eq!(world.jobs().len(), 2);
    assert_eq!(world.mount(&job("x")).job, old);
    world.deregister("x");
    world.upkeep();
    assert_eq!(world.mount(&job("x")).job, 4_711);
}

#[test]
fn reports_of_nonsense_change_nothing() {
    let mut world = World::new(1);
    let nonsense = CreateJobRequest {
        job: 5,
        capacity_bytes: u64::MAX,
        lease_seconds: u64::MAX,
        weight_map: Some(WeightMap {
            epoch: u32::MAX,
            edition: 0,
            servers: vec![
                WeightedServer::default(),
                WeightedServer {
                    server: None,
                    weight: u32::MAX,
                    stands_for: 0,
                },
            ],
        }),
        ..CreateJobRequest::default()
    };
    world.held.insert(
        META,
        vec![
            JobReport::default(),
            JobReport {
                job: Some(nonsense),
                idle_seconds: u64::MAX - 1_000,
                age_seconds: u64::MAX - 1_000,
                ..JobReport::default()
            },
        ],
    );
    world.pass(10);
    assert!(world.mount(&job_of("x", GIB)).created);
}

#[test]
fn a_persistent_job_keeps_what_is_left_of_its_time_over_a_restart() {
    const DAY: u64 = 24 * 3600;
    let mut world = World::new(1);
    world.mount(&RegisterJobRequest {
        persist: true,
        ..job("x")
    });
    world.pass(DAY / 2);
    world.restart(SETTLE);
    world.add_metadata(META);
    world.add_storage(1, 8 * GIB);
    world.heartbeat(META);
    let seen = &world.jobs()[0];
    assert!(seen.persist, "{seen:?}");
    assert!(seen.lapses_in_seconds.abs_diff(DAY / 2) <= 10, "{seen:?}");
}
