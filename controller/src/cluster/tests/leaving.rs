//! Storage servers that leave, and the pool they belong to.

use pocket_proto::control::{DrainServerRequest, Leave, LeaveStage, PoolStatus};

use super::*;

fn drain(world: &mut World, id: u64, deadline_seconds: Option<u64>) {
    let request = DrainServerRequest {
        server: endpoint(id),
        undo: false,
        reason: "a test".to_owned(),
        deadline_seconds,
    };
    let drained = world.cluster.drain_server(&request, world.now);
    assert!(drained.expect("it can be drained").leave.is_some());
}

fn endpoint(id: u64) -> String {
    storage_server(id, GIB).endpoint
}

fn undo(world: &mut World, id: u64) -> Result<(), Failure> {
    let request = DrainServerRequest {
        server: ServerId(id).to_string(),
        undo: true,
        ..DrainServerRequest::default()
    };
    world.cluster.drain_server(&request, world.now).map(|_| ())
}

fn stage(world: &World, id: u64) -> Option<LeaveStage> {
    let servers = world.cluster.list_servers(world.now).servers;
    let found = servers.into_iter().find(|server| server.server == id)?;
    Some(found.leave.map_or(LeaveStage::Stays, |leave| leave.stage()))
}

/// A job that is mounted throughout.
fn run_job(world: &mut World) {
    let id = world.mount(&job("job")).job;
    world.set_mounts(id, 1);
}

fn named(world: &World) -> Vec<u64> {
    let allocation = world.jobs()[0].allocation.clone().unwrap_or_default();
    let map = allocation.weight_map.unwrap_or_default();
    let servers = map
        .servers
        .into_iter()
        .filter_map(|weighted| weighted.server);
    servers.map(|server| server.server).collect()
}

#[test]
fn a_server_that_is_drained_is_in_no_new_map_and_goes_when_no_job_needs_it() {
    let mut world = World::new(3);
    run_job(&mut world);
    world.used.insert(1, GIB);
    assert_eq!(named(&world), [1, 2, 3]);
    drain(&mut world, 1, None);
    world.upkeep();
    assert_eq!(named(&world), [2, 3], "at once");
    world.pass(60);
    assert_eq!(
        stage(&world, 1),
        Some(LeaveStage::Closed),
        "it is not empty"
    );
    world.used.remove(&1);
    world.pass(3);
    assert_eq!(stage(&world, 1), Some(LeaveStage::Sealed));
    let told = world.heartbeat(META).evacuate;
    assert_eq!(told.iter().map(|s| s.server).collect::<Vec<_>>(), [1]);
    world.pass(10);
    assert_eq!(stage(&world, 1), Some(LeaveStage::Sealed), "a job needs it");
    world.evacuated.push(1);
    world.pass(3);
    assert_eq!(stage(&world, 1), None, "it was dismissed and left");
    assert_eq!(world.leaves[&1].stage(), LeaveStage::Gone);
}

#[test]
fn a_deadline_ends_the_waiting_and_then_there_is_no_way_back() {
    let mut world = World::new(2);
    run_job(&mut world);
    world.used.insert(1, GIB);
    drain(&mut world, 1, Some(20));
    world.pass(10);
    assert_eq!(undo(&mut world, 1), Ok(()));
    world.pass(2);
    assert_eq!(named(&world), [1, 2]);
    assert_eq!(world.leaves.get(&1), None, "the server knows");
    drain(&mut world, 1, Some(20));
    world.pass(19);
    assert_eq!(stage(&world, 1), Some(LeaveStage::Closed));
    world.pass(3);
    assert_eq!(stage(&world, 1), Some(LeaveStage::Sealed));
    let refused = undo(&mut world, 1).expect_err("blocks are being moved");
    assert!(refused.message.contains("start another one"), "{refused}");
}

#[test]
fn a_new_controller_goes_on_where_the_last_one_was() {
    let mut world = World::new(2);
    run_job(&mut world);
    world.used.insert(1, GIB);
    drain(&mut world, 1, Some(30));
    world.pass(10);
    world.restart(Duration::from_secs(3));
    world.add_metadata(META);
    for id in [1, 2] {
        let leave = world.leaves.get(&id).cloned().map(|leave| Leave {
            since_seconds: 10,
            ..leave
        });
        world.register(RegisterServerRequest {
            leave,
            ..storage_server(id, 8 * GIB)
        });
    }
    world.pass(10);
    assert_eq!(
        (stage(&world, 1), named(&world)),
        (Some(LeaveStage::Closed), vec![2])
    );
    world.pass(13);
    assert_eq!(stage(&world, 1), Some(LeaveStage::Sealed), "in time");
}

#[test]
fn a_metadata_server_that_a_new_controller_hears_of_late_keeps_its_jobs() {
    for reached in [LeaveStage::Closed, LeaveStage::Sealed] {
        let mut world = World::new(1);
        run_job(&mut world);
        world.restart(Duration::from_secs(3));
        world.pass_without(10, &[META, 1]);
        let leave = Leave {
            stage: reached.into(),
            ..Leave::default()
        };
        world.register(RegisterServerRequest {
            leave: Some(leave.clone()),
            ..metadata_server(META)
        });
        // Before it has said which jobs it has, and after.
        world.upkeep();
        assert_eq!(stage(&world, META), Some(reached));
        world.leaves.insert(META, leave);
        world.pass_without(5, &[1]);
        assert_eq!(
            (stage(&world, META), world.jobs().len()),
            (Some(reached), 1)
        );
    }
}

#[test]
fn no_deadline_is_too_far_away() {
    let mut world = World::new(2);
    run_job(&mut world);
    world.used.insert(1, GIB);
    drain(&mut world, 1, Some(u64::MAX));
    world.pass(10);
    assert_eq!(stage(&world, 1), Some(LeaveStage::Closed));
}

#[test]
fn the_last_server_stays_and_the_dead_are_not_drained() {
    let mut world = World::new(2);
    run_job(&mut world);
    drain(&mut world, 1, None);
    let last = DrainServerRequest {
        server: endpoint(2),
        ..DrainServerRequest::default()
    };
    let refused = world.cluster.drain_server(&last, world.now);
    assert!(refused.is_err_and(|failure| failure.message.contains("last storage server")));
    world.pass_without(10, &[1]);
    let dead = DrainServerRequest {
        server: endpoint(1),
        ..DrainServerRequest::default()
    };
    let refused = world.cluster.drain_server(&dead, world.now);
    assert!(refused.is_err_and(|failure| failure.message.contains("dead")));
}

#[test]
fn a_job_waits_for_servers_that_can_be_started() {
    let mut world = World::new(1);
    let big = job_of("big", 20 * GIB);
    assert!(matches!(world.step(&big), RegisterStep::Refused(_)));
    let pool = PoolStatus {
        servers_max: 3,
        servers: 1,
        capacity_bytes: 8 * GIB,
        ..PoolStatus::default()
    };
    world.cluster.report_pool(pool, world.now);
    assert!(matches!(world.step(&big), RegisterStep::Wait(..)));
    let wanted = |world: &World| world.cluster.list_servers(world.now).wanted_bytes;
    assert_eq!(wanted(&world), 20 * GIB);
    world.add_storage(2, 8 * GIB);
    world.add_storage(3, 8 * GIB);
    world.mount(&big);
    assert_eq!(wanted(&world), 0, "nobody waits any more");
    // Who has not been heard of for a while starts no servers.
    world.pass(15);
    assert!(world.cluster.list_servers(world.now).pool.is_none());
}
