//! Power cuts: of what was not synced, any sectors are gone.

use std::{collections::BTreeMap, sync::Arc};

use pocket_proto::{InodeId, Status};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{FIRST, JOB, open};
use crate::engine::{
    log::{Doubt, LogEngine, Survival},
    tests::{LogInMemory, Subject, address, bytes, log_config, now},
};

const CAPACITY: u64 = 2 << 20;
const FILES: u64 = 12;

/// Every content that a file has had since the last sync, the first being of then.
type Versions = BTreeMap<u64, Vec<Vec<u8>>>;

fn step(log: &LogInMemory, versions: &mut Versions, random: &mut StdRng) {
    let inode = random.random_range(1..=FILES);
    let versions = versions.entry(inode).or_insert_with(|| vec![Vec::new()]);
    let mut held = versions.last().cloned().unwrap_or_default();
    match random.random_range(0..8) {
        0 => {
            log.remove_inodes(JOB, &[InodeId(inode)]);
            held.clear();
        }
        1 => {
            let keep = random.random_range(1..30_000);
            log.truncate(JOB, InodeId(inode), FIRST, keep as u32);
            held.truncate(keep);
        }
        _ => {
            let offset = random.random_range(0..2) * random.random_range(0..20_000);
            let data = bytes(random.random_range(1..40_000), random.random());
            log.write(JOB, InodeId(inode), FIRST, offset as u32, data.clone())
                .unwrap();
            let end = offset + data.len();
            held.resize(held.len().max(end), 0);
            held[offset..end].copy_from_slice(&data);
        }
    }
    versions.push(held);
}

/// Whether every byte is one that stood there since the sync.
fn is_of(found: &[u8], versions: &[Vec<u8>]) -> bool {
    let byte = |version: &Vec<u8>, at: usize| version.get(at).copied().unwrap_or(0);
    (0..found.len()).all(|at| {
        versions
            .iter()
            .any(|version| byte(version, at) == found[at])
    })
}

#[test]
fn what_was_synced_is_whole_after_a_power_cut_and_the_rest_is_old_new_or_lost() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let log = open(CAPACITY);
        let mut versions = Versions::new();
        for _ in 0..random.random_range(1..120) {
            step(&log, &mut versions, &mut random);
        }
        log.engine.sync().unwrap();
        for versions in versions.values_mut() {
            versions.drain(..versions.len() - 1);
        }
        for _ in 0..random.random_range(0..60) {
            step(&log, &mut versions, &mut random);
        }
        let survives = random.random_range(0.0..=1.0);
        let device = log.device.after_power_cut(|| random.random_bool(survives));
        let opened = LogEngine::open_device(Arc::new(device), &log_config(CAPACITY), 2).unwrap();
        assert_eq!(opened.survival, Survival::Doubtful);
        for inode in 1..=FILES {
            let never = vec![Vec::new()];
            let versions = versions.get(&inode).unwrap_or(&never);
            let place = address(InodeId(inode), FIRST, 0, 1 << 20);
            match now(crate::BlockEngine::read(&opened.engine, JOB, place)) {
                Ok(read) if versions.len() == 1 => {
                    assert_eq!(
                        read.bytes[..],
                        versions[0][..],
                        "seed {seed}, inode {inode}"
                    );
                }
                Ok(read) => assert!(is_of(&read.bytes, versions), "seed {seed}, inode {inode}"),
                Err(failure) => {
                    assert_eq!(failure.status, Status::Lost);
                    assert!(versions.len() > 1, "seed {seed}, inode {inode} was synced");
                }
            }
        }
    }
}

#[test]
fn incarnation_stays_while_all_blocks_are_there_and_blocks_go_with_it() {
    let config = |doubt| crate::LogConfig {
        doubt,
        ..log_config(CAPACITY)
    };
    let blocks = |opened: &crate::Opened| crate::BlockEngine::usage(&opened.engine).blocks;
    let log = open(CAPACITY);
    log.write(JOB, InodeId(1), FIRST, 0, bytes(9000, 1))
        .unwrap();
    let device = log.device.clone();
    drop(log);
    let reopened =
        |boot, doubt| LogEngine::open_device(device.clone(), &config(doubt), boot).unwrap();
    let first = reopened(1, Doubt::Drop);
    assert_eq!((first.survival, blocks(&first)), (Survival::Whole, 1));
    let again = reopened(1, Doubt::Drop);
    assert_eq!(again.incarnation, first.incarnation);
    // Stopped in order, then the machine was restarted.
    crate::BlockEngine::stop(&again.engine).unwrap();
    let clean = reopened(2, Doubt::Drop);
    assert_eq!(
        (clean.survival, clean.incarnation),
        (Survival::Whole, first.incarnation)
    );
    let cut = reopened(3, Doubt::Drop);
    assert_eq!((cut.survival, blocks(&cut)), (Survival::Doubtful, 0));
    assert_ne!(cut.incarnation, first.incarnation);
    assert_eq!(cut.server, first.server);
}
