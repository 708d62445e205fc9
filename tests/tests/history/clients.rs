//! The programs: a client of every workload on every mount.

use std::{
    fs::OpenOptions,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use rand::{SeedableRng, rngs::StdRng};

use super::{appends, findings::Findings, locks, names, numbers, place::Place};

type Work = fn(&[Place], u64, &AtomicBool, &Findings);

/// Each runs until it is told to stop, with a client on every mount.
pub(super) const WORKLOADS: [Work; 6] = [
    names::names,
    numbers::shared_registers,
    numbers::registers,
    appends::append,
    locks::flock,
    locks::lock_records,
];

/// Runs a client on every mount; each has dice of its own.
pub(super) fn on_all(
    places: &[Place],
    seed: u64,
    client: impl Fn(usize, &Place, &mut StdRng) + Sync,
) {
    thread::scope(|scope| {
        for (index, place) in places.iter().enumerate() {
            let client = &client;
            let seed = seed.wrapping_mul(31).wrapping_add(index as u64);
            scope.spawn(move || client(index, place, &mut StdRng::seed_from_u64(seed)));
        }
    });
}

/// Repeats rounds until told to stop.
pub(super) fn rounds(stop: &AtomicBool, mut round: impl FnMut(u64)) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        round(number);
        number += 1;
    }
}

pub(super) fn read_and_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}
