//! Read-ahead: a sequential reader finds its next blocks already here.

use std::sync::Arc;

use parking_lot::Mutex;

use super::File;
use crate::filesystem::FileSystem;

/// A first read at the start of a file that is at least this long counts as sequential.
const EAGER_READ_BYTES: u32 = 64 << 10;
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
    streak: u32,
}

/// What a read is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Follows the one before; so many blocks should be on their way ahead of it.
    Sequential { ahead: u32 },
    /// Anything else.
    Random,
}

impl ReadAhead {
    /// Notes a read and answers what it is part of.
    pub(crate) fn note(&self, offset: u64, length: u32, ahead_max: u32) -> Pattern {
        let mut progress = self.pattern.lock();
        // Parallel readers of one handle arrive out of order within a few requests.
        let follows = offset == progress.next_offset && (offset > 0 || length >= EAGER_READ_BYTES);
        progress.next_offset = offset + u64::from(length);
        if !follows {
            progress.streak = 0;
            return Pattern::Random;
        }
        progress.streak = progress.streak.saturating_add(1);
        let ahead = 1u32 << progress.streak.min(8);
        Pattern::Sequential {
            ahead: ahead.min(ahead_max),
        }
    }
}

impl FileSystem {
    /// Starts fetching what a sequential reader will ask for next.
    pub(crate) fn read_ahead(self: &Arc<Self>, file: &Arc<File>, end: u64, ahead: u32) {
        let block_bytes = u64::from(file.block_bytes);
        let next = end.div_ceil(block_bytes);
        for block in next..next + u64::from(ahead) {
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
            self.drop_blocks(file.inode, passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_grows_while_reads_follow_each_other() {
        let reads = ReadAhead::default();
        assert_eq!(reads.note(0, 1 << 20, 8), Pattern::Sequential { ahead: 2 });
        assert_eq!(
            reads.note(1 << 20, 1 << 20, 8),
            Pattern::Sequential { ahead: 4 }
        );
        assert_eq!(
            reads.note(2 << 20, 1 << 20, 8),
            Pattern::Sequential { ahead: 8 }
        );
        assert_eq!(reads.note(9 << 20, 1 << 20, 8), Pattern::Random);
        assert_eq!(reads.note(0, 512, 8), Pattern::Random);
    }
}
