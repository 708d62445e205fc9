//! What is particular to the log: what it finds after a crash, on media that fail, and when room
//! gets short.

mod decoding;
mod faults;
mod power;

use std::{collections::BTreeMap, sync::Arc};

use pocket_proto::{BlockIndex, InodeId, JobId};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::engine::{
    device::MemoryDevice,
    tests::{LogInMemory, Subject, address, bytes},
};

const JOB: JobId = JobId(1);
const OTHER_JOB: JobId = JobId(2);
const FIRST: BlockIndex = BlockIndex(0);

fn open(capacity: u64) -> LogInMemory {
    LogInMemory::open(Arc::<MemoryDevice>::default(), capacity)
}

fn read(log: &LogInMemory, job: JobId, inode: u64) -> Option<Vec<u8>> {
    let place = address(InodeId(inode), FIRST, 0, 16 << 20);
    let read = log.read(job, place).unwrap();
    (!read.hole).then(|| read.bytes.to_vec())
}

/// Far more is written, cut and removed than the medium holds, with restarts in between: everything
/// stays what it should be, and there is always room.
#[test]
fn room_is_made_again_and_nothing_comes_back() {
    const CAPACITY: u64 = 4 << 20;
    let mut random = StdRng::seed_from_u64(7);
    let mut log = open(CAPACITY);
    let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for step in 0..6000 {
        let inode = random.random_range(1..50);
        match random.random_range(0..20) {
            0 | 1 => {
                log.remove_inodes(JOB, &[InodeId(inode)]);
                model.remove(&inode);
            }
            2 => {
                let keep = random.random_range(1..60_000);
                log.truncate(JOB, InodeId(inode), FIRST, keep as u32);
                if let Some(held) = model.get_mut(&inode) {
                    held.truncate(keep);
                }
            }
            3 => {
                let (from, to) = (
                    random.random_range(0..30_000),
                    random.random_range(0..60_000),
                );
                let length = usize::saturating_sub(to, from);
                log.punch(
                    JOB,
                    address(InodeId(inode), FIRST, from as u32, length as u32),
                )
                .unwrap();
                if let Some(held) = model.get_mut(&inode).filter(|_| length > 0) {
                    match to >= held.len() {
                        true => held.truncate(from),
                        false => held[from..to].fill(0),
                    }
                    if held.is_empty() {
                        model.remove(&inode);
                    }
                }
            }
            _ => {
                let data = bytes(random.random_range(1..60_000), step as u8);
                let offset = match random.random_bool(0.5) {
                    true => 0,
                    false => random.random_range(0..20_000),
                };
                log.write(JOB, InodeId(inode), FIRST, offset as u32, data.clone())
                    .unwrap();
                let held = model.entry(inode).or_default();
                let end = offset + data.len();
                held.resize(held.len().max(end), 0);
                held[offset..end].copy_from_slice(&data);
            }
        }
        if step % 1000 == 999 {
            log = log.restarted(step % 2000 == 999).ok().unwrap();
            for inode in 1..50 {
                assert_eq!(
                    read(&log, JOB, inode),
                    model.get(&inode).cloned(),
                    "inode {inode} after step {step}"
                );
            }
            let charged: usize = model
                .values()
                .map(|held| held.len().div_ceil(512) * 512)
                .sum();
            assert_eq!(log.usage().used_bytes, charged as u64);
        }
    }
}

#[test]
fn bytes_of_a_dropped_job_are_gone_for_every_other() {
    let mut log = open(4 << 20);
    let secret = bytes(100_000, 99);
    log.write(JOB, InodeId(1), FIRST, 0, secret.clone())
        .unwrap();
    assert!(
        log.device.contains(&secret[..4096]),
        "it stands on the medium"
    );
    log.drop_job(JOB);
    let place = address(InodeId(1), FIRST, 0, 100_000);
    for restarted in [false, true] {
        if restarted {
            log = log.restarted(false).ok().unwrap();
        }
        assert!(read(&log, JOB, 1).is_none());
        log.allocate(OTHER_JOB, place, pocket_proto::Fill::Missing)
            .unwrap();
        assert_eq!(read(&log, OTHER_JOB, 1), Some(vec![0; 100_000]));
    }
    assert_eq!(log.usage().blocks, 1);
}

#[test]
fn small_blocks_share_transfers_and_large_ones_waste_little() {
    let log = open(64 << 20);
    let written = |log: &LogInMemory| log.engine().medium().written_bytes;
    std::thread::scope(|scope| {
        for writer in 0..16 {
            let log = &log;
            scope.spawn(move || {
                for file in 0..50 {
                    let inode = InodeId(writer * 100 + file);
                    log.write(JOB, inode, FIRST, 0, bytes(1000, 1)).unwrap();
                }
            });
        }
    });
    let small = written(&log);
    assert!(small < 800 * 8192, "{small} bytes for 800 files of 1000");
    let data = bytes(1 << 20, 1);
    for block in 0..8 {
        log.write(JOB, InodeId(1), BlockIndex(block), 0, data.clone())
            .unwrap();
    }
    let large = written(&log) - small;
    assert!(large < 9 << 20, "{large} bytes for 8 MiB");
}
