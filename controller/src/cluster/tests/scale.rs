//! How long a registration takes where there is much of everything.

use std::time::Instant as RealTime;

use super::*;

const SERVERS: u64 = 5_000;
const JOBS: usize = 10_000;
const LIMIT: Duration = Duration::from_millis(10);

#[test]
#[ignore = "a measurement: cargo test --release -p pocket-controller -- --ignored --nocapture"]
fn a_registration_is_decided_in_ten_milliseconds_among_5000_servers_and_10000_jobs() {
    let mut world = World::new(0);
    for id in (1..=SERVERS).map(|id| META + id) {
        world.register(RegisterServerRequest {
            bandwidth_bytes_per_second: 1_000_000_000,
            ..storage_server(id, 60 * GIB)
        });
    }
    let mut times = Vec::with_capacity(JOBS);
    for number in 0..JOBS {
        let request = RegisterJobRequest {
            hints: Some(Hints {
                capacity_bytes: Some(10 * GIB),
                bandwidth_bytes_per_second: Some(300_000_000),
                ..Hints::default()
            }),
            ..job(&format!("job-{number}"))
        };
        let begin = RealTime::now();
        let step = world.step(&request);
        times.push(begin.elapsed());
        let RegisterStep::Create(command) = step else {
            panic!("there is room: {step:?}");
        };
        world.cluster.finished(&command, Ok(()), world.now);
    }
    let last = &mut times[JOBS - 1_000..];
    last.sort_unstable();
    println!(
        "the last 1000 of {JOBS}: median {:?}, p99 {:?}, most {:?}",
        last[500], last[990], last[999]
    );
    assert!(last[990] < LIMIT, "{:?}", last[990]);
}
