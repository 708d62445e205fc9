//! What holds after any sequence of events.

use pocket_proto::control::{PoolStatus, StorageClass};
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    /// A job, its capacity, and whether it persists.
    Register(usize, Option<u64>, bool),
    Deregister(usize),
    Mounts(usize, u32),
    Pass(u64, Vec<u64>),
    AddStorage(u64),
    NewIncarnation(u64),
    Restart,
    /// Somebody says that so many servers can be had.
    Pool(u32),
    /// A job holds so many bytes.
    Use(usize, u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5usize, proptest::option::of(1..9 * GIB), any::<bool>())
            .prop_map(|(n, c, persist)| Event::Register(n, c, persist)),
        2 => (0..5usize).prop_map(Event::Deregister),
        2 => (0..5usize, 0..3u32).prop_map(|(n, mounts)| Event::Mounts(n, mounts)),
        4 => (1..70u64, proptest::collection::vec(1..8u64, 0..4)).prop_map(|(s, d)| Event::Pass(s, d)),
        2 => (1..8u64).prop_map(Event::AddStorage),
        1 => (1..8u64).prop_map(Event::NewIncarnation),
        1 => Just(Event::Restart),
        2 => (0..8u32).prop_map(Event::Pool),
        2 => (0..5usize, 0..9 * GIB).prop_map(|(n, bytes)| Event::Use(n, bytes)),
    ]
}

/// From here on servers are long-running.
const LONG_RUNNING_FROM: u64 = 6;

fn server(id: u64) -> RegisterServerRequest {
    let class = match id < LONG_RUNNING_FROM {
        true => StorageClass::Regular,
        false => StorageClass::LongRunning,
    };
    RegisterServerRequest {
        storage_class: class.into(),
        bandwidth_bytes_per_second: 1_000_000_000,
        ..storage_server(id, 8 * GIB)
    }
}

/// No living server has promised more than it has.
fn check_promises(world: &World) {
    let servers = world.cluster.list_servers(world.now).servers;
    for server in servers
        .iter()
        .filter(|server| server.capacity_bytes > 0 && server.alive)
    {
        assert!(server.reserved_bytes <= server.capacity_bytes, "{server:?}");
        let promised = server.reserved_bandwidth_bytes_per_second;
        assert!(promised <= server.bandwidth_bytes_per_second, "{server:?}");
    }
}

/// No share of a job that does not persist is on a long-running server, and no job's data are divided
/// between the classes.
fn check_classes(world: &World) {
    for job in world.cluster.jobs.all() {
        let promised = job.shares.iter().map(|share| share.server.0);
        let map = job.spec.weight_map.as_ref().expect("has a map");
        let on: Vec<u64> = promised.chain(servers_of(map)).collect();
        let long_running = on.iter().filter(|id| **id >= LONG_RUNNING_FROM).count();
        assert!(long_running == 0 || long_running == on.len(), "{on:?}");
        assert!(long_running == 0 || job.spec.persist, "{on:?}");
    }
}

fn name(n: usize) -> String {
    format!("job-{n}")
}

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Register(n, capacity_bytes, persist) => {
            let hints = Hints {
                capacity_bytes: capacity_bytes.map(|c| c.max(4_096)),
                ..Hints::default()
            };
            let request = RegisterJobRequest {
                hints: Some(hints),
                persist,
                ..job(&name(n))
            };
            match world.step(&request) {
                RegisterStep::Create(command) => {
                    check_new_map(world, &command);
                    world.obey(&command);
                }
                RegisterStep::Wait(..) => world.give_up(&name(n)),
                RegisterStep::Done(_) | RegisterStep::Refused(_) => {}
            }
        }
        Event::Deregister(n) => {
            world.deregister(&name(n));
        }
        Event::Mounts(n, mounts) => {
            let jobs = world.jobs();
            for job in jobs.iter().filter(|job| job.name == name(n)) {
                world.set_mounts(job.job, mounts);
            }
        }
        Event::Pass(seconds, silent) => {
            world.pass_without(seconds, &silent);
        }
        Event::AddStorage(id) => world.register(server(id)),
        Event::NewIncarnation(id) => {
            let incarnation = 1_000 + id;
            world.register(RegisterServerRequest {
                incarnation,
                ..server(id)
            });
        }
        Event::Pool(servers_max) => {
            let pool = PoolStatus {
                servers_max,
                capacity_bytes: 8 * GIB,
                bandwidth_bytes_per_second: 1_000_000_000,
                ..PoolStatus::default()
            };
            world.cluster.report_pool(pool, world.now);
        }
        Event::Use(n, bytes) => {
            for report in world.held.values_mut().flatten() {
                if report.job.as_ref().is_some_and(|held| held.name == name(n)) {
                    report.used_bytes = bytes;
                }
            }
        }
        Event::Restart => {
            world.restart(Duration::ZERO);
            world.add_metadata(META);
            world.heartbeat(META);
        }
    }
}

/// A new job's map names living servers only, and its capacity is promised in full.
fn check_new_map(world: &World, command: &Command) {
    let Action::Create(spec) = &command.action else {
        return;
    };
    let servers = world.cluster.list_servers(world.now).servers;
    let map = spec.weight_map.as_ref().expect("has a map");
    assert!(!map.servers.is_empty());
    for weighted in &map.servers {
        let id = weighted.server.as_ref().expect("names a server").server;
        let server = servers.iter().find(|server| server.server == id);
        let server = server.expect("names a server that is known");
        assert!(server.alive && weighted.weight > 0);
        assert!(server.reserved_bytes <= server.capacity_bytes);
    }
}

/// Three regular servers and a long-running one, and the metadata server.
fn world() -> World {
    let mut world = World::new(0);
    world.storage = vec![1, 2, 3, LONG_RUNNING_FROM];
    for id in world.storage.clone() {
        world.register(server(id));
    }
    world
}

#[test]
fn a_server_that_is_alone_after_restarts_promises_no_more_than_it_has() {
    let mut world = world();
    for event in [
        Event::Register(2, Some(247_429_172), false),
        Event::Register(0, Some(8_342_505_421), false),
        Event::Restart,
        Event::NewIncarnation(5),
        Event::Pass(1, Vec::new()),
        Event::Restart,
        Event::AddStorage(5),
    ] {
        happen(&mut world, event);
        check_promises(&world);
    }
}

#[test]
fn a_job_whose_servers_a_new_controller_does_not_know_grows_on_none_of_another_class() {
    let mut world = world();
    for event in [
        Event::Register(0, None, true),
        Event::Restart,
        Event::Use(0, 3 << 30),
        Event::Pool(0),
        Event::AddStorage(1),
        Event::Pass(1, Vec::new()),
    ] {
        happen(&mut world, event);
        check_classes(&world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_history_leaves_sound_maps_and_ends_without_debts(
        events in proptest::collection::vec(event(), 0..30),
    ) {
        let mut world = world();
        for event in events {
            happen(&mut world, event);
            check_promises(&world);
            check_classes(&world);
        }
        // Everybody lives long enough for the maps to be right ...
        for id in 1..8 {
            world.register(server(id));
        }
        world.storage = (1..8).collect();
        world.pass(8);
        check_classes(&world);
        for job in world.jobs() {
            let held = world.held[&META].iter().filter_map(|report| report.job.as_ref());
            let held = held.into_iter().find(|held| held.job == job.job).expect("still held");
            let intended = job.allocation.expect("has one").weight_map;
            prop_assert_eq!(&held.weight_map, &intended);
            for weighted in intended.expect("has a map").servers {
                let server = weighted.server.expect("names a server");
                prop_assert_eq!(server.incarnation, server.server);
                prop_assert!(weighted.weight > 0);
            }
        }
        // ... and then all jobs end.
        for job in world.jobs() {
            world.deregister(&job.name);
        }
        world.pass(8);
        prop_assert!(world.jobs().is_empty());
        prop_assert_eq!(world.reserved_bytes(), 0);
        prop_assert!(world.held[&META].is_empty());
        prop_assert!(world.mount(&job_of("all", 40 * GIB)).created);
    }
}
