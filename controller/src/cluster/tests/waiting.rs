//! Jobs that wait for room, and what whoever starts servers is told of it.

use pocket_proto::control::PoolStatus;

use super::*;

#[test]
fn a_job_waits_for_servers_that_are_starting_when_no_more_can_be_started() {
    let mut world = World::new(1);
    let pool = |servers| PoolStatus {
        servers,
        servers_max: 2,
        capacity_bytes: 8 * GIB,
        ..PoolStatus::default()
    };
    world.cluster.report_pool(pool(1), world.now);
    let large = job_of("large", 12 * GIB);
    assert!(matches!(world.step(&large), RegisterStep::Wait(..)));
    // The second one is starting.
    world.cluster.report_pool(pool(2), world.now);
    assert!(matches!(world.step(&large), RegisterStep::Wait(..)));
    world.add_storage(2, 8 * GIB);
    assert!(world.mount(&large).created);
}

#[test]
fn who_waits_has_a_place_while_others_end_and_those_behind_are_provided_for() {
    let mut world = World::new(1);
    world.cluster.report_pool(
        PoolStatus {
            servers: 1,
            servers_max: 4,
            capacity_bytes: 8 * GIB,
            ..PoolStatus::default()
        },
        world.now,
    );
    let ended = world.mount(&job_of("old", 8 * GIB)).job;
    world.cluster.jobs.end(JobId(ended), world.now);
    assert!(matches!(
        world.step(&job_of("large", 8 * GIB)),
        RegisterStep::Wait(..)
    ));
    assert!(matches!(
        world.step(&job_of("small", GIB)),
        RegisterStep::Wait(..)
    ));
    let waiting = world.cluster.list_jobs("", world.now).waiting;
    let [first, second] = &waiting[..] else {
        panic!("{waiting:?}");
    };
    assert!(
        first.starts_with("place 1 of 2") && first.contains("'large'"),
        "{first}"
    );
    assert!(
        second.starts_with("place 2 of 2") && second.contains("'small'"),
        "{second}"
    );
    let wanted = world.cluster.list_servers(world.now).wanted_bytes;
    assert_eq!(wanted, GIB, "room for the first is just being made");
    // One that would never fit is told at once.
    world.give_up("large");
    world.give_up("small");
    let step = world.step(&job_of("giant", 100 * GIB));
    assert!(matches!(step, RegisterStep::Refused(_)), "{step:?}");
}

#[test]
fn a_running_job_without_room_is_provided_for_and_takes_a_server_that_comes() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    world.set_mounts(id, 1);
    world.mount(&RegisterJobRequest {
        keep: true,
        ..job_of("y", 4 * GIB)
    });
    for report in world.held.values_mut().flatten() {
        report.used_bytes = 4 * GIB;
    }
    world.pass(2);
    assert_eq!(world.cluster.list_servers(world.now).wanted_bytes, 2 * GIB);
    world.add_storage(2, 8 * GIB);
    world.pass(2);
    let jobs = world.jobs();
    let x = jobs.iter().find(|job| job.name == "x").expect("is there");
    assert!(x.reserved_bytes >= 6 * GIB, "{x:?}");
    assert_eq!(world.cluster.list_servers(world.now).wanted_bytes, 0);
}
