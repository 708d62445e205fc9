//! The blocks of one job.

mod space;

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use pocket_proto::{BlockAddress, BlockIndex, Failure, InodeId};

use super::block::Block;
use crate::engine::{
    capacity::Capacity,
    extent::charge_of,
    file_blocks::{FileBlocks, Held},
};

/// Locks among which a job's files are spread: some more than processors that serve one job.
const SHARDS: usize = 32;

/// A job's files, sharded by inode.
#[derive(Default)]
pub(super) struct JobBlocks {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    files: HashMap<InodeId, FileBlocks<Block>>,
    /// The job was dropped while someone still had it in hand.
    dropped: bool,
}

impl JobBlocks {
    /// The bytes asked for, or None where there is no such block.
    pub(super) fn read(&self, address: BlockAddress) -> Option<Bytes> {
        let shard = self.shard(address.inode);
        let block = shard.files.get(&address.inode)?.get(address.block)?;
        Some(block.read(address.offset_bytes as usize, address.length_bytes as usize))
    }

    /// Writes and returns the change of what is charged; None if the job was dropped.
    pub(super) fn write(
        &self,
        capacity: &Capacity,
        inode: InodeId,
        index: BlockIndex,
        offset: usize,
        data: Bytes,
    ) -> Result<Option<i64>, Failure> {
        let end = offset + data.len();
        self.edit(
            capacity,
            (inode, index),
            |length| length.max(end),
            |old| Block::written(old, offset, data),
        )
    }

    /// Edits a block: `length_after` says how long it becomes from how long it is (0: there is
    /// none), and `edit` does it. Returns the change of what is charged; None if the job was
    /// dropped. Where that does not fit, nothing is done.
    fn edit(
        &self,
        capacity: &Capacity,
        (inode, index): (InodeId, BlockIndex),
        length_after: impl FnOnce(usize) -> usize,
        edit: impl FnOnce(Option<Block>) -> (Block, Bytes),
    ) -> Result<Option<i64>, Failure> {
        let mut shard = self.shard(inode);
        if shard.dropped {
            return Ok(None);
        }
        let mut file = shard.files.get_mut(&inode);
        let held = file.as_mut().and_then(|file| file.get_mut(index));
        let length = held.as_ref().map_or(0, |block| block.len());
        let after = length_after(length);
        if after == 0 && held.is_none() {
            return Ok(Some(0));
        }
        let (before, charge) = (charge_of(length), charge_of(after));
        capacity.charge(charge.saturating_sub(before))?;
        let spent = match held {
            Some(block) if after > 0 => {
                let (edited, spent) = edit(Some(block.take()));
                debug_assert_eq!(edited.len(), after, "as long as it was to become");
                *block = edited;
                (None, spent)
            }
            Some(_) => {
                let removed = file.as_mut().and_then(|file| file.remove(index));
                if file.is_some_and(|file| file.is_empty()) {
                    shard.files.remove(&inode);
                }
                capacity.count_blocks(0, 1);
                (removed, Bytes::new())
            }
            None => {
                let (made, spent) = edit(None);
                debug_assert_eq!(made.len(), after, "as long as it was to become");
                shard.files.entry(inode).or_default().insert(index, made);
                capacity.count_blocks(1, 0);
                (None, spent)
            }
        };
        drop(shard);
        // Freed here, where nobody waits for the shard.
        drop(spent);
        capacity.release(before.saturating_sub(charge));
        Ok(Some(charge as i64 - before as i64))
    }

    pub(super) fn truncate(
        &self,
        capacity: &Capacity,
        inode: InodeId,
        first: BlockIndex,
        keep: usize,
    ) -> i64 {
        let mut shard = self.shard(inode);
        let Some(file) = shard.files.get_mut(&inode) else {
            return 0;
        };
        let mut shrunk = 0;
        let gone = if keep == 0 {
            file.split_off(first)
        } else {
            if let Some(block) = file.get_mut(first) {
                let before = block.charge();
                block.truncate(keep);
                shrunk = before - block.charge();
            }
            match first.0.checked_add(1) {
                Some(next) => file.split_off(BlockIndex(next)),
                None => FileBlocks::Empty,
            }
        };
        if file.is_empty() {
            shard.files.remove(&inode);
        }
        drop(shard);
        capacity.release(shrunk);
        -(shrunk as i64) + free(capacity, gone)
    }

    pub(super) fn remove(&self, capacity: &Capacity, inode: InodeId) -> i64 {
        let gone = self.shard(inode).files.remove(&inode);
        gone.map_or(0, |file| free(capacity, file))
    }

    /// Drops everything, and whatever comes later.
    pub(super) fn drop_all(&self, capacity: &Capacity) -> i64 {
        let mut change = 0;
        for shard in &self.shards {
            let files = {
                let mut shard = shard.lock();
                shard.dropped = true;
                std::mem::take(&mut shard.files)
            };
            change += files
                .into_values()
                .map(|file| free(capacity, file))
                .sum::<i64>();
        }
        change
    }

    /// The `count` lowest inodes behind `after`, in order.
    pub(super) fn inodes(&self, after: InodeId, count: usize) -> Vec<InodeId> {
        let mut inodes = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            inodes.extend(shard.files.keys().filter(|inode| **inode > after));
        }
        inodes.sort_unstable();
        inodes.truncate(count);
        inodes
    }

    fn shard(&self, inode: InodeId) -> MutexGuard<'_, Shard> {
        // Inode numbers are handed out in sequence, so their low bits spread well.
        self.shards[inode.0 as usize % SHARDS].lock()
    }
}

/// Frees the memory first and the charge after it, so that the charge is never less than what is
/// held. Returns the change of what is charged.
fn free(capacity: &Capacity, file: FileBlocks<Block>) -> i64 {
    let totals = file.totals();
    drop(file);
    capacity.release(totals.charge);
    capacity.count_blocks(0, totals.blocks);
    -(totals.charge as i64)
}
