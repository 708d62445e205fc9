//! Running jobs that move more than they were given, or far less.

use pocket_proto::control::JobTraffic;

use super::*;

const MB: u64 = 1_000_000;

fn fast_server(id: u64, bytes_per_second: u64) -> RegisterServerRequest {
    RegisterServerRequest {
        bandwidth_bytes_per_second: bytes_per_second,
        ..storage_server(id, 8 * GIB)
    }
}

/// Servers of 8 GiB and 1 GB/s.
fn world_of(servers: u64) -> World {
    let mut world = World::new(0);
    for id in 1..=servers {
        world.register(fast_server(id, 1_000 * MB));
    }
    world
}

fn mount(world: &mut World, request: &RegisterJobRequest) -> u64 {
    let id = world.mount(request).job;
    world.set_mounts(id, 1);
    id
}

fn with_bandwidth(name: &str, bytes_per_second: u64) -> RegisterJobRequest {
    let request = job_of(name, GIB);
    RegisterJobRequest {
        hints: request.hints.map(|hints| Hints {
            bandwidth_bytes_per_second: Some(bytes_per_second),
            ..hints
        }),
        ..request
    }
}

/// Seconds in which jobs move so many MB each on these servers, and are slowed or not.
fn seconds(world: &mut World, count: u64, moved: &[(u64, u64, u64, bool)]) {
    for _ in 0..count {
        for server in 1..=3 {
            let here = moved.iter().filter(|(at, ..)| *at == server);
            let traffic = here.map(|(_, job, megabytes, held_back)| JobTraffic {
                job: *job,
                bytes_per_second: megabytes * MB,
                held_back: *held_back,
            });
            let request = HeartbeatRequest {
                server,
                incarnation: server,
                traffic: traffic.collect(),
                ..HeartbeatRequest::default()
            };
            world.cluster.heartbeat(request, world.now);
        }
        world.pass(1);
    }
}

fn status(world: &World, name: &str) -> JobStatus {
    let found = world.jobs().into_iter().find(|job| job.name == name);
    found.expect("the job is there")
}

/// MB/s promised to a job, as shown and on servers, the epoch of its map, and the last sentence.
fn promised(world: &World, name: &str) -> (u64, u32, String) {
    let status = status(world, name);
    let allocation = status.allocation.expect("has one");
    (
        status.reserved_bytes_per_second.div_ceil(MB),
        allocation.weight_map.expect("has one").epoch,
        allocation.reasons.last().cloned().unwrap_or_default(),
    )
}

fn promised_on(world: &World, server: u64) -> u64 {
    let servers = world.cluster.list_servers(world.now).servers;
    let server = servers.iter().find(|status| status.server == server);
    server
        .expect("is there")
        .reserved_bandwidth_bytes_per_second
        .div_ceil(MB)
}

#[test]
fn a_job_that_moves_more_than_was_guessed_is_promised_more_where_it_is() {
    let mut world = world_of(1);
    let id = mount(&mut world, &job("x"));
    assert_eq!(promised(&world, "x").0, 500, "half of what there is");
    seconds(&mut world, 1, &[(1, id, 390, false)]);
    assert_eq!(promised(&world, "x").0, 500);
    seconds(&mut world, 1, &[(1, id, 450, false)]);
    let sentence = "it moves 3.6Gb/s of 4Gb/s: 5.4Gb/s are reserved now";
    assert_eq!(promised(&world, "x"), (675, 1, sentence.to_owned()));
    assert_eq!(promised_on(&world, 1), 675);
    seconds(&mut world, 20, &[(1, id, 450, false)]);
    assert_eq!(promised(&world, "x").0, 675, "once");
}

#[test]
fn a_job_that_moves_far_less_than_was_guessed_gives_throughput_back_and_pays_less() {
    let mut world = world_of(1);
    let id = mount(&mut world, &job("x"));
    let price = status(&world, "x").nanodollars_per_hour;
    seconds(&mut world, 9, &[(1, id, 20, false)]);
    assert_eq!(promised(&world, "x").0, 500);
    seconds(&mut world, 3, &[(1, id, 20, false)]);
    let sentence = "it moves far less than 4Gb/s: 0.6Gb/s are reserved now";
    assert_eq!(promised(&world, "x"), (75, 1, sentence.to_owned()));
    assert!(status(&world, "x").nanodollars_per_hour < price / 2);
    let other = mount(&mut world, &with_bandwidth("y", 925 * MB));
    assert_eq!(promised(&world, "y").0, 925);
    world.cluster.jobs.end(JobId(other), world.now);
}

#[test]
fn a_hinted_throughput_is_the_most_that_is_promised_however_much_the_job_moves() {
    let mut world = world_of(2);
    let id = mount(&mut world, &with_bandwidth("x", 100 * MB));
    let price = status(&world, "x").nanodollars_per_hour;
    seconds(&mut world, 10, &[(1, id, 900, false), (2, id, 900, true)]);
    assert_eq!(promised(&world, "x").0, 100);
    assert_eq!(status(&world, "x").nanodollars_per_hour, price);
    // What it gave back, as it did not use it for long, it gets again when it does.
    seconds(&mut world, 310, &[(1, id, 10, false)]);
    assert_eq!(promised(&world, "x").0, 75);
    seconds(&mut world, 1, &[(1, id, 400, false)]);
    assert_eq!(promised(&world, "x").0, 100);
}

#[test]
fn a_job_that_is_held_back_gets_throughput_on_other_servers_and_its_data_follow() {
    let mut world = world_of(1);
    // Servers come as needed: who has room stays where it is.
    world.cluster.report_pool(PoolStatus::default(), world.now);
    mount(&mut world, &with_bandwidth("other", 600 * MB));
    let id = mount(&mut world, &job("x"));
    assert_eq!(promised(&world, "x").0, 200);
    world.register(fast_server(2, 1_000 * MB));
    seconds(&mut world, 1, &[(1, id, 300, true)]);
    let (rate, epoch, sentence) = promised(&world, "x");
    assert_eq!(
        sentence,
        "it is held back, as others need what it takes beyond 1.6Gb/s: 4.5Gb/s are reserved now"
    );
    // A quarter more than it was held to, and half of that.
    assert_eq!((rate, epoch), (563, 2));
    let status = status(&world, "x");
    let map = status
        .allocation
        .expect("has one")
        .weight_map
        .expect("has one");
    assert_eq!(servers_of(&map), [1, 2]);
    assert!(promised_on(&world, 1) <= 1_000);
    let (one, two) = (promised_on(&world, 1), promised_on(&world, 2));
    assert!((one + two).abs_diff(600 + 563) <= 1, "{one} {two}");
    // What servers say of the seconds before does not count.
    seconds(&mut world, 2, &[(1, id, 300, true)]);
    assert_eq!(promised(&world, "x").0, 563);
    seconds(&mut world, 2, &[(1, id, 900, true)]);
    assert!(promised(&world, "x").0 > 563);
}

#[test]
fn what_a_job_grew_by_is_given_up_when_another_one_needs_it() {
    let mut world = world_of(1);
    let id = mount(&mut world, &job("x"));
    seconds(&mut world, 1, &[(1, id, 600, false)]);
    assert_eq!(promised(&world, "x").0, 900);
    let reply = world.mount(&with_bandwidth("modest", 50 * MB));
    assert_eq!(reply.notice, "");
    assert_eq!(promised(&world, "x").0, 900, "nobody needs it");
    let reply = world.mount(&with_bandwidth("y", 400 * MB));
    assert_eq!(reply.notice, "");
    let sentence = "another job needs what it grew by: 4Gb/s are reserved now";
    let (rate, _, last) = promised(&world, "x");
    assert_eq!((rate, last), (500, sentence.to_owned()));
    assert_eq!(promised_on(&world, 1), 950);
}

#[test]
fn a_job_stays_where_it_is_if_there_is_no_throughput_to_be_had() {
    let mut world = world_of(1);
    mount(&mut world, &with_bandwidth("y", 1_000 * MB));
    let id = mount(&mut world, &job("x"));
    seconds(&mut world, 30, &[(1, id, 300, true)]);
    let (rate, epoch, _) = promised(&world, "x");
    assert_eq!((rate, epoch), (0, 1));
    assert_eq!(promised_on(&world, 1), 1_000);
}

#[test]
fn work_that_moves_between_servers_is_not_counted_twice() {
    let mut world = world_of(2);
    let id = mount(&mut world, &job("x"));
    seconds(&mut world, 2, &[(1, id, 300, false)]);
    seconds(&mut world, 2, &[(2, id, 300, false)]);
    assert_eq!(status(&world, "x").bytes_per_second, 300 * MB);
    assert_eq!(status(&world, "x").peak_bytes_per_second, 300 * MB);
}

#[test]
fn a_new_controller_goes_on_with_what_was_reserved() {
    let mut world = world_of(1);
    let id = mount(&mut world, &job("x"));
    seconds(&mut world, 12, &[(1, id, 20, false)]);
    let before = (promised(&world, "x"), status(&world, "x").reserved_bytes);
    assert_eq!(before.0.0, 75);
    assert_eq!(before.1, 64 << 20);
    world.restart(Duration::ZERO);
    world.add_metadata(META);
    world.register(fast_server(1, 1_000 * MB));
    world.heartbeat(META);
    let after = (promised(&world, "x"), status(&world, "x").reserved_bytes);
    assert_eq!(after, before);
    // Others get the rest, and the job does not hold what they were promised.
    world.mount(&job_of("y", 7 * GIB));
    world.pass(2);
    let allocation = status(&world, "x").allocation.expect("has one");
    assert_eq!(allocation.capacity_bytes, GIB);
}
