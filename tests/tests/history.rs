//! Concurrent programs on three mounts of a job, undisturbed, and while servers and mounts are
//! stopped for less and for more than the lease time, and killed: what they saw can have happened on
//! a file system that keeps its promises.
//!
//! Six workloads run side by side, each with a client on every mount: names in a directory that
//! are made, removed, renamed and linked; files whose content is a number, written and read from
//! open to close, and through descriptors that stay open; records appended to files; locks of
//! both families, with a counter that is incremented under one. What came of it is judged by
//! [`pocket_tests::history`]. An error that says nothing of what was done may mean either; programs
//! of a mount that was killed open their files anew on the next.
//!
//! `POCKET_HISTORY_SEED` sets the seed, which a failure tells; threads make a run's course their own
//! all the same.

#![allow(clippy::unwrap_used)]

#[path = "history/appends.rs"]
mod appends;
#[path = "history/clients.rs"]
mod clients;
#[path = "history/faults.rs"]
mod faults;
#[path = "history/findings.rs"]
mod findings;
#[path = "history/locks.rs"]
mod locks;
#[path = "history/names.rs"]
mod names;
#[path = "history/numbers.rs"]
mod numbers;
#[path = "history/place.rs"]
mod place;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use pocket_tests::{Mount, ProcessCluster, Shape, try_until, with_cluster, with_shape};

use findings::{Blocks, Findings};
use place::Place;

/// How long the workloads run undisturbed.
const UNDISTURBED: Duration = Duration::from_secs(6);

fn seed() -> u64 {
    let seed = std::env::var("POCKET_HISTORY_SEED").map_or_else(
        |_| rand::random::<u64>() >> 32,
        |text| text.parse().expect("a seed is a number"),
    );
    println!("POCKET_HISTORY_SEED={seed}");
    seed
}

/// Lets time pass.
fn pause(time: Duration) {
    let _ = try_until(time, || None::<()>);
}

/// Tells the workloads to stop.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Three mounts of a job with blocks so small that files have several.
fn mounts(cluster: &mut ProcessCluster) -> Vec<Mount> {
    let mount = |_| cluster.mount_with("history", &["--block-size", "64KiB"]);
    (0..3).map(mount).collect()
}

/// Runs all workloads on the mounts while something is done to them.
fn run(
    cluster: &mut ProcessCluster,
    mounts: &mut [Mount],
    disturb: impl FnOnce(&mut ProcessCluster, &mut [Mount], &[Place]),
) -> Findings {
    let seed = seed();
    let places: Vec<_> = mounts
        .iter()
        .map(|mount| Place::new(mount.path()))
        .collect();
    let (stop, findings) = (AtomicBool::new(false), Findings::prepare(mounts[0].path()));
    thread::scope(|scope| {
        let (stop, findings, places) = (&stop, &findings, places.as_slice());
        for (work, seed) in clients::WORKLOADS.into_iter().zip(seed..) {
            scope.spawn(move || work(places, seed, stop, findings));
        }
        // Even if that panics: the scope waits for the workloads.
        let _stop = StopOnDrop(stop);
        disturb(cluster, mounts, places);
    });
    findings
}

#[test]
fn what_concurrent_programs_on_three_mounts_see_can_have_happened() {
    with_cluster(|cluster| {
        let mut mounts = mounts(cluster);
        let findings = run(cluster, &mut mounts, |_, _, _| pause(UNDISTURBED));
        let tally = findings.judge(mounts[0].path(), Blocks::AllThere);
        println!("{tally:?}");
        // A history of errors would prove little.
        assert!(tally.unknown * 50 < tally.known, "{tally:?}");
        assert!(tally.least > 50, "{tally:?}");
        mounts.into_iter().for_each(Mount::finish);
    });
}

#[test]
fn what_concurrent_programs_see_while_servers_and_mounts_fail_can_have_happened() {
    with_shape(Shape::default(), |cluster| {
        faults::expect(cluster);
        let mut mounts = mounts(cluster);
        let findings = run(cluster, &mut mounts, faults::play);
        let tally = findings.judge(mounts[0].path(), Blocks::SomeLost);
        println!("{tally:?}");
        assert!(tally.least > 20, "{tally:?}");
        mounts.into_iter().for_each(Mount::finish);
    });
}
