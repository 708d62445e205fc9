//! Read-ahead: a sequential reader finds its next blocks already here.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::File;
use crate::filesystem::FileSystem;

/// A run of reads of this many bytes is read in whole blocks, and ahead.
const RUN_BYTES: u64 = 128 << 10;
/// Blocks asked for ahead when a run begins.
const WINDOW_MIN: u32 = 2;
/// Blocks of larger files are dropped as soon as a sequential reader is past them: most data are
/// read once, and memory that is used again at once stays in the processor's cache.
const KEEP_FILE_BYTES: u64 = 8 << 20;

/// What a handle has read so far.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    pattern: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    next_offset: u64,
    /// Bytes read one after another up to there.
    run_bytes: u64,
    /// Blocks before this one were asked for ahead.
    requested_to: u64,
    /// How many blocks ahead; doubles with each block read.
    window: u32,
    /// The block at which it doubles next.
    grow_at: u64,
}

/// What a read is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A run; these blocks should be asked for now.
    Sequential { ahead: Range<u64> },
    /// Anything else.
    Random,
}

impl ReadAhead {
    /// Notes a read of a file of such blocks, and answers what it is part of.
    pub(crate) fn note(
        &self,
        offset: u64,
        length: u32,
        block_bytes: u32,
        window_max: u32,
    ) -> Pattern {
        let mut progress = self.pattern.lock();
        let end = offset.saturating_add(u64::from(length));
        if offset != progress.next_offset {
            *progress = Progress::default();
        }
        progress.next_offset = end;
        progress.run_bytes = progress.run_bytes.saturating_add(u64::from(length));
        if progress.run_bytes < RUN_BYTES {
            return Pattern::Random;
        }
        let next = end.div_ceil(u64::from(block_bytes));
        if next >= progress.grow_at {
            progress.window = (progress.window * 2).clamp(WINDOW_MIN.min(window_max), window_max);
            progress.grow_at = next + 1;
        }
        let to = next + u64::from(progress.window);
        let from = next.max(progress.requested_to);
        progress.requested_to = progress.requested_to.max(to);
        Pattern::Sequential { ahead: from..to }
    }
}

impl FileSystem {
    /// Starts fetching what a sequential reader will ask for next.
    pub(crate) fn read_ahead(self: &Arc<Self>, file: &Arc<File>, blocks: Range<u64>) {
        for block in blocks {
            self.fetch_ahead(file, block);
        }
    }

    /// Drops the blocks that a sequential reader has left behind.
    pub(crate) fn drop_behind(&self, file: &File, offset: u64, end: u64) {
        let block_bytes = u64::from(file.block_bytes);
        let passed = offset / block_bytes..end / block_bytes;
        if passed.is_empty() {
            return;
        }
        let large = file.with(|state| {
            let large = state.size > KEEP_FILE_BYTES;
            if large {
                passed.clone().for_each(|block| {
                    state.kept.remove(&block);
                });
            }
            large
        });
        if large {
            self.drop_blocks(file, passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u32 = 1 << 20;

    fn ahead(reads: &ReadAhead, mib: u64) -> Pattern {
        reads.note(mib << 20, MIB, MIB, 8)
    }

    #[test]
    fn each_block_is_asked_for_once_and_the_window_grows() {
        let reads = ReadAhead::default();
        assert_eq!(ahead(&reads, 0), Pattern::Sequential { ahead: 1..3 });
        assert_eq!(ahead(&reads, 1), Pattern::Sequential { ahead: 3..6 });
        let mut requested = 6;
        for mib in 2..50 {
            let Pattern::Sequential { ahead } = ahead(&reads, mib) else {
                panic!("a run stays a run");
            };
            assert!(ahead.is_empty() || ahead.start == requested);
            requested = requested.max(ahead.end);
            assert!(requested <= mib + 9);
        }
    }

    #[test]
    fn small_and_scattered_reads_are_random() {
        let reads = ReadAhead::default();
        assert_eq!(reads.note(0, 512, MIB, 8), Pattern::Random);
        assert_eq!(reads.note(9 << 20, 4096, MIB, 8), Pattern::Random);
        assert_eq!(reads.note(0, 4096, MIB, 8), Pattern::Random);
    }

    #[test]
    fn small_reads_that_follow_each_other_become_a_run() {
        let reads = ReadAhead::default();
        let patterns: Vec<_> = (0..40)
            .map(|n| reads.note(n * 4096, 4096, MIB, 8))
            .collect();
        assert_eq!(patterns[30], Pattern::Random);
        assert_eq!(patterns[31], Pattern::Sequential { ahead: 1..3 });
        assert_eq!(patterns[32], Pattern::Sequential { ahead: 3..3 });
    }
}
