//! What jobs move, and what servers are told to hold them to.

use pocket_proto::control::{JobLimit, JobTraffic};

use super::*;

const MB_PER_S: u64 = 1_000_000;

fn world_of(bytes_per_second: u64) -> World {
    let mut world = World::new(0);
    world.register(RegisterServerRequest {
        bandwidth_bytes_per_second: bytes_per_second,
        ..storage_server(1, 8 * GIB)
    });
    world.storage.push(1);
    world
}

fn mount(world: &mut World, name: &str, bytes_per_second: u64) -> u64 {
    let request = job_of(name, GIB);
    let hints = Hints {
        bandwidth_bytes_per_second: Some(bytes_per_second),
        ..request.hints.expect("has hints")
    };
    let id = world.mount(&RegisterJobRequest {
        hints: Some(hints),
        ..request
    });
    world.set_mounts(id.job, 1);
    id.job
}

/// A second passes in which jobs moved so many MB on server 1; whom it shall limit to how many.
fn second(world: &mut World, moved: &[(u64, u64)]) -> Vec<(u64, u64)> {
    world.pass(1);
    let traffic = moved.iter().map(|(job, megabytes)| JobTraffic {
        job: *job,
        bytes_per_second: megabytes * MB_PER_S,
        held_back: false,
    });
    let request = HeartbeatRequest {
        server: 1,
        incarnation: 1,
        traffic: traffic.collect(),
        ..HeartbeatRequest::default()
    };
    let limits = world.cluster.heartbeat(request, world.now).limits;
    let told = |limit: &JobLimit| (limit.job, limit.bytes_per_second / MB_PER_S);
    limits.iter().map(told).collect()
}

#[test]
fn a_job_above_its_allocation_is_limited_while_others_need_what_it_takes() {
    let mut world = world_of(1_000 * MB_PER_S);
    let greedy = mount(&mut world, "greedy", 100 * MB_PER_S);
    let other = mount(&mut world, "other", 600 * MB_PER_S);
    assert_eq!(second(&mut world, &[(greedy, 900)]), []);
    let both = second(&mut world, &[(greedy, 900), (other, 100)]);
    assert_eq!(both, [(greedy, 800)]);
    let both = second(&mut world, &[(greedy, 600), (other, 400)]);
    assert_eq!(both, [(greedy, 400)]);
    assert_eq!(second(&mut world, &[(greedy, 400)]), []);
    // One that ended is not known any more.
    let unknown = second(&mut world, &[(77, 900), (other, 300)]);
    assert_eq!(unknown, [(77, 400)]);
}

#[test]
fn nobody_is_limited_where_nobody_knows_what_a_server_moves() {
    let mut world = world_of(0);
    let greedy = mount(&mut world, "greedy", 100 * MB_PER_S);
    let other = mount(&mut world, "other", 600 * MB_PER_S);
    assert_eq!(second(&mut world, &[(greedy, 9_000), (other, 1)]), []);
}

#[test]
fn what_a_job_moves_is_shown_and_remembered_for_its_next_run() {
    let mut world = world_of(1_000 * MB_PER_S);
    let id = mount(&mut world, "nightly", 100 * MB_PER_S);
    for report in world.held.values_mut().flatten() {
        (report.used_bytes, report.inodes) = (GIB, 64);
    }
    second(&mut world, &[(id, 300)]);
    second(&mut world, &[(id, 200)]);
    let shown = &world.jobs()[0];
    assert_eq!(shown.bytes_per_second, 200 * MB_PER_S);
    assert_eq!(shown.peak_bytes_per_second, 300 * MB_PER_S);
    world.pass(4);
    assert_eq!(world.jobs()[0].bytes_per_second, 0, "it rests");
    world.deregister("nightly");
    world.pass(1);
    let runs = world.cluster.list_runs("nightly").runs;
    let run = runs.first().expect("is remembered");
    assert_eq!(run.bytes_per_second, 300 * MB_PER_S);
    assert_eq!((run.capacity_bytes, run.object_bytes), (GIB, GIB / 64));
    let again = world.mount(&job("nightly"));
    let given = again.allocation.expect("is told");
    assert_eq!(given.bandwidth_bytes_per_second, 315 * MB_PER_S);
}

#[test]
fn an_ended_job_is_shown_with_what_it_cost_in_all() {
    let mut world = world_of(1_000 * MB_PER_S);
    mount(&mut world, "x", 100 * MB_PER_S);
    world.pass(10);
    world.deregister("x");
    world.pass(5);
    let listed = world.cluster.list_jobs("x", world.now);
    assert_eq!(listed.jobs, []);
    let [ended] = &listed.ended[..] else {
        panic!("remembered: {:?}", listed.ended);
    };
    assert!(ended.ended && ended.nanodollars > 0, "{ended:?}");
    assert_eq!((ended.nanodollars_per_hour, ended.reserved_bytes), (0, 0));
    assert!((4..=5).contains(&ended.ended_seconds_ago));
    let [dram] = &ended.tiers[..] else {
        panic!("one tier: {:?}", ended.tiers);
    };
    assert_eq!(dram.tier, "dram");
    // Ten seconds, and until the next look.
    assert!(
        (10 * GIB..=11 * GIB).contains(&dram.byte_seconds),
        "{dram:?}"
    );
    assert!((1_000 * MB_PER_S..=1_100 * MB_PER_S).contains(&dram.bandwidth_bytes));
    assert_eq!(world.cluster.list_jobs("y", world.now).ended, []);
}
