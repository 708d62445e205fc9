//! Registering, joining, ending.

use super::*;

#[test]
fn a_job_gets_its_capacity_and_a_map_over_the_living() {
    let mut world = World::new(3);
    world.pass_without(4, &[3]);
    let reply = world.mount(&job_of("x", 4 * GIB));
    assert!(reply.created);
    assert_eq!(reply.metadata_endpoint, "meta-100:7301");
    let allocation = reply.allocation.expect("has one");
    assert_eq!(allocation.capacity_bytes, 4 * GIB);
    let map = allocation.weight_map.expect("has one");
    assert_eq!((map.epoch, servers_of(&map)), (1, vec![1, 2]));
    assert_eq!(world.reserved_bytes(), 4 * GIB);
}

#[test]
fn the_second_mount_joins_and_is_told_if_its_hints_differ() {
    let mut world = World::new(2);
    let first = world.mount(&job_of("x", 10 * GIB));
    world.pass(180);
    // Kept alive by its mount, or it would have lapsed.
    world.set_mounts(first.job, 1);
    let first = world.mount(&job_of("x", 10 * GIB));
    world.set_mounts(first.job, 1);
    world.pass(180);
    let notice = "job 'x' exists already (10GiB, since 3 min): joined it, \
                  the hints of this mount are ignored";
    let keep = RegisterJobRequest {
        keep: true,
        ..job("x")
    };
    let lease = RegisterJobRequest {
        lease_seconds: 7,
        ..job("x")
    };
    for (request, expected) in [
        (job("x"), ""),
        (job_of("x", 10 * GIB), ""),
        (job_of("x", 5 * GIB), notice),
        (keep, notice),
        (lease, notice),
    ] {
        let reply = world.mount(&request);
        assert!(!reply.created);
        assert_eq!((reply.job, reply.notice.as_str()), (first.job, expected));
    }
    assert_eq!(world.jobs().len(), 1);
}

#[test]
fn two_registrations_at_once_create_one_job() {
    let mut world = World::new(1);
    let RegisterStep::Create(command) = world.step(&job("x")) else {
        panic!("the first creates");
    };
    assert!(matches!(world.step(&job("x")), RegisterStep::Wait(..)));
    world.obey(&command);
    let reply = world.mount(&job("x"));
    assert_eq!((reply.created, reply.job), (false, command.job.0));
}

#[test]
fn a_creation_that_fails_frees_everything_and_is_dropped_if_it_happened_all_the_same() {
    let mut world = World::new(1);
    let RegisterStep::Create(command) = world.step(&job("x")) else {
        panic!("creates");
    };
    world.obey(&command);
    // Undo what the controller learned: the answer was lost.
    let mut world = World {
        held: world.held,
        ..World::new(1)
    };
    let RegisterStep::Create(lost) = world.step(&job("x")) else {
        panic!("creates");
    };
    let held = world.held.get_mut(&META).expect("held");
    held[0].job.as_mut().expect("a job").job = lost.job.0;
    world.fail(&lost);
    assert_eq!(world.reserved_bytes(), 0);
    assert!(matches!(
        world.step(&job("x")),
        RegisterStep::Wait(_, Some(_))
    ));
    let commands = world.pass(10);
    assert_eq!(drops(&commands), [lost.job.0]);
    assert!(world.held[&META].is_empty() && world.jobs().is_empty());
}

#[test]
fn new_jobs_go_to_the_metadata_server_with_the_fewest() {
    let mut world = World::new(1);
    world.add_metadata(101);
    let endpoints: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| world.mount(&job_of(name, GIB)).metadata_endpoint)
        .into();
    let on = |endpoint: &str| endpoints.iter().filter(|e| *e == endpoint).count();
    assert_eq!((on("meta-100:7301"), on("meta-101:7301")), (2, 2));
}

#[test]
fn a_job_of_many_small_objects_goes_where_others_leave_it_operations() {
    let mut world = World::new(0);
    world.register(RegisterServerRequest {
        bandwidth_bytes_per_second: 10_000_000_000,
        ..storage_server(1, 64 * GIB)
    });
    world.storage.push(1);
    let request = |name: &str| RegisterJobRequest {
        profile: "small".to_owned(),
        hints: Some(Hints {
            capacity_bytes: Some(GIB),
            bandwidth_bytes_per_second: Some(40_000_000),
            ..Hints::default()
        }),
        ..job(name)
    };
    let first = world.mount(&request("first")).job;
    for report in world.held.values_mut().flatten() {
        (report.used_bytes, report.inodes) = (400_000_000, 100_000);
    }
    world.pass(2);
    world.deregister("first");
    world.upkeep();
    assert_eq!(drops(&world.pass(1)), [] as [u64; 0], "{first} has ended");
    world.add_metadata(101);
    let on =
        |world: &mut World, request: &RegisterJobRequest| world.mount(request).metadata_endpoint;
    // Objects of 4 kB at 40 MB/s, four operations each: 40,000 a second of 90,000.
    assert_eq!(on(&mut world, &request("a")), "meta-100:7301");
    assert_eq!(on(&mut world, &job_of("large", GIB)), "meta-101:7301");
    assert_eq!(on(&mut world, &job_of("larger", GIB)), "meta-101:7301");
    assert_eq!(
        on(&mut world, &request("b")),
        "meta-101:7301",
        "though it has more jobs"
    );
    assert_eq!(on(&mut world, &job_of("one", GIB)), "meta-100:7301");
}

#[test]
fn what_cannot_be_had_is_refused_or_waited_for() {
    let mut world = World::empty(Duration::ZERO);
    let RegisterStep::Wait(failure, None) = world.step(&job("x")) else {
        panic!("waits for servers");
    };
    assert!(failure.message.contains("no metadata server"), "{failure}");
    world.add_metadata(META);
    let RegisterStep::Wait(failure, None) = world.step(&job("x")) else {
        panic!("waits for servers");
    };
    assert!(failure.message.contains("no storage server"), "{failure}");
    world.add_storage(1, 8 * GIB);
    let RegisterStep::Refused(failure) = world.step(&job_of("x", 9 * GIB)) else {
        panic!("does not fit");
    };
    assert_eq!(failure.status, Status::NoSpace);
    assert!(
        failure.message.contains("--capacity 8GiB or less"),
        "{failure}"
    );
    let existing_only = RegisterJobRequest {
        existing_only: true,
        ..job("x")
    };
    let RegisterStep::Refused(failure) = world.step(&existing_only) else {
        panic!("there is none");
    };
    assert_eq!(failure.status, Status::NotFound);
    assert_eq!(world.reserved_bytes(), 0);
}

#[test]
fn jobs_wait_for_room_in_their_order_with_a_place_and_a_reason() {
    let mut world = World::new(1);
    world.mount(&job_of("a", 6 * GIB));
    let waits = |world: &mut World, request: &RegisterJobRequest| match world.step(request) {
        RegisterStep::Wait(failure, None) => failure,
        other => panic!("does not wait: {other:?}"),
    };
    let large = waits(&mut world, &job_of("large", 7 * GIB));
    assert_eq!(large.status, Status::NoSpace);
    let expected = "place 1 of 1 in the queue: job 'large' asks for 7GiB but the cluster has 2GiB";
    assert!(large.message.starts_with(expected), "{large}");
    // It would fit, but the other one was first.
    let small = waits(&mut world, &job_of("small", GIB));
    assert!(
        small.message.starts_with("place 2 of 2 in the queue"),
        "{small}"
    );
    assert_eq!(world.cluster.list_jobs("", world.now).waiting.len(), 2);
    // Room: the large one goes first, then the small one.
    world.deregister("a");
    world.upkeep();
    waits(&mut world, &job_of("small", GIB));
    assert!(world.mount(&job_of("large", 7 * GIB)).created);
    assert!(world.mount(&job_of("small", GIB)).created);
    // Whoever gives up lets the next one pass.
    waits(&mut world, &job_of("large-2", 7 * GIB));
    waits(&mut world, &job_of("small-2", GIB));
    world.give_up("large-2");
    world.deregister("small");
    world.upkeep();
    assert!(world.mount(&job_of("small-2", GIB)).created);
    assert!(world.cluster.list_jobs("", world.now).waiting.is_empty());
}

#[test]
fn deregistration_frees_the_name_at_once_and_the_space_when_dropped() {
    let mut world = World::new(1);
    let first = world.mount(&job_of("x", 8 * GIB));
    let EndStep::Wait(id, _) = world.deregister("x") else {
        panic!("must be dropped first");
    };
    assert_eq!(id.0, first.job);
    // The room is about to be free, so the next one waits for it.
    assert!(matches!(
        world.step(&job_of("x", 8 * GIB)),
        RegisterStep::Wait(..)
    ));
    world.upkeep();
    assert_eq!(world.reserved_bytes(), 0);
    let second = world.mount(&job_of("x", 8 * GIB));
    assert!(second.created && second.job != first.job);
    // Whoever still waits for the end of the first does not end the second.
    let by_id = DeregisterJobRequest {
        name: "x".to_owned(),
        job: first.job,
    };
    assert!(matches!(
        world.cluster.end_step(&by_id, world.now),
        EndStep::Gone
    ));
    assert_eq!(world.jobs()[0].job, second.job);
    assert!(matches!(world.deregister("unknown"), EndStep::Gone));
}

#[test]
fn a_drop_that_fails_is_repeated_until_it_is_done() {
    let mut world = World::new(1);
    world.mount(&job("x"));
    world.deregister("x");
    for pause in [1, 2, 4, 8, 16, 32, 32] {
        let commands = world.cluster.upkeep(world.now, 10);
        assert_eq!(commands.len(), 1);
        assert!(
            world.cluster.upkeep(world.now, 10).is_empty(),
            "one at a time"
        );
        world.fail(&commands[0]);
        let EndStep::Stuck(failure) = world.deregister("x") else {
            panic!("cannot end yet");
        };
        assert!(failure.message.contains("no answer"), "{failure}");
        for _ in 0..pause {
            assert!(world.cluster.upkeep(world.now, 10).is_empty());
            world.now += Duration::from_secs(1);
            world.heartbeat(META);
            world.heartbeat(1);
        }
    }
    assert_eq!(world.upkeep().len(), 1);
    assert!(world.jobs().is_empty());
    assert!(matches!(world.deregister("x"), EndStep::Gone));
}

#[test]
fn a_lease_lapses_a_minute_after_the_last_mount_left() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    world.set_mounts(id, 2);
    assert_eq!(drops(&world.pass(1_000)), [0_u64; 0]);
    assert_eq!(world.jobs()[0].lapses_in_seconds, 0);
    world.set_mounts(id, 0);
    world.pass(LEASE.as_secs() - 1);
    assert_eq!(world.jobs()[0].lapses_in_seconds, 1);
    let commands = world.pass(1);
    assert_eq!(drops(&commands), [id]);
    assert!(world.jobs().is_empty());
}

#[test]
fn a_mount_that_comes_and_goes_between_two_reports_renews_the_lease() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    world.pass(50);
    world.set_mounts(id, 0);
    assert_eq!(world.pass(55), []);
    assert_eq!(world.jobs().len(), 1);
}

#[test]
fn a_job_that_never_got_a_mount_lapses_from_its_registration() {
    let mut world = World::new(1);
    world.mount(&RegisterJobRequest {
        lease_seconds: 5,
        ..job("x")
    });
    assert_eq!(world.pass(4), []);
    assert_eq!(world.pass(2).len(), 1);
}

#[test]
fn a_registration_gives_a_whole_lease_to_connect() {
    let mut world = World::new(1);
    world.mount(&job("x"));
    world.pass(59);
    world.mount(&job("x"));
    assert_eq!(world.pass(59), []);
    assert_eq!(world.pass(2).len(), 1);
}

#[test]
fn a_kept_job_never_lapses() {
    let mut world = World::new(1);
    world.mount(&RegisterJobRequest {
        keep: true,
        ..job("x")
    });
    assert_eq!(drops(&world.pass(10_000)), [0_u64; 0]);
    assert_eq!(world.jobs()[0].lapses_in_seconds, 0);
}

#[test]
fn a_persistent_job_is_found_again_until_its_time_is_over() {
    const DAY: u64 = 24 * 3600;
    let persistent = |seconds| RegisterJobRequest {
        persist: true,
        lease_seconds: seconds,
        ..job("x")
    };
    let mut world = World::new(1);
    let id = world.mount(&persistent(0)).job;
    // What it does not use may be given back meanwhile.
    world.pass(DAY - 10);
    let seen = &world.jobs()[0];
    assert!(seen.persist && seen.lapses_in_seconds <= 10, "{seen:?}");
    // Whoever mounts it later finds it, and its time begins anew.
    let again = world.mount(&job("x"));
    assert_eq!((again.job, again.created), (id, false));
    world.pass(DAY - 10);
    assert_eq!(world.jobs().len(), 1);
    world.pass(20);
    assert!(world.jobs().is_empty());

    world.mount(&RegisterJobRequest {
        name: "y".to_owned(),
        ..persistent(100)
    });
    world.pass(90);
    assert_eq!(world.jobs().len(), 1);
    world.pass(20);
    assert!(world.jobs().is_empty());
}

#[test]
fn no_lease_lapses_while_the_metadata_server_is_silent() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    assert_eq!(world.pass_without(200, &[META]), []);
    let RegisterStep::Wait(failure, _) = world.step(&job("x")) else {
        panic!("cannot be joined");
    };
    assert!(
        failure.message.contains("silent for 3 min (meta-100:7301)"),
        "{failure}"
    );
    let EndStep::Stuck(failure) = world.deregister("x") else {
        panic!("cannot end");
    };
    assert!(failure.message.contains("silent for 3 min"), "{failure}");
    // When it is back it is told.
    let commands = world.pass(1);
    assert_eq!((commands.len(), commands[0].job.0), (1, id));
}
