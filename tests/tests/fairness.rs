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

/// What a job is promised, and the last sentence of why.
fn promised(cluster: &ProcessCluster, job: &str) -> (u64, String) {
    let jobs = cluster.control().jobs().unwrap();
    let job = jobs.into_iter().find(|found| found.name == job).unwrap();
    let reasons = job.allocation.unwrap().reasons;
    let last = reasons.last().cloned().unwrap_or_default();
    (job.reserved_bytes_per_second, last)
}

#[test]
fn a_job_that_moves_more_than_was_guessed_is_promised_more_and_gives_it_back() {
    let shape = Shape {
        storage_servers: 1,
        // 500 MB/s.
        storage_bandwidth: Some("4Gb/s"),
        ..Shape::default()
    };
    with_shape(shape, |cluster| {
        let mount = cluster.mount_with("busy", &["--capacity", "64MiB"]);
        // A task's.
        let guessed = 75 * MB_PER_S;
        assert_eq!(promised(cluster, "busy").0, guessed);
        let writes = Writer::start(mount.join("f"));
        until(PATIENCE, "the job to be promised more", || {
            let (promised, why) = promised(cluster, "busy");
            promised > guessed + guessed / 10
                && why.starts_with("it moves")
                && why.ends_with("are reserved now")
        });
        drop(writes);
        until(PATIENCE, "the job to give it back", || {
            let (promised, why) = promised(cluster, "busy");
            promised == guessed && why.starts_with("it moves far less than")
        });
        mount.finish();
    });
}
