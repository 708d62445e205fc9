//! The engine beside a plain model.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use pocket_proto::{BlockIndex, BlockSpan, Fill, InodeId, JobId, Status};

use super::{Subject, address, bytes};

/// Sequences of steps tried on each engine.
const CASES: u32 = 200;

#[derive(Clone, Debug)]
enum Step {
    Read(u64, u64, u64, u32, u32),
    Write(u64, u64, u64, u32, usize, u8),
    Truncate(u64, u64, u64, u32),
    Allocate(u64, u64, u64, u32, u32, bool),
    Punch(u64, u64, u64, u32, u32),
    /// Job, source and its offset, destination and its offset, length.
    Copy(u64, (u64, u64, u32), (u64, u64, u32), u32),
    List(u64, u64, u64, u64),
    DropBlocks(u64, u64, u64, u64),
    Remove(u64, Vec<u64>),
    Drop(u64),
    /// In an orderly way, or not.
    Restart(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (job, inode, block) = (1..3_u64, 1..4_u64, 0..4_u64);
    let place = (job.clone(), inode.clone(), block);
    let range = (0..40_000_u32, prop_oneof![0..2000_u32, 0..40_000_u32]);
    let step = prop_oneof![
        4 => (place.clone(), range.clone())
            .prop_map(|((j, i, b), (o, l))| Step::Read(j, i, b, o, l)),
        8 => (place.clone(), range.clone(), any::<bool>(), any::<u8>()).prop_map(
            |((j, i, b), (o, l), whole, seed)| {
                Step::Write(j, i, b, if whole { 0 } else { o }, l as usize, seed)
            }
        ),
        2 => (place.clone(), prop_oneof![Just(0_u32), 0..40_000_u32])
            .prop_map(|((j, i, b), keep)| Step::Truncate(j, i, b, keep)),
        3 => (place.clone(), range.clone(), any::<bool>())
            .prop_map(|((j, i, b), (o, l), all)| Step::Allocate(j, i, b, o, l, all)),
        3 => (place.clone(), range.clone())
            .prop_map(|((j, i, b), (o, l))| Step::Punch(j, i, b, o, l)),
        3 => (place.clone(), place.clone(), 0..9000_u32, 0..9000_u32, 0..40_000_u32).prop_map(
            |((j, from, f), (_, to, t), start, end, length)| {
                let (start, end) = if length % 2 == 0 { (0, 0) } else { (start, end) };
                Step::Copy(j, (from, f, start), (to, t, end), length)
            }
        ),
        2 => (place.clone(), 0..5_u64).prop_map(|((j, i, b), n)| Step::List(j, i, b, n)),
        1 => (place.clone(), 0..3_u64).prop_map(|((j, i, b), n)| Step::DropBlocks(j, i, b, n)),
        1 => (job.clone(), vec(inode, 0..3)).prop_map(|(j, i)| Step::Remove(j, i)),
        // Rare: a job is not seen again.
        1 => prop_oneof![9 => Just(99), 1 => job].prop_map(Step::Drop),
        1 => any::<bool>().prop_map(Step::Restart),
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

    fn allocate(
        &mut self,
        key: (u64, u64, u64),
        range: std::ops::Range<usize>,
        all: bool,
    ) -> Result<i64, Status> {
        let held = self.blocks.get(&key).map_or(0, Vec::len);
        if range.is_empty() {
            return Ok(0);
        }
        if all {
            return self.write(key, range.start, &vec![0; range.len()]);
        }
        let missing = held.min(range.end);
        if missing == range.end && !self.dropped.contains(&key.0) {
            return Ok(0);
        }
        self.write(key, missing, &vec![0; range.end - missing])
    }

    fn punch(&mut self, key: (u64, u64, u64), range: std::ops::Range<usize>) -> i64 {
        let before = self.used();
        if let Some(block) = self.blocks.get_mut(&key) {
            if range.end >= block.len() {
                block.truncate(range.start);
            } else {
                block[range].fill(0);
            }
            if block.is_empty() {
                self.blocks.remove(&key);
            }
        }
        self.used() - before
    }

    /// Data of the source, then a punch; as one step.
    fn copy(
        &mut self,
        from: (u64, u64, u64),
        start: usize,
        to: (u64, u64, u64),
        range: std::ops::Range<usize>,
    ) -> Result<i64, Status> {
        if range.is_empty() {
            return Ok(0);
        }
        if self.dropped.contains(&to.0) {
            return Err(Status::JobGone);
        }
        let (before, old) = (self.used(), self.blocks.get(&to).cloned());
        let data = self.blocks.get(&from).map_or(Vec::new(), |block| {
            let end = block.len().min(start + range.len());
            block[start.min(end)..end].to_vec()
        });
        if !data.is_empty() {
            let block = self.blocks.entry(to).or_default();
            block.resize(block.len().max(range.start + data.len()), 0);
            block[range.start..range.start + data.len()].copy_from_slice(&data);
        }
        self.punch(to, range.start + data.len()..range.end);
        if self.used() > Self::CAPACITY as i64 {
            match old {
                Some(old) => self.blocks.insert(to, old),
                None => self.blocks.remove(&to),
            };
            return Err(Status::ServerFull);
        }
        Ok(self.used() - before)
    }

    fn forget(&mut self, gone: impl Fn(&(u64, u64, u64)) -> bool) -> i64 {
        let before = self.used();
        self.blocks.retain(|key, _| !gone(key));
        self.used() - before
    }
}

pub(super) fn engine_behaves_like_a_map_of_vectors<S: Subject>() {
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    let outcome = runner.run(&steps(), check::<S>);
    outcome.unwrap();
}

fn check<S: Subject>(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut engine = S::new(Model::CAPACITY);
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
                    JobId(job),
                    InodeId(inode),
                    BlockIndex(block),
                    offset,
                    data.clone(),
                );
                let expected = model.write((job, inode, block), offset as usize, &data);
                prop_assert_eq!(written.map_err(|failure| failure.status), expected);
            }
            Step::Truncate(job, inode, block, keep) => prop_assert_eq!(
                engine.truncate(JobId(job), InodeId(inode), BlockIndex(block), keep),
                model.truncate((job, inode, block), keep as usize)
            ),
            Step::Allocate(job, inode, block, offset, length, all) => {
                let place = address(InodeId(inode), BlockIndex(block), offset, length);
                let fill = if all { Fill::All } else { Fill::Missing };
                let allocated = engine.allocate(JobId(job), place, fill);
                let range = offset as usize..(offset + length) as usize;
                let expected = model.allocate((job, inode, block), range, all);
                prop_assert_eq!(allocated.map_err(|failure| failure.status), expected);
            }
            Step::Punch(job, inode, block, offset, length) => {
                let place = address(InodeId(inode), BlockIndex(block), offset, length);
                let range = offset as usize..(offset + length) as usize;
                prop_assert_eq!(
                    engine.punch(JobId(job), place).unwrap(),
                    model.punch((job, inode, block), range)
                );
            }
            Step::Copy(job, (inode, block, start), (to_inode, to_block, offset), length) => {
                let copied = engine.copy(
                    JobId(job),
                    address(InodeId(inode), BlockIndex(block), start, length),
                    address(InodeId(to_inode), BlockIndex(to_block), offset, length),
                );
                let range = offset as usize..(offset + length) as usize;
                let (from, to) = ((job, inode, block), (job, to_inode, to_block));
                let expected = model.copy(from, start as usize, to, range);
                prop_assert_eq!(copied.map_err(|failure| failure.status), expected);
            }
            Step::List(job, inode, block, count) => {
                let span = BlockSpan {
                    inode: InodeId(inode),
                    first: BlockIndex(block),
                    count,
                };
                let told = engine.list(JobId(job), span);
                prop_assert_eq!(told.told_to, BlockIndex(block + count));
                let told: Vec<_> = told
                    .blocks
                    .iter()
                    .map(|held| (held.block.0, held.length_bytes as usize))
                    .collect();
                let range = (job, inode, block)..(job, inode, block + count);
                let expected = model.blocks.range(range);
                let expected: Vec<_> = expected.map(|(key, held)| (key.2, held.len())).collect();
                prop_assert_eq!(told, expected);
            }
            Step::DropBlocks(job, inode, block, count) => {
                let span = BlockSpan {
                    inode: InodeId(inode),
                    first: BlockIndex(block),
                    count,
                };
                let inside = block..block + count;
                prop_assert_eq!(
                    engine.drop_blocks(JobId(job), span),
                    model.forget(|key| (key.0, key.1) == (job, inode) && inside.contains(&key.2))
                );
            }
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
            Step::Restart(orderly) => {
                engine = match engine.restarted(orderly) {
                    Ok(another) => {
                        model.dropped.clear();
                        another
                    }
                    Err(same) => same,
                }
            }
        }
        let usage = engine.usage();
        prop_assert_eq!(usage.used_bytes as i64, model.used());
        prop_assert_eq!(usage.blocks, model.blocks.len() as u64);
        for job in [1, 2] {
            let told = engine.inodes(JobId(job), InodeId(0), usize::MAX);
            let keys = model.blocks.keys().filter(|key| key.0 == job);
            let expected: BTreeSet<_> = keys.map(|key| InodeId(key.1)).collect();
            prop_assert_eq!(told, expected.into_iter().collect::<Vec<_>>());
        }
    }
    for (bytes, expected) in held {
        prop_assert_eq!(&bytes[..], &expected[..]);
    }
    for job in [1, 2] {
        engine.drop_job(JobId(job));
    }
    prop_assert_eq!(engine.usage().used_bytes, 0);
    prop_assert_eq!(engine.usage().blocks, 0);
    Ok(())
}
