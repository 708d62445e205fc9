//! Servers that come, go, and come back.

use super::*;

fn alive(world: &World, id: u64) -> Option<bool> {
    let servers = world.cluster.list_servers(world.now).servers;
    let server = servers.iter().find(|server| server.server == id);
    server.map(|server| server.alive)
}

#[test]
fn a_server_silent_for_three_seconds_is_dead_and_after_minutes_forgotten() {
    let mut world = World::new(2);
    world.pass_without(2, &[2]);
    assert_eq!(alive(&world, 2), Some(true));
    world.pass_without(1, &[2]);
    assert_eq!(alive(&world, 2), Some(false));
    assert_eq!(alive(&world, 1), Some(true));
    let living: Vec<_> = world.heartbeat(META).storage_servers;
    assert_eq!(living.iter().map(|s| s.server).collect::<Vec<_>>(), [1]);
    world.pass_without(297, &[2]);
    assert_eq!(alive(&world, 2), None);
    assert!(!world.heartbeat(2).known, "it must register again");
}

#[test]
fn another_life_of_a_server_must_register() {
    let mut world = World::new(1);
    let request = HeartbeatRequest {
        server: 1,
        incarnation: 77,
        ..HeartbeatRequest::default()
    };
    assert!(!world.cluster.heartbeat(request, world.now).known);
    assert!(!world.heartbeat(9).known);
    assert!(world.heartbeat(1).known);
}

#[test]
fn a_dead_storage_server_leaves_running_maps_and_a_living_one_enters() {
    let mut world = World::new(2);
    let id = world.mount(&job_of("x", 4 * GIB)).job;
    world.set_mounts(id, 1);
    assert_eq!(maps(&world.pass_without(3, &[2])), [(2, vec![1])]);
    assert_eq!(maps(&world.pass_without(3, &[2])), []);
    assert_eq!(maps(&world.pass(1)), [(3, vec![1, 2])]);
    world.add_storage(3, 8 * GIB);
    assert_eq!(maps(&world.pass(1)), [(4, vec![1, 2, 3])]);
    assert_eq!(maps(&world.pass(100)), []);
    assert_eq!(world.reserved_bytes(), 4 * GIB);
}

#[test]
fn a_job_that_is_weighed_anew_does_not_stand_in_its_own_way() {
    let mut world = World::new(2);
    let id = world.mount(&job_of("x", 12 * GIB)).job;
    world.set_mounts(id, 1);
    world.add_storage(3, 8 * GIB);
    world.pass(1);
    let servers = world.cluster.list_servers(world.now).servers;
    let reserved = |id: u64| {
        servers
            .iter()
            .find(|s| s.server == id)
            .map(|s| s.reserved_bytes)
    };
    assert_eq!([1, 2, 3].map(reserved), [Some(4 * GIB); 3]);
}

#[test]
fn another_incarnation_of_a_storage_server_is_a_new_epoch() {
    let mut world = World::new(2);
    let id = world.mount(&job_of("x", 4 * GIB)).job;
    world.set_mounts(id, 1);
    world.register(RegisterServerRequest {
        incarnation: 77,
        ..storage_server(2, 8 * GIB)
    });
    let commands = world.upkeep();
    let Action::SetWeightMap(map) = &commands[0].action else {
        panic!("a new epoch");
    };
    let servers = map.servers.iter().filter_map(|s| s.server.as_ref());
    assert!(
        servers
            .into_iter()
            .any(|s| (s.server, s.incarnation) == (2, 77))
    );
}

#[test]
fn a_registration_repeated_changes_nothing() {
    let mut world = World::new(2);
    let id = world.mount(&job_of("x", 4 * GIB)).job;
    world.set_mounts(id, 1);
    world.pass(1);
    world.register(storage_server(1, 8 * GIB));
    assert_eq!(world.pass(1), []);
}

#[test]
fn an_epoch_is_repeated_until_confirmed_and_none_is_skipped() {
    let mut world = World::new(3);
    let id = world.mount(&job_of("x", 4 * GIB)).job;
    world.set_mounts(id, 1);
    world.pass(1);
    let silent = [3];
    let mut commands = Vec::new();
    while commands.is_empty() {
        world.now += Duration::from_secs(1);
        for id in [META, 1, 2] {
            world.heartbeat(id);
        }
        commands = world.cluster.upkeep(world.now, 10);
    }
    world.fail(&commands[0]);
    // Meanwhile the server is back: first the former epoch is told again, then a new one.
    world.heartbeat(3);
    assert_eq!(
        maps(&world.pass_without(1, &silent)),
        [(2, vec![1, 2]), (3, vec![1, 2, 3])]
    );
}

#[test]
fn with_no_storage_server_left_a_job_keeps_its_map_until_one_comes() {
    let mut world = World::new(1);
    let id = world.mount(&job_of("x", 4 * GIB)).job;
    world.set_mounts(id, 1);
    assert_eq!(world.pass_without(10, &[1]), []);
    world.add_storage(2, GIB);
    assert_eq!(maps(&world.pass_without(1, &[1])), [(2, vec![2])]);
}

#[test]
fn a_metadata_server_that_lost_a_job_ends_it() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    world.held.insert(META, Vec::new());
    // A report as young as the job may just be older than it.
    assert_eq!(world.pass(5), []);
    let commands = world.pass(1);
    assert_eq!(drops(&commands), [id]);
    assert_eq!(world.reserved_bytes(), 0);
}

#[test]
fn the_jobs_of_a_replaced_metadata_server_are_dropped_by_its_successor() {
    let mut world = World::new(1);
    let id = world.mount(&job("x")).job;
    world.held.remove(&META);
    world.held.insert(101, Vec::new());
    world.register(RegisterServerRequest {
        endpoint: "meta-100:7301".to_owned(),
        ..metadata_server(101)
    });
    let commands = world.pass(3);
    assert_eq!(commands.len(), 1);
    assert_eq!((commands[0].job.0, commands[0].server.0), (id, 101));
    // The successor never knew the job, so it is told where its blocks are.
    let Action::Drop(servers) = &commands[0].action else {
        panic!("not dropped: {commands:?}");
    };
    assert_eq!(servers.iter().map(|s| s.server).collect::<Vec<_>>(), [1]);
    assert!(world.mount(&job("x")).created);
}

#[test]
fn the_jobs_of_a_forgotten_metadata_server_come_back_with_it() {
    let mut world = World::new(1);
    let id = world.mount(&job_of("x", GIB)).job;
    world.set_mounts(id, 1);
    world.pass_without(301, &[META]);
    assert!(world.jobs().is_empty() && world.reserved_bytes() == 0);
    world.add_metadata(META);
    assert_eq!(world.pass(1), []);
    assert_eq!((world.jobs()[0].job, world.reserved_bytes()), (id, GIB));
}

#[test]
fn silence_while_the_controller_stood_still_kills_nobody() {
    let mut world = World::new(2);
    let gap = Duration::from_secs(10);
    world.now += gap;
    world.cluster.forgive(gap, world.now);
    world.upkeep();
    assert_eq!(
        (alive(&world, 1), alive(&world, 2)),
        (Some(true), Some(true))
    );
}

#[test]
fn registrations_that_make_no_sense_are_refused() {
    let mut world = World::new(0);
    for (request, part) in [
        (
            RegisterServerRequest {
                server: 0,
                ..storage_server(1, 1)
            },
            "never 0",
        ),
        (
            RegisterServerRequest {
                incarnation: 0,
                ..storage_server(1, 1)
            },
            "never 0",
        ),
        (
            RegisterServerRequest {
                role: 0,
                ..storage_server(1, 1)
            },
            "role 0",
        ),
        (
            RegisterServerRequest {
                role: 9,
                ..storage_server(1, 1)
            },
            "role 9",
        ),
        (storage_server(1, 0), "capacity above 0"),
        (storage_server(1, u64::MAX), "capacity is at most 8192TiB"),
        (
            RegisterServerRequest {
                bandwidth_bytes_per_second: u64::MAX,
                ..storage_server(1, 1)
            },
            "bandwidth is at most 10Tb/s",
        ),
        (
            RegisterServerRequest {
                tier: "tape".into(),
                ..storage_server(1, 1)
            },
            "'tape'",
        ),
        (
            RegisterServerRequest {
                endpoint: String::new(),
                ..storage_server(1, 1)
            },
            "HOST:PORT",
        ),
        (
            RegisterServerRequest {
                endpoint: "h:0".into(),
                ..storage_server(1, 1)
            },
            "HOST:PORT",
        ),
        (
            RegisterServerRequest {
                endpoint: "ä".repeat(900),
                ..storage_server(1, 1)
            },
            "HOST:PORT",
        ),
        (
            RegisterServerRequest {
                control_endpoint: "h".into(),
                ..metadata_server(1)
            },
            "control endpoint",
        ),
        (
            RegisterServerRequest {
                protocol_version: 99,
                ..metadata_server(1)
            },
            "version 1",
        ),
    ] {
        let failure = world
            .cluster
            .register_server(&request, world.now)
            .expect_err(part);
        assert!(failure.message.contains(part), "{failure}");
    }
    assert_eq!(world.cluster.list_servers(world.now).servers.len(), 1);
}
