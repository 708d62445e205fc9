//! Jobs that share a storage server whose bandwidth is known: each finds what it was promised, and
//! what nobody else needs.

#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pocket_tests::{ProcessCluster, Shape, until, with_shape};

const MIB: usize = 1 << 20;
const MB_PER_S: u64 = 1_000_000;
/// Heartbeats come every second, and a loaded machine may take several of them to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that writes as fast as it can, until stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let piece = vec![7; MIB];
        let write = move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut file = File::create(&path).unwrap();
                for _ in 0..16 {
                    file.write_all(&piece).unwrap();
                }
            }
        };
        Writer {
            stop,
            thread: Some(thread::spawn(write)),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.thread.take().unwrap().join();
        assert!(written.is_ok() || thread::panicking(), "writing failed");
    }
}

/// What a job moves, as the controller knows it.
fn moves(cluster: &ProcessCluster, job: &str) -> u64 {
    let jobs = cluster.control().jobs().unwrap();
    let job = jobs.iter().find(|found| found.name == job);
    job.unwrap().bytes_per_second
}

#[test]
fn a_job_above_its_allocation_is_slowed_when_and_only_when_another_needs_it() {
    let shape = Shape {
        storage_servers: 1,
        // 50 MB/s.
        storage_bandwidth: Some("400Mb/s"),
        ..Shape::default()
    };
    with_shape(shape, |cluster| {
        // 5 and 30 MB/s.
        let greedy =
            cluster.mount_with("greedy", &["--bandwidth", "40Mb/s", "--capacity", "64MiB"]);
        let other = cluster.mount_with("other", &["--bandwidth", "240Mb/s", "--capacity", "64MiB"]);
        let greedily = Writer::start(greedy.join("f"));
        // Alone it may have more than the server was said to move.
        until(PATIENCE, "the greedy job to have all there is", || {
            moves(cluster, "greedy") > 60 * MB_PER_S
        });
        let writes = Writer::start(other.join("f"));
        until(PATIENCE, "the other to have its share", || {
            moves(cluster, "other") > 30 * MB_PER_S && moves(cluster, "greedy") < 25 * MB_PER_S
        });
        drop(writes);
        until(
            PATIENCE,
            "the greedy job to have all there is again",
            || moves(cluster, "greedy") > 60 * MB_PER_S,
        );
        drop(greedily);
        greedy.finish();
        other.finish();
    });
}
