//! The engine beside a plain model, and what it is charged.

use std::collections::{BTreeMap, HashSet};

use proptest::{collection::vec, prelude::*};

use super::*;

const JOB: JobId = JobId(1);
const OTHER_JOB: JobId = JobId(2);
const FILE: InodeId = InodeId(10);
const FIRST: BlockIndex = BlockIndex(0);

fn engine(capacity: u64) -> DramEngine {
    DramEngine::new(ByteCount(capacity))
}

fn bytes(length: usize, seed: u8) -> Bytes {
    (0..length)
        .map(|at| (at as u8).wrapping_mul(7).wrapping_add(seed))
        .collect()
}

fn address(inode: InodeId, block: BlockIndex, offset: u32, length: u32) -> BlockAddress {
    BlockAddress {
        inode,
        block,
        offset_bytes: offset,
        length_bytes: length,
    }
}

fn read(engine: &DramEngine, offset: u32, length: u32) -> BlockRead {
    engine
        .read(JOB, address(FILE, FIRST, offset, length))
        .unwrap()
}

fn write(engine: &DramEngine, offset: u32, data: Bytes) -> Result<i64, Failure> {
    engine.write(JOB, FILE, FIRST, offset, data)
}

#[test]
fn absent_block_is_a_hole_and_a_short_one_is_not() {
    let engine = engine(1 << 20);
    assert_eq!(
        read(&engine, 0, 100),
        BlockRead {
            bytes: Bytes::new(),
            hole: true
        }
    );
    write(&engine, 0, bytes(10, 1)).unwrap();
    assert_eq!(
        read(&engine, 4, 100),
        BlockRead {
            bytes: bytes(10, 1).slice(4..),
            hole: false
        }
    );
    assert_eq!(
        read(&engine, 10, 100),
        BlockRead {
            bytes: Bytes::new(),
            hole: false
        }
    );
    assert_eq!(
        read(&engine, 5000, 0),
        BlockRead {
            bytes: Bytes::new(),
            hole: false
        }
    );
}

#[test]
fn gap_before_a_write_reads_as_zeros() {
    let engine = engine(1 << 20);
    write(&engine, 1000, bytes(10, 1)).unwrap();
    assert_eq!(read(&engine, 0, 1000).bytes, vec![0; 1000]);
    write(&engine, 3000, bytes(10, 2)).unwrap();
    assert_eq!(read(&engine, 1010, 1990).bytes, vec![0; 1990]);
    assert_eq!(read(&engine, 1000, 10).bytes, bytes(10, 1));
}

#[test]
fn bytes_cut_off_do_not_come_back_when_the_block_grows_again() {
    let engine = engine(1 << 20);
    write(&engine, 0, bytes(5000, 1)).unwrap();
    engine.truncate(JOB, FILE, FIRST, 100);
    write(&engine, 4000, bytes(10, 2)).unwrap();
    assert_eq!(read(&engine, 0, 100).bytes, bytes(5000, 1).slice(..100));
    assert_eq!(read(&engine, 100, 3900).bytes, vec![0; 3900]);
}

#[test]
fn blocks_are_charged_by_their_length() {
    let engine = engine(1 << 20);
    assert_eq!(write(&engine, 0, bytes(1, 1)), Ok(512));
    assert_eq!(write(&engine, 0, bytes(512, 1)), Ok(0));
    assert_eq!(write(&engine, 100, bytes(413, 1)), Ok(512));
    assert_eq!(write(&engine, 0, bytes(10, 1)), Ok(0));
    assert_eq!(write(&engine, 5000, Bytes::new()), Ok(0));
    assert_eq!(engine.usage().used_bytes, 1024);
    assert_eq!(engine.usage().blocks, 1);
    assert_eq!(engine.truncate(JOB, FILE, FIRST, 512), -512);
    assert_eq!(engine.truncate(JOB, FILE, FIRST, 600), 0);
    assert_eq!(engine.truncate(JOB, FILE, FIRST, 0), -512);
    assert_eq!(
        engine.usage(),
        EngineUsage {
            capacity_bytes: 1 << 20,
            ..EngineUsage::default()
        }
    );
}

#[test]
fn capacity_is_reached_exactly_and_a_write_over_it_changes_nothing() {
    let engine = engine(4096);
    write(&engine, 0, bytes(2048, 1)).unwrap();
    let other = |length| engine.write(JOB, InodeId(11), FIRST, 0, bytes(length, 2));
    let full = other(2049).unwrap_err();
    assert_eq!(full.status, Status::ServerFull);
    assert!(full.message.contains("2KiB of 4KiB used"), "{full}");
    assert_eq!(engine.usage().used_bytes, 2048);
    assert!(
        engine
            .read(JOB, address(InodeId(11), FIRST, 0, 1))
            .unwrap()
            .hole
    );
    assert_eq!(other(2048), Ok(2048));
    assert_eq!(
        write(&engine, 2048, bytes(1, 3)).unwrap_err().status,
        Status::ServerFull
    );
    assert_eq!(read(&engine, 0, 4096).bytes, bytes(2048, 1));
    // What is there may be written over, and what is freed can be had.
    assert_eq!(write(&engine, 0, bytes(2048, 4)), Ok(0));
    assert_eq!(engine.remove_inodes(JOB, &[InodeId(11)]), -2048);
    assert_eq!(write(&engine, 2048, bytes(2048, 5)), Ok(2048));
}

#[test]
fn capacity_holds_under_concurrent_writers() {
    let engine = engine(1000 * 512);
    let written: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                let engine = &engine;
                scope.spawn(move || {
                    let write = |at| {
                        let inode = InodeId(writer * 1000 + at);
                        engine.write(JOB, inode, FIRST, 0, bytes(512, 0)).is_ok()
                    };
                    (0..400_u64).filter(|at| write(*at)).count()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert_eq!(written, 1000);
    assert_eq!(engine.usage().used_bytes, 1000 * 512);
    assert_eq!(engine.drop_job(JOB), -1000 * 512);
    assert_eq!(engine.usage().blocks, 0);
}

#[test]
fn truncation_drops_the_blocks_behind() {
    let engine = engine(1 << 20);
    for block in 0..5 {
        engine
            .write(JOB, FILE, BlockIndex(block), 0, bytes(1024, block as u8))
            .unwrap();
    }
    assert_eq!(
        engine.truncate(JOB, FILE, BlockIndex(2), 512),
        -512 - 2 * 1024
    );
    let length = |block| {
        let read = engine
            .read(JOB, address(FILE, BlockIndex(block), 0, 2000))
            .unwrap();
        (!read.hole).then_some(read.bytes.len())
    };
    let lengths: Vec<_> = (0..5).map(length).collect();
    assert_eq!(lengths, [Some(1024), Some(1024), Some(512), None, None]);
    assert_eq!(engine.truncate(JOB, FILE, BlockIndex(1), 0), -1024 - 512);
    assert_eq!(engine.truncate(JOB, FILE, BlockIndex(u64::MAX), 1), 0);
    assert_eq!(engine.truncate(JOB, InodeId(99), FIRST, 0), 0);
    assert_eq!(engine.usage().blocks, 1);
}

#[test]
fn jobs_do_not_see_each_other() {
    let engine = engine(1 << 20);
    write(&engine, 0, bytes(100, 1)).unwrap();
    assert!(
        engine
            .read(OTHER_JOB, address(FILE, FIRST, 0, 100))
            .unwrap()
            .hole
    );
    engine
        .write(OTHER_JOB, FILE, FIRST, 0, bytes(100, 2))
        .unwrap();
    assert_eq!(engine.remove_inodes(OTHER_JOB, &[FILE, FILE]), -512);
    assert_eq!(engine.drop_job(OTHER_JOB), 0);
    assert_eq!(read(&engine, 0, 100).bytes, bytes(100, 1));
}

#[test]
fn dropped_job_is_gone_at_once_and_does_not_come_back() {
    let engine = engine(1 << 20);
    let straggler = {
        write(&engine, 0, bytes(100, 1)).unwrap();
        engine.job(JOB).unwrap()
    };
    assert_eq!(engine.drop_job(JOB), -512);
    assert_eq!(engine.drop_job(JOB), 0);
    assert!(read(&engine, 0, 100).hole);
    assert_eq!(
        write(&engine, 0, bytes(100, 1)).unwrap_err().status,
        Status::JobGone
    );
    // A writer that had the job in hand when it was dropped.
    let late = straggler.write(&engine.capacity, FILE, FIRST, 0, bytes(100, 1));
    assert!(matches!(late, Ok(None)));
    assert_eq!(engine.usage().used_bytes, 0);
}

#[test]
fn memory_of_dropped_jobs_is_bounded() {
    let engine = engine(1 << 20);
    for job in 0..2 * DROPPED_JOBS_MAX as u64 {
        engine.drop_job(JobId(job));
        engine.drop_job(JobId(job));
    }
    let jobs = engine.jobs.read();
    assert_eq!(jobs.dropped.len(), DROPPED_JOBS_MAX);
    assert_eq!(jobs.dropped_in_order.len(), DROPPED_JOBS_MAX);
}

#[test]
fn range_beyond_the_largest_block_is_invalid() {
    let engine = engine(1 << 30);
    for (offset, length) in [(u32::MAX, u32::MAX), (16 << 20, 1), (1, 16 << 20)] {
        let read = engine.read(JOB, address(FILE, FIRST, offset, length));
        assert_eq!(read.unwrap_err().status, Status::Invalid);
    }
    let written = write(&engine, 16 << 20, bytes(1, 0));
    assert_eq!(written.unwrap_err().status, Status::Invalid);
    assert_eq!(engine.usage().used_bytes, 0);
    assert!(write(&engine, (16 << 20) - 1, bytes(1, 0)).is_ok());
}

#[test]
fn whole_blocks_are_neither_copied_in_nor_out() {
    let engine = engine(4 << 20);
    let data = bytes(1 << 20, 1);
    let at = data.as_ptr();
    write(&engine, 0, data).unwrap();
    assert_eq!(read(&engine, 0, 1 << 20).bytes.as_ptr(), at);
    assert_eq!(read(&engine, 0, 2 << 20).bytes.as_ptr(), at);
}

#[test]
fn write_into_a_block_that_nobody_reads_happens_in_place() {
    let engine = engine(4 << 20);
    let data = bytes(1 << 20, 1);
    let at = data.as_ptr();
    write(&engine, 0, data).unwrap();
    for offset in [0, 5000, (1 << 20) - 4096] {
        write(&engine, offset, bytes(4096, 2)).unwrap();
    }
    assert_eq!(read(&engine, 0, 1 << 20).bytes.as_ptr(), at);
}

#[test]
fn reader_keeps_what_it_read_while_the_block_changes() {
    let engine = engine(4 << 20);
    write(&engine, 0, bytes(100_000, 1)).unwrap();
    let held = read(&engine, 0, 100_000).bytes;
    write(&engine, 50_000, bytes(10, 9)).unwrap();
    engine.truncate(JOB, FILE, FIRST, 60_000);
    assert_eq!(held, bytes(100_000, 1));
    assert_eq!(read(&engine, 50_000, 10).bytes, bytes(10, 9));
    engine.drop_job(JOB);
    assert_eq!(held, bytes(100_000, 1));
}

#[test]
fn block_that_grows_piece_by_piece_is_copied_a_bounded_number_of_times() {
    let engine = engine(4 << 20);
    let mut places = HashSet::new();
    for piece in 0..256 {
        write(&engine, piece * 4096, bytes(4096, 1)).unwrap();
        places.insert(read(&engine, 0, 1 << 20).bytes.as_ptr());
    }
    assert!(places.len() < 100, "{} copies", places.len());
    assert_eq!(engine.usage().used_bytes, 1 << 20);
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, u64, u64, u32, u32),
    Write(u64, u64, u64, u32, usize, u8),
    Truncate(u64, u64, u64, u32),
    Remove(u64, Vec<u64>),
    Drop(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (job, inode, block) = (1..3_u64, 1..4_u64, 0..4_u64);
    let place = (job.clone(), inode.clone(), block);
    let range = (0..40_000_u32, prop_oneof![0..2000_u32, 0..40_000_u32]);
    let step = prop_oneof![
        4 => (place.clone(), range.clone())
            .prop_map(|((j, i, b), (o, l))| Step::Read(j, i, b, o, l)),
        8 => (place.clone(), range, any::<bool>(), any::<u8>()).prop_map(
            |((j, i, b), (o, l), whole, seed)| {
                Step::Write(j, i, b, if whole { 0 } else { o }, l as usize, seed)
            }
        ),
        2 => (place, prop_oneof![Just(0_u32), 0..40_000_u32])
            .prop_map(|((j, i, b), keep)| Step::Truncate(j, i, b, keep)),
        1 => (job.clone(), vec(inode, 0..3)).prop_map(|(j, i)| Step::Remove(j, i)),
        // Rare: a job is not seen again.
        1 => prop_oneof![9 => Just(99), 1 => job].prop_map(Step::Drop),
    ];
    vec(step, 1..80)
}

/// The engine as a plain map of vectors.
#[derive(Default)]
struct Model {
    blocks: BTreeMap<(u64, u64, u64), Vec<u8>>,
    dropped: HashSet<u64>,
}

impl Model {
    const CAPACITY: u64 = 200_000;

    fn used(&self) -> i64 {
        let charges = self
            .blocks
            .values()
            .map(|block| block.len().div_ceil(512) * 512);
        charges.sum::<usize>() as i64
    }

    fn write(&mut self, key: (u64, u64, u64), offset: usize, data: &[u8]) -> Result<i64, Status> {
        if data.is_empty() {
            return Ok(0);
        }
        if self.dropped.contains(&key.0) {
            return Err(Status::JobGone);
        }
        let (before, old) = (self.used(), self.blocks.get(&key).cloned());
        let block = self.blocks.entry(key).or_default();
        block.resize(block.len().max(offset + data.len()), 0);
        block[offset..offset + data.len()].copy_from_slice(data);
        if self.used() > Self::CAPACITY as i64 {
            match old {
                Some(old) => self.blocks.insert(key, old),
                None => self.blocks.remove(&key),
            };
            return Err(Status::ServerFull);
        }
        Ok(self.used() - before)
    }

    fn truncate(&mut self, (job, inode, first): (u64, u64, u64), keep: usize) -> i64 {
        let before = self.used();
        self.blocks.retain(|key, block| {
            if (key.0, key.1) != (job, inode) || key.2 < first {
                return true;
            }
            block.truncate(keep);
            key.2 == first && keep > 0
        });
        self.used() - before
    }

    fn forget(&mut self, gone: impl Fn(&(u64, u64, u64)) -> bool) -> i64 {
        let before = self.used();
        self.blocks.retain(|key, _| !gone(key));
        self.used() - before
    }
}

proptest! {
    #[test]
    fn engine_behaves_like_a_map_of_vectors(steps in steps()) {
        let engine = engine(Model::CAPACITY);
        let mut model = Model::default();
        // What readers hold must stay as it was; every other one lets go.
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Read(job, inode, block, offset, length) => {
                    let place = address(InodeId(inode), BlockIndex(block), offset, length);
                    let read = engine.read(JobId(job), place).unwrap();
                    let expected = model.blocks.get(&(job, inode, block));
                    prop_assert_eq!(read.hole, expected.is_none());
                    let expected = expected.map_or(&[][..], |block| {
                        let end = block.len().min((offset + length) as usize);
                        &block[end.min(offset as usize)..end]
                    });
                    prop_assert_eq!(&read.bytes[..], expected);
                    if block % 2 == 0 {
                        held.push((read.bytes, expected.to_vec()));
                    }
                }
                Step::Write(job, inode, block, offset, length, seed) => {
                    let data = bytes(length, seed);
                    let written = engine.write(
                        JobId(job), InodeId(inode), BlockIndex(block), offset, data.clone(),
                    );
                    let expected = model.write((job, inode, block), offset as usize, &data);
                    prop_assert_eq!(written.map_err(|failure| failure.status), expected);
                }
                Step::Truncate(job, inode, block, keep) => prop_assert_eq!(
                    engine.truncate(JobId(job), InodeId(inode), BlockIndex(block), keep),
                    model.truncate((job, inode, block), keep as usize)
                ),
                Step::Remove(job, inodes) => {
                    let ids: Vec<_> = inodes.iter().copied().map(InodeId).collect();
                    prop_assert_eq!(
                        engine.remove_inodes(JobId(job), &ids),
                        model.forget(|key| key.0 == job && inodes.contains(&key.1))
                    );
                }
                Step::Drop(job) => {
                    prop_assert_eq!(
                        engine.drop_job(JobId(job)),
                        model.forget(|key| key.0 == job)
                    );
                    model.dropped.insert(job);
                }
            }
            let usage = engine.usage();
            prop_assert_eq!(usage.used_bytes as i64, model.used());
            prop_assert_eq!(usage.blocks, model.blocks.len() as u64);
        }
        for (bytes, expected) in held {
            prop_assert_eq!(&bytes[..], &expected[..]);
        }
        for job in [1, 2] {
            engine.drop_job(JobId(job));
        }
        prop_assert_eq!(engine.usage().used_bytes, 0);
        prop_assert_eq!(engine.usage().blocks, 0);
    }
}
