//! Concurrent programs on three mounts of a job, with and without servers and mounts that are
//! stopped for less and for more than the lease time: what they saw can have happened on a file system that keeps its promises.
//!
//! Four workloads run side by side, each with a client on every mount: names in a directory that
//! are made, removed, renamed and linked; files whose content is a number, written and read from
//! open to close, and through descriptors that stay open; records appended to one file; locks of
//! both families, with a counter that is incremented under one. What came of it is judged by
//! [`pocket_tests::history`]. An error that says nothing of what was done may mean either.
//!
//! The run with faults takes long and is there with `--features faults` only.
//!
//! `POCKET_HISTORY_SEED` sets the seed, which a failure tells; threads make a run's course their own
//! all the same.

#![allow(clippy::unwrap_used)]

#[path = "history/clients.rs"]
mod clients;
#[cfg(feature = "faults")]
#[path = "history/faults.rs"]
mod faults;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use pocket_tests::{Mount, ProcessCluster, try_until, with_cluster};

use clients::Findings;

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

/// Runs all workloads on the mounts while something is done to them, and judges.
fn run(
    cluster: &mut ProcessCluster,
    mounts: &mut [Mount],
    disturb: impl FnOnce(&mut ProcessCluster, &mut [Mount]),
) -> Findings {
    let seed = seed();
    let roots: Vec<PathBuf> = mounts.iter().map(|mount| mount.path().to_owned()).collect();
    let (stop, findings) = (AtomicBool::new(false), Findings::prepare(&roots));
    thread::scope(|scope| {
        let (stop, findings, roots) = (&stop, &findings, roots.as_slice());
        for (work, seed) in clients::WORKLOADS.into_iter().zip(seed..) {
            scope.spawn(move || work(roots, seed, stop, findings));
        }
        // Even if that panics: the scope waits for the workloads.
        let _stop = StopOnDrop(stop);
        disturb(cluster, mounts);
    });
    findings
}

#[test]
fn what_concurrent_programs_on_three_mounts_see_can_have_happened() {
    with_cluster(|cluster| {
        let mut mounts: Vec<_> = (0..3).map(|_| cluster.mount("history")).collect();
        let findings = run(cluster, &mut mounts, |_, _| pause(UNDISTURBED));
        let tally = findings.judge(mounts[0].path());
        println!("{tally:?}");
        // A history of errors would prove little.
        assert!(tally.unknown * 50 < tally.known, "{tally:?}");
        assert!(tally.least > 50, "{tally:?}");
        mounts.into_iter().for_each(Mount::finish);
    });
}

#[cfg(feature = "faults")]
#[test]
fn what_concurrent_programs_see_while_servers_and_mounts_fail_can_have_happened() {
    pocket_tests::with_shape(faults::shape(), |cluster| {
        faults::expect(cluster);
        let mut mounts: Vec<_> = (0..3).map(|_| cluster.mount("history")).collect();
        let findings = run(cluster, &mut mounts, faults::play);
        let tally = findings.judge(mounts[0].path());
        println!("{tally:?}");
        assert!(tally.least > 20, "{tally:?}");
        mounts.into_iter().for_each(Mount::finish);
    });
}
