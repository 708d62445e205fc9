//! A cluster with two mounts under a mixed load for any length of time, and whether it stays flat.
//!
//! Small files are written, written anew, read and removed by two workers ([`crate::load`]); a third
//! keeps some large files of which the oldest goes, a fourth makes, renames, lists and removes
//! directories of tiny files. Jobs with a mount of their own come and go, and every so often a
//! storage server joins and is drained. Every byte that is read is compared.
//!
//! Meanwhile all gauges on the pages of metrics of every lasting process are sampled, the memory,
//! descriptors and threads of the process among them. A gauge is flat if its median in the last
//! quarter of the time is at most that of the second quarter plus a tenth and a little more: 8 MiB
//! of bytes, 8 descriptors or threads, 64 of what is counted otherwise. (The first quarter is for
//! warming up.) Rates are not looked at, nor what servers and jobs that come and go add to capacities and
//! reservations, nor the number of leased objects, which tells how many were leased within the last minute. In the end the job is removed, and nothing may be left on any server.

mod flat;
mod work;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

pub use flat::Row;
use flat::Samples;

use crate::{
    ProcessCluster, Shape, content,
    load::{Answers, Load},
    metrics, until,
};

/// Samples of a run; they are an interval apart that is neither shorter nor longer than these.
const SAMPLES: u32 = 200;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How long a drained server may take to end.
const LEAVE_DEADLINE: Duration = Duration::from_secs(60);
/// Until what sessions held is given back, and told.
const END_DEADLINE: Duration = Duration::from_secs(20);
const CAPACITY: &str = "512MiB";
const SERVERS: usize = 3;
const GUEST_BYTES: usize = 4 << 20;

/// Goes on until it is told to stop.
type Work = fn(&[PathBuf; 2], &AtomicBool);

/// Runs the load for `length`, and answers what became of each gauge. Panics if anything that is read
/// is wrong, or anything is left over at the end.
pub fn soak(length: Duration) -> Vec<Row> {
    let mut cluster = ProcessCluster::start(&Shape {
        storage_servers: SERVERS,
        storage_capacity: CAPACITY,
        ..Shape::default()
    });
    let mut load = Load::with(&mut cluster, "soak", &["--metrics", "127.0.0.1:0"]);
    let pages = pages(&mut cluster, &mut load);
    let (stop, end) = (Arc::new(AtomicBool::new(false)), Instant::now() + length);
    let (stop_sampling, stopped) = mpsc::channel::<()>();
    let interval = (length / SAMPLES).clamp(INTERVAL_MIN, INTERVAL_MAX);
    let sampler = std::thread::spawn(move || sample(&pages, interval, &stopped));
    let others = [work::large_files as Work, work::directories].map(|work| {
        let (roots, stop) = (load.roots(), Arc::clone(&stop));
        std::thread::spawn(move || work(&roots, &stop))
    });
    let mut rounds = Rounds::default();
    while Instant::now() < end {
        rounds.next(&mut load, &mut cluster);
        let failed = others.iter().any(|other| other.is_finished());
        assert!(!failed, "a worker has failed");
    }
    rounds.end(&mut cluster);
    drop(stop_sampling);
    stop.store(true, Ordering::Relaxed);
    for other in others {
        other.join().expect("a worker has failed");
    }
    let samples = sampler.join().expect("pages can be read");
    load.remove_files();
    cluster.check_account(|bytes| bytes == 0);
    load.finish();
    let ended = cluster.control().deregister("soak");
    assert!(ended.expect("the controller answers"));
    let metadata = cluster.metadata().metrics().to_owned();
    for gauge in ["jobs", "sessions", "inodes", "leased_objects"] {
        let gauge = &format!("pocket_meta_{gauge}");
        until(END_DEADLINE, gauge, || {
            metrics::gauges(&metrics::http(&metadata, "/metrics")).get(gauge) == Some(&0.0)
        });
    }
    cluster.finish();
    samples.rows()
}

/// The lasting processes, and where their pages are.
fn pages(cluster: &mut ProcessCluster, load: &mut Load) -> Vec<(String, String)> {
    let mut pages = vec![
        (
            "controller".to_owned(),
            cluster.controller().metrics().to_owned(),
        ),
        (
            "metadata".to_owned(),
            cluster.metadata().metrics().to_owned(),
        ),
    ];
    for index in 0..SERVERS {
        let endpoint = cluster.storage(index).metrics().to_owned();
        pages.push((format!("storage {index}"), endpoint));
    }
    for (index, mount) in (0..).zip(load.mounts()) {
        pages.push((format!("mount {index}"), mount.metrics()));
    }
    pages
}

/// Samples every page until the channel's other end is gone.
fn sample(pages: &[(String, String)], interval: Duration, stopped: &mpsc::Receiver<()>) -> Samples {
    let mut samples = Samples::default();
    loop {
        for (process, endpoint) in pages {
            let page = metrics::http(endpoint, "/metrics");
            samples.note(process, metrics::gauges(&page));
        }
        if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return samples;
        }
    }
}

/// What happens to the cluster under the load, one after the other.
#[derive(Default)]
struct Rounds {
    number: usize,
    joined: Option<usize>,
}

impl Rounds {
    fn next(&mut self, load: &mut Load, cluster: &mut ProcessCluster) {
        self.number += 1;
        load.around(Answers::Whole, || match (self.number % 4, self.joined) {
            (0, None) => self.joined = Some(cluster.add_storage(CAPACITY)),
            (2, Some(_)) => self.end(cluster),
            _ => guest(cluster, self.number),
        });
    }

    /// The server that has joined, if there is one, leaves.
    fn end(&mut self, cluster: &mut ProcessCluster) {
        let Some(joined) = self.joined.take() else {
            return;
        };
        let endpoint = cluster.storage(joined).endpoint().to_owned();
        until(LEAVE_DEADLINE, "the new server to be known", || {
            cluster.storage_status(joined).is_some()
        });
        let mut drain = cluster.command(&["node", "drain", &endpoint, "--deadline", "0s"]);
        let drained = drain.output().expect("the program is there");
        assert!(drained.status.success(), "{drained:?}");
        let ended = cluster.storage(joined).process().wait(LEAVE_DEADLINE);
        assert!(ended.success(), "{ended}");
    }
}

/// A job comes, is used, and goes.
fn guest(cluster: &mut ProcessCluster, number: usize) {
    let mount = cluster.mount("guest");
    let expected = content(number, GUEST_BYTES);
    fs::write(mount.join("f"), &expected).expect("there is room");
    let found = fs::read(mount.join("f")).expect("it was written");
    assert!(found == expected, "a guest's file is wrong");
    mount.finish();
    let ended = cluster.control().deregister("guest");
    assert!(ended.expect("the controller answers"));
}
