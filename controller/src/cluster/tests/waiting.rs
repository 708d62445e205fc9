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
    let reply = world.cluster.list_servers(world.now);
    assert_eq!((reply.waiting, reply.wanted_bytes), (2, 9 * GIB));
    assert_eq!(
        reply.wanted_servers, 1,
        "room for the first is just being made"
    );
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

/// A scaler that starts servers of 8 GiB, to so many in all.
fn pool(servers_max: u32) -> PoolStatus {
    PoolStatus {
        servers_max,
        capacity_bytes: 8 * GIB,
        ..PoolStatus::default()
    }
}

/// Two node types of a tier: the first holds 8 GiB, the other eight times that.
const TWO_OF_A_TIER: &str = r#"
[machine]
price_per_hour = "0.1"
[default]
nodes = 1
node_bandwidth = "8Gb/s"
node_capacity = "6GiB"
task_bandwidth = "0.6Gb/s"
[[node]]
name = "dram"
tier = "dram"
capacity = "8GiB"
bandwidth = "8Gb/s"
get_us = 400
put_us = 500
price_per_hour = "0.2"
[[node]]
name = "dram-large"
tier = "dram"
capacity = "64GiB"
bandwidth = "8Gb/s"
get_us = 400
put_us = 500
price_per_hour = "0.5"
"#;

#[test]
fn a_pool_is_provided_for_with_the_capacity_and_price_of_its_own_node_type() {
    let mut world = World::new(0);
    world.cluster.catalogue = Catalogue::parse(TWO_OF_A_TIER).expect("it is sound");
    let of_node = |node: &str| PoolStatus {
        tier: "dram".to_owned(),
        node: node.to_owned(),
        servers_max: 8,
        ..PoolStatus::default()
    };
    let offered = |world: &World| {
        let offer = world.cluster.offer(world.now).expect("a pool reports");
        let market = offer.market(&world.cluster.catalogue);
        let offered = market.startable.first().copied();
        offered.map(|kind| (kind.node, kind.capacity_bytes, kind.bytes_per_second))
    };
    world.cluster.report_pool(of_node("dram-large"), world.now);
    assert_eq!(offered(&world), Some((1, 64 * GIB, 1_000_000_000)));
    let mut large = job_of("large", 60 * GIB);
    if let Some(hints) = &mut large.hints {
        hints.bandwidth_bytes_per_second = Some(1_000_000);
    }
    assert!(matches!(world.step(&large), RegisterStep::Wait(..)));
    let wanted = |world: &World| world.cluster.list_servers(world.now).wanted_servers;
    assert_eq!(wanted(&world), 1, "of the first type it would be eight");
    // What the pool says of its servers counts before the table.
    let said = PoolStatus {
        capacity_bytes: 16 * GIB,
        ..of_node("dram-large")
    };
    world.cluster.report_pool(said, world.now);
    assert_eq!(offered(&world), Some((1, 16 * GIB, 1_000_000_000)));

    let price = |node: &str| {
        let mut world = World::new(1);
        world.cluster.catalogue = Catalogue::parse(TWO_OF_A_TIER).expect("it is sound");
        world.cluster.report_pool(of_node(node), world.now);
        world.mount(&job_of("x", 4 * GIB));
        world.jobs()[0].nanodollars_per_hour
    };
    // Of a medium of 0.1 dollars for 8 GiB, or of 0.4 for 64.
    assert_eq!(price("") - price("dram-large"), 50_000_000 - 25_000_000);
    // A name that the table does not have is no reason to start others.
    world.cluster.report_pool(of_node("dram-huge"), world.now);
    assert_eq!(offered(&world), None);
}

#[test]
fn servers_are_wanted_for_all_who_wait_and_no_more_than_there_may_be() {
    let mut world = World::new(1);
    world.cluster.report_pool(pool(4), world.now);
    let wanted = |world: &World| world.cluster.list_servers(world.now).wanted_servers;
    assert_eq!(wanted(&world), 0);
    world.mount(&job_of("gap", 6 * GIB));
    assert!(matches!(
        world.step(&job_of("a", 5 * GIB)),
        RegisterStep::Wait(..)
    ));
    assert_eq!(wanted(&world), 1);
    assert!(matches!(
        world.step(&job_of("b", 3 * GIB)),
        RegisterStep::Wait(..)
    ));
    assert_eq!(wanted(&world), 1, "both find room on one");
    assert!(matches!(
        world.step(&job_of("c", 20 * GIB)),
        RegisterStep::Wait(..)
    ));
    assert!(matches!(
        world.step(&job_of("d", GIB)),
        RegisterStep::Wait(..)
    ));
    assert_eq!(
        wanted(&world),
        1,
        "the third has to wait for others to end, and those behind for it"
    );
}

#[test]
fn where_servers_can_be_started_a_job_fills_gaps_and_leaves_the_others_free() {
    let mut world = World::new(3);
    world.cluster.report_pool(pool(3), world.now);
    let on = |reply: RegisterJobReply| {
        let map = reply.allocation.expect("has one").weight_map;
        servers_of(&map.expect("has one"))
    };
    let first = on(world.mount(&job_of("a", 3 * GIB)));
    assert_eq!(first.len(), 1);
    assert_eq!(
        on(world.mount(&job_of("b", 4 * GIB))),
        first,
        "the gap that is there"
    );
    // Another server is no reason for another map.
    world.add_storage(4, 8 * GIB);
    assert_eq!(maps(&world.pass(3)), []);
    // A server that dies is: what it had goes into gaps as well.
    world.storage.retain(|server| *server != first[0]);
    world.pass(5);
    let now: Vec<_> = world
        .jobs()
        .into_iter()
        .map(|job| {
            let map = job.allocation.expect("has one").weight_map;
            servers_of(&map.expect("has one"))
        })
        .collect();
    assert_eq!(now[0], now[1]);
    assert_eq!(now[0].len(), 1);
}

#[test]
fn servers_that_do_not_come_are_not_waited_for_by_who_can_do_without() {
    let mut world = World::new(1);
    world.cluster.report_pool(pool(4), world.now);
    // Half of what there could be.
    assert!(matches!(world.step(&job("guess")), RegisterStep::Wait(..)));
    for _ in 0..30 {
        world.cluster.report_pool(pool(4), world.now);
        assert!(matches!(world.step(&job("guess")), RegisterStep::Wait(..)));
        world.pass(1);
    }
    world.cluster.report_pool(pool(4), world.now);
    let allocation = world.mount(&job("guess")).allocation.expect("has one");
    assert!(allocation.capacity_bytes <= 8 * GIB, "{allocation:?}");
}

#[test]
fn a_place_is_kept_for_who_asks_again_and_given_up_by_who_does_not() {
    let mut world = World::new(1);
    world.mount(&job_of("all", 8 * GIB));
    let wait = |world: &mut World, name: &str| {
        assert!(matches!(
            world.step(&job_of(name, GIB)),
            RegisterStep::Wait(..)
        ));
        let ticket = world.tickets[name];
        world.cluster.keep_place(ticket, world.now).expect("waits")
    };
    let first = wait(&mut world, "first");
    let second = wait(&mut world, "second");
    assert!(
        second.sentence.starts_with("place 2 of 2 in the queue: "),
        "{second:?}"
    );
    world.pass(9);
    // The second one asks again, by its key and its name.
    assert_eq!(world.cluster.resume(second.ticket, "first"), None);
    assert_eq!(world.cluster.resume(second.ticket ^ 1, "second"), None);
    assert_eq!(world.cluster.resume(0, "second"), None);
    let ticket = world
        .cluster
        .resume(second.ticket, "second")
        .expect("is kept");
    assert_eq!(ticket, world.tickets["second"]);
    world.pass(2);
    assert_eq!(
        world.cluster.resume(first.ticket, "first"),
        None,
        "it has lapsed"
    );
    world.pass(100);
    let told = world
        .cluster
        .keep_place(ticket, world.now)
        .expect("a call was under way");
    assert!(
        told.sentence.starts_with("place 1 of 1 in the queue: "),
        "{told:?}"
    );
    world.pass(11);
    assert!(world.cluster.list_jobs("", world.now).waiting.is_empty());
}

#[test]
fn only_the_first_is_woken_and_who_waits_to_join() {
    let mut world = World::new(1);
    let all = world.mount(&job_of("all", 8 * GIB)).job;
    for name in ["first", "second", "third"] {
        assert!(matches!(
            world.step(&job_of(name, GIB)),
            RegisterStep::Wait(..)
        ));
    }
    let tickets = ["first", "second", "third"].map(|name| world.tickets[name]);
    world.cluster.take_woken(true);
    assert_eq!(world.cluster.take_woken(false), []);
    world.cluster.jobs.end(JobId(all), world.now);
    world.upkeep();
    assert!(world.cluster.take_changed());
    assert_eq!(world.cluster.take_woken(true), tickets[..1]);
    world.mount(&job_of("first", GIB));
    // Somebody else creates the job of the third.
    world.cluster.leave_queue(tickets[1]);
    world.cluster.registered.push("third".to_owned());
    assert_eq!(world.cluster.take_woken(false), tickets[2..]);
}
