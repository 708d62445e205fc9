//! Regular and long-running storage servers, and which jobs are on which.

use pocket_proto::control::{DrainServerRequest, PoolStatus, StorageClass};

use super::*;

const LONG: u64 = 50;

fn long_running(id: u64, capacity_bytes: u64) -> RegisterServerRequest {
    RegisterServerRequest {
        storage_class: StorageClass::LongRunning.into(),
        ..storage_server(id, capacity_bytes)
    }
}

fn persistent(name: &str, capacity_bytes: u64) -> RegisterJobRequest {
    RegisterJobRequest {
        persist: true,
        ..job_of(name, capacity_bytes)
    }
}

impl World {
    /// Regular servers 1, 2, ... and long-running ones 51, 52, ..., of 8 GiB each.
    fn of_both(regular: u64, long: u64) -> Self {
        let mut world = World::new(regular);
        for id in LONG + 1..=LONG + long {
            world.add_long_running(id);
        }
        world
    }

    fn add_long_running(&mut self, id: u64) {
        self.register(long_running(id, 8 * GIB));
        self.storage.push(id);
    }

    fn add_regular(&mut self, id: u64) {
        self.add_storage(id, 8 * GIB);
    }

    /// The servers of a job's map.
    fn on(&self, name: &str) -> Vec<u64> {
        let jobs = self.jobs();
        let job = jobs.iter().find(|job| job.name == name).expect("a job");
        let allocation = job.allocation.as_ref().expect("has one");
        servers_of(allocation.weight_map.as_ref().expect("has a map"))
    }

    fn waits(&mut self, request: &RegisterJobRequest) -> String {
        match self.step(request) {
            RegisterStep::Wait(failure, _) => failure.message,
            other => panic!("does not wait: {other:?}"),
        }
    }

    fn drain(&mut self, id: u64) -> Result<(), Failure> {
        let request = DrainServerRequest {
            server: format!("storage-{id}:7303"),
            ..DrainServerRequest::default()
        };
        self.cluster.drain_server(&request, self.now).map(|_| ())
    }

    /// Writes of the job wait until it may hold so much.
    fn wants(&mut self, job: u64, bytes: u64) {
        let mut held = self.held.values_mut().flatten();
        let is = |report: &&mut JobReport| report.job.as_ref().is_some_and(|held| held.job == job);
        held.find(is).expect("held").wanted_bytes = bytes;
    }
}

#[test]
fn jobs_that_persist_are_on_long_running_servers_and_others_are_not() {
    let mut world = World::of_both(2, 2);
    world.mount(&persistent("kept", 4 * GIB));
    world.mount(&job_of("sort", 4 * GIB));
    world.mount(&job("unhinted"));
    world.pass(5);
    assert_eq!(world.on("kept"), [LONG + 1, LONG + 2]);
    assert_eq!(world.on("sort"), [1, 2]);
    assert_eq!(world.on("unhinted"), [1, 2]);
    let servers = world.cluster.list_servers(world.now).servers;
    let classes = servers.iter().filter(|server| server.capacity_bytes > 0);
    let classes: Vec<_> = classes.map(|s| (s.server, s.storage_class())).collect();
    assert_eq!(classes[0], (1, StorageClass::Regular));
    assert_eq!(classes[2], (LONG + 1, StorageClass::LongRunning));
    // A new controller knows the classes as soon as the servers have registered again.
    world.restart(Duration::ZERO);
    for id in [1, 2] {
        world.add_regular(id);
        world.add_long_running(LONG + id);
    }
    world.add_metadata(META);
    world.pass(5);
    assert_eq!(world.on("kept"), [LONG + 1, LONG + 2]);
    assert_eq!(world.on("sort"), [1, 2]);
}

#[test]
fn jobs_that_persist_follow_when_there_come_to_be_long_running_servers() {
    let mut world = World::of_both(2, 0);
    world.mount(&persistent("small", 4 * GIB));
    world.mount(&persistent("large", 10 * GIB));
    world.pass(5);
    assert_eq!(
        (world.on("small"), world.on("large")),
        (vec![1, 2], vec![1, 2])
    );
    // What does not fit there as a whole stays.
    world.add_long_running(LONG + 1);
    world.pass(5);
    assert_eq!(
        (world.on("small"), world.on("large")),
        (vec![LONG + 1], vec![1, 2])
    );
    world.add_long_running(LONG + 2);
    world.pass(5);
    assert_eq!(world.on("large"), [LONG + 1, LONG + 2]);
    // If they all die new data must go somewhere.
    world.pass_without(10, &[LONG + 1, LONG + 2]);
    assert_eq!(
        (world.on("small"), world.on("large")),
        (vec![1, 2], vec![1, 2])
    );
    world.pass(5);
    assert_eq!(
        (world.on("small"), world.on("large")),
        (vec![LONG + 1, LONG + 2], vec![LONG + 1, LONG + 2])
    );
}

#[test]
fn a_server_that_becomes_long_running_is_left_by_regular_jobs() {
    let mut world = World::of_both(2, 0);
    world.mount(&job_of("sort", 4 * GIB));
    assert_eq!(world.on("sort"), [1, 2]);
    world.register(long_running(2, 8 * GIB));
    world.pass(5);
    assert_eq!(world.on("sort"), [1]);
}

#[test]
fn where_long_running_servers_are_full_jobs_that_persist_wait_and_others_pass_by() {
    let mut world = World::of_both(1, 1);
    world.mount(&persistent("first", 6 * GIB));
    let told = world.waits(&persistent("second", 4 * GIB));
    for part in [
        "place 1 of 1 in the queue for long-running servers",
        "2GiB free of 8GiB on 1 storage server",
        "pocket storage --class long-running",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(world.mount(&job_of("sort", 6 * GIB)).created);
    let told = world.waits(&job_of("video", 4 * GIB));
    assert!(told.starts_with("place 1 of 1 in the queue: "), "{told}");
    // Nobody starts servers for who waits for long-running ones.
    let listed = world.cluster.list_servers(world.now);
    assert_eq!((listed.waiting, listed.wanted_bytes), (1, 4 * GIB));
    let told = world.waits(&persistent("third", GIB));
    assert!(
        told.starts_with("place 2 of 2 in the queue for long-running"),
        "{told}"
    );
    world.deregister("first");
    world.pass(2);
    assert!(world.mount(&persistent("second", 4 * GIB)).created);
    assert_eq!(world.on("second"), [LONG + 1]);
}

#[test]
fn what_can_never_fit_is_refused_with_the_class_it_would_need() {
    let mut world = World::of_both(2, 1);
    for (request, says) in [
        (
            persistent("huge", 9 * GIB),
            "pocket storage --class long-running",
        ),
        (
            job_of("huge", 17 * GIB),
            "long-running servers do not count",
        ),
    ] {
        let RegisterStep::Refused(refused) = world.step(&request) else {
            panic!("cannot ever be placed");
        };
        assert!(refused.message.contains(says), "{refused}");
    }
    // With long-running servers alone a regular job waits for others.
    let mut world = World::of_both(0, 1);
    let told = world.waits(&job("sort"));
    assert!(told.contains("no storage server is alive"), "{told}");
    assert!(told.contains("jobs with --persist alone"), "{told}");
}

#[test]
fn who_waits_goes_on_when_the_class_it_waits_for_comes_to_be() {
    let mut world = World::of_both(1, 0);
    world.mount(&job_of("sort", 8 * GIB));
    let told = world.waits(&persistent("kept", 4 * GIB));
    assert!(!told.contains("long-running"), "{told}");
    world.add_long_running(LONG + 1);
    assert_eq!(world.cluster.take_woken(true).len(), 1);
    assert!(world.mount(&persistent("kept", 4 * GIB)).created);
    assert_eq!(world.on("kept"), [LONG + 1]);
}

#[test]
fn a_persistent_job_grows_on_long_running_servers_only() {
    let mut world = World::of_both(2, 2);
    let id = world.mount(&persistent("kept", 2 * GIB)).job;
    world.set_mounts(id, 1);
    world.wants(id, 4 * GIB);
    world.pass(5);
    let grown = world.jobs()[0].reserved_bytes;
    assert!(grown >= 4 * GIB, "{grown}");
    // Room on regular servers is none of its own.
    world.wants(id, 20 * GIB);
    world.pass(5);
    assert_eq!(world.on("kept"), [LONG + 1, LONG + 2]);
    let job = &world.jobs()[0];
    assert!(job.reserved_bytes <= 16 * GIB, "{job:?}");
    let capacity = job.allocation.as_ref().map(|given| given.capacity_bytes);
    assert!(capacity.is_some_and(|bytes| bytes <= 16 * GIB), "{job:?}");
    let listed = world.cluster.list_servers(world.now);
    assert_eq!((listed.waiting, listed.wanted_servers), (0, 0));
}

#[test]
fn a_drained_server_is_replaced_by_those_of_its_class_and_the_last_of_one_stays() {
    let mut world = World::of_both(2, 2);
    world.mount(&persistent("kept", 4 * GIB));
    world.mount(&job_of("sort", 4 * GIB));
    assert_eq!(world.drain(LONG + 1), Ok(()));
    assert_eq!(world.drain(1), Ok(()));
    world.pass(3);
    // Blocks that move go where the newest map says.
    assert_eq!(
        (world.on("kept"), world.on("sort")),
        (vec![LONG + 2], vec![2])
    );
    for (id, says) in [
        (
            LONG + 2,
            "the last long-running storage server that takes data",
        ),
        (2, "the last regular storage server that takes data"),
    ] {
        let refused = world.drain(id).expect_err("the last one");
        assert!(refused.message.contains(says), "{refused}");
        assert!(
            refused.message.contains("start another one first"),
            "{refused}"
        );
    }
}

#[test]
fn long_running_servers_do_not_count_among_those_that_are_started_and_ended() {
    let mut world = World::of_both(1, 1);
    let pool = PoolStatus {
        servers_max: 2,
        capacity_bytes: 8 * GIB,
        ..PoolStatus::default()
    };
    world.cluster.report_pool(pool, world.now);
    world.mount(&job_of("sort", 8 * GIB));
    // One more can be started, though there are two servers already.
    let told = world.waits(&job_of("video", 8 * GIB));
    assert!(
        told.contains("waits for storage servers that start: 1 more"),
        "{told}"
    );
    assert_eq!(world.cluster.list_servers(world.now).wanted_servers, 1);
    // For a job that persists none is started.
    world.mount(&persistent("kept", 8 * GIB));
    let told = world.waits(&persistent("more", 8 * GIB));
    assert!(
        told.contains("all 8GiB on 1 storage server are given"),
        "{told}"
    );
    assert_eq!(world.cluster.list_servers(world.now).wanted_servers, 1);
}
