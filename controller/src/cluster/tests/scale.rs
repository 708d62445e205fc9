//! How long a registration takes where there is much of everything.

use nix::time::ClockId;
use pocket_proto::control::PoolStatus;

use super::*;

const SERVERS: u64 = 5_000;
const JOBS: u64 = 10_000;
const REGISTRATIONS: usize = 301;
const LIMIT: Duration = Duration::from_millis(10);

#[test]
fn a_registration_is_decided_in_ten_milliseconds_among_5000_servers_and_10000_jobs() {
    let mut world = World::new(0);
    for id in (1..=SERVERS).map(|id| META + id) {
        world.register(RegisterServerRequest {
            bandwidth_bytes_per_second: 1_000_000_000,
            ..storage_server(id, 60 * GIB)
        });
    }
    let request = |number: u64| RegisterJobRequest {
        hints: Some(Hints {
            capacity_bytes: Some(10 * GIB),
            bandwidth_bytes_per_second: Some(300_000_000),
            ..Hints::default()
        }),
        ..job(&format!("job-{number}"))
    };
    // The others are learned of, as after a restart: each on 50 servers.
    let RegisterStep::Create(Command {
        action: Action::Create(spec),
        ..
    }) = world.step(&request(0))
    else {
        panic!("there is room");
    };
    let named: Vec<_> = spec
        .weight_map
        .iter()
        .flat_map(|map| &map.servers)
        .collect();
    let running = (1..JOBS).map(|number| {
        let servers = (0..50).map(|at| WeightedServer {
            server: named[0].server.clone().map(|server| StorageServer {
                server: META + 1 + (number * 50 + at) % SERVERS,
                ..server
            }),
            weight: 1,
            ..WeightedServer::default()
        });
        let job = CreateJobRequest {
            job: number,
            name: format!("job-{number}"),
            weight_map: Some(WeightMap {
                epoch: 1,
                servers: servers.collect(),
                ..WeightMap::default()
            }),
            ..(*spec).clone()
        };
        JobReport {
            job: Some(job),
            ..JobReport::default()
        }
    });
    world.held.insert(META, running.collect());
    world.heartbeat(META);
    assert_eq!(world.jobs().len() as u64, JOBS - 1);

    decide("spread over servers that are there", &mut world, |number| {
        request(JOBS + number)
    });
    // Where servers can be started gaps are filled, and others wait behind.
    let pool = PoolStatus {
        servers_max: SERVERS as u32 + 100,
        capacity_bytes: 60 * GIB,
        bandwidth_bytes_per_second: 1_000_000_000,
        ..PoolStatus::default()
    };
    world.cluster.report_pool(pool, world.now);
    decide(
        "filling gaps where servers can be started",
        &mut world,
        |number| request(2 * JOBS + number),
    );
}

/// What this thread has had of a processor: others that want it, too, are no part of a decision.
fn on_processor() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().expect("every Linux has this clock").into()
}

/// Registers jobs, and tells how long each took to be decided.
fn decide(how: &str, world: &mut World, request: impl Fn(u64) -> RegisterJobRequest) {
    let mut times: Vec<_> = (0..REGISTRATIONS as u64)
        .map(|number| {
            let request = request(number);
            let begin = on_processor();
            let step = world.step(&request);
            let time = on_processor() - begin;
            let RegisterStep::Create(command) = step else {
                panic!("there is room: {step:?}");
            };
            world.cluster.finished(&command, Ok(()), world.now);
            time
        })
        .collect();
    times.sort_unstable();
    let [median, p99, worst] =
        [50, 99, 100].map(|percent| times[(REGISTRATIONS - 1) * percent / 100]);
    println!("{how}, of {REGISTRATIONS}: median {median:?}, p99 {p99:?}, worst {worst:?}");
    assert!(median < LIMIT, "{median:?}");
}
