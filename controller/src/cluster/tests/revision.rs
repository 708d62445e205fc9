//! Running jobs that outgrow what they were given, or do not use it.

use super::*;

fn set_used(world: &mut World, job: u64, used_bytes: u64) {
    for report in world.held.values_mut().flatten() {
        if report.job.as_ref().is_some_and(|held| held.job == job) {
            report.used_bytes = used_bytes;
        }
    }
}

fn status(world: &World, name: &str) -> JobStatus {
    let found = world.jobs().into_iter().find(|job| job.name == name);
    found.expect("the job is there")
}

fn held_capacity(world: &World, job: u64) -> u64 {
    let mut held = world.held[&META]
        .iter()
        .filter_map(|report| report.job.as_ref());
    let held = held.find(|held| held.job == job).expect("is held");
    held.capacity_bytes
}

#[test]
fn a_job_that_outgrows_a_guess_gets_more_before_it_is_full() {
    let mut world = World::new(2);
    let id = world.mount(&job("x")).job;
    world.set_mounts(id, 1);
    // Half of the cluster, as a guess.
    assert_eq!(held_capacity(&world, id), 8 * GIB);
    set_used(&mut world, id, 7 * GIB);
    world.pass(2);
    assert_eq!(held_capacity(&world, id), 10 * GIB + GIB / 2);
    assert_eq!(world.reserved_bytes(), 10 * GIB + GIB / 2);
    let status = status(&world, "x");
    let last = status.epochs.last().expect("has epochs");
    assert_eq!((last.epoch, last.servers), (2, 2));
    assert_eq!(
        last.reason,
        "it holds 7GiB of 8GiB: 10.5GiB are reserved now"
    );
    assert_eq!(status.peak_used_bytes, 7 * GIB);
}

#[test]
fn a_job_spills_to_the_next_tier_when_its_own_is_full() {
    let mut world = World::new(1);
    world.register(RegisterServerRequest {
        tier: "hdd".to_owned(),
        ..storage_server(2, 80 * GIB)
    });
    world.storage.push(2);
    let id = world.mount(&job_of("hinted", 8 * GIB)).job;
    world.set_mounts(id, 1);
    let other = world.mount(&job("x")).job;
    world.set_mounts(other, 1);
    set_used(&mut world, other, 39 * GIB);
    world.pass(2);
    let map = status(&world, "x").allocation.expect("has one").weight_map;
    assert_eq!(servers_of(&map.expect("has one")), [2], "dram is taken");
    // The hinted job goes; now there is room on the faster tier, and the job outgrows again.
    world.deregister("hinted");
    world.upkeep();
    set_used(&mut world, other, 58 * GIB);
    world.pass(2);
    let map = status(&world, "x").allocation.expect("has one").weight_map;
    assert_eq!(servers_of(&map.expect("has one")), [1, 2]);
}

/// Writes of the job wait until it may hold so much.
fn set_wanted(world: &mut World, job: u64, wanted_bytes: u64) {
    for report in world.held.values_mut().flatten() {
        if report.job.as_ref().is_some_and(|held| held.job == job) {
            report.wanted_bytes = wanted_bytes;
        }
    }
}

#[test]
fn a_job_that_outgrows_its_hint_gets_more_tenfold_at_most() {
    let mut world = World::new(2);
    let id = world.mount(&job_of("x", GIB)).job;
    world.set_mounts(id, 1);
    set_used(&mut world, id, GIB);
    assert_eq!(world.pass(5), [], "what was asked for is not too little");
    assert_eq!(held_capacity(&world, id), GIB);
    set_wanted(&mut world, id, 2 * GIB);
    world.pass(1);
    assert_eq!(held_capacity(&world, id), 2 * GIB * 103 / 100);
    assert_eq!(world.reserved_bytes(), 2 * GIB * 103 / 100);
    let status = status(&world, "x");
    let last = status.epochs.last().expect("has epochs");
    assert_eq!(
        last.reason,
        "it holds 1GiB of 1GiB, and wants 2GiB: 2.1GiB are reserved now"
    );
    set_wanted(&mut world, id, 15 * GIB);
    world.pass(2);
    assert_eq!(held_capacity(&world, id), 10 * GIB);
    set_wanted(&mut world, id, 12 * GIB);
    world.pass(30);
    assert_eq!(held_capacity(&world, id), 10 * GIB);
}

#[test]
fn a_job_does_not_outgrow_what_its_user_said() {
    let mut world = World::new(2);
    let request = job_of("x", GIB);
    let request = RegisterJobRequest {
        hints: request.hints.map(|hints| Hints {
            capacity_bytes_max: Some(3 * GIB),
            ..hints
        }),
        ..request
    };
    let id = world.mount(&request).job;
    world.set_mounts(id, 1);
    set_wanted(&mut world, id, 5 * GIB);
    world.pass(5);
    assert_eq!(held_capacity(&world, id), 3 * GIB);
    let held = |world: &World| {
        let report = &world.held[&META][0];
        let job = report.job.clone().expect("has one");
        job.reservation.expect("has one").awaited_bytes_max
    };
    assert_eq!(held(&world), 3 * GIB);
    // Nor does a write wait for more than a cluster can hold.
    let id = world.mount(&job_of("y", 2 * GIB)).job;
    world
        .held
        .get_mut(&META)
        .expect("is there")
        .retain(|report| report.job.as_ref().is_some_and(|job| job.job == id));
    assert_eq!(held(&world), 16 * GIB);
}

#[test]
fn what_a_guess_reserved_in_vain_is_given_to_others() {
    let mut world = World::new(2);
    let id = world.mount(&job("x")).job;
    world.set_mounts(id, 1);
    set_used(&mut world, id, GIB);
    assert!(matches!(
        world.step(&job_of("y", 12 * GIB)),
        RegisterStep::Refused(_) | RegisterStep::Wait(..)
    ));
    assert_eq!(maps(&world.pass(15)), [], "its map stays as it is");
    assert_eq!(world.reserved_bytes(), GIB + GIB / 2);
    assert_eq!(
        held_capacity(&world, id),
        8 * GIB,
        "and so does what it may hold"
    );
    world.mount(&job_of("y", 12 * GIB));
    world.pass(1);
    assert_eq!(
        held_capacity(&world, id),
        4 * GIB,
        "what is promised to another one it does not take"
    );
    // It comes to need it after all: it gets what is left.
    set_used(&mut world, id, 2 * GIB);
    world.pass(2);
    assert_eq!(world.reserved_bytes(), 15 * GIB);
    let cost = status(&world, "x").nanodollars;
    world.pass(10);
    assert!(status(&world, "x").nanodollars > cost);
}

#[test]
fn a_job_for_which_there_is_no_room_is_left_as_it_is() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    world.set_mounts(id, 1);
    world.mount(&RegisterJobRequest {
        keep: true,
        ..job_of("y", 4 * GIB)
    });
    set_used(&mut world, id, 4 * GIB);
    assert_eq!(maps(&world.pass(30)), []);
    assert_eq!(world.reserved_bytes(), 8 * GIB);
}

#[test]
fn the_next_run_is_sized_by_the_last_and_says_so() {
    let mut world = World::new(2);
    let id = world.mount(&job("nightly")).job;
    world.set_mounts(id, 1);
    set_used(&mut world, id, 3 * GIB);
    world.pass(2);
    set_used(&mut world, id, GIB);
    world.pass(2);
    world.deregister("nightly");
    world.upkeep();
    let next = RegisterJobRequest {
        profile: "nightly".to_owned(),
        ..job("tonight")
    };
    let allocation = world.mount(&next).allocation.expect("has one");
    assert_eq!(world.reserved_bytes(), 3 * GIB * 105 / 100);
    // It may hold more before the next look, as if there had been no earlier run.
    assert_eq!(allocation.capacity_bytes, 8 * GIB);
    let told = "the mean peak of an earlier run of 'nightly' and 5 % more";
    assert!(
        allocation
            .reasons
            .iter()
            .any(|reason| reason.contains(told)),
        "{:?}",
        allocation.reasons
    );
}

#[test]
fn a_full_server_is_steered_clear_of_while_others_have_room() {
    let mut world = World::new(2);
    let id = world.mount(&job_of("x", 4 * GIB)).job;
    world.set_mounts(id, 1);
    world.used.insert(1, 8 * GIB - GIB / 8);
    let commands = world.pass(2);
    assert_eq!(maps(&commands), [(2, vec![2])]);
    assert_eq!(world.pass(10), [], "once");
    world.used.insert(1, 0);
    let commands = world.pass(2);
    assert_eq!(
        maps(&commands),
        [(3, vec![1, 2])],
        "and comes back when it has emptied"
    );
}
