//! Space of blocks without data of the caller's: allocating, punching, copying, telling and
//! dropping.

use bytes::Bytes;
use pocket_proto::{BlockAddress, BlockSpan, Failure, Fill, HeldBlocks};

use super::super::block::Block;
use super::{JobBlocks, free};
use crate::engine::{
    capacity::Capacity,
    extent::{punched_length, range},
    file_blocks::FileBlocks,
};

impl JobBlocks {
    /// See [`BlockEngine::allocate`](crate::BlockEngine::allocate); None if the job was dropped.
    pub(in super::super) fn allocate(
        &self,
        capacity: &Capacity,
        address: BlockAddress,
        fill: Fill,
    ) -> Result<Option<i64>, Failure> {
        let (offset, end) = range(address);
        let place = (address.inode, address.block);
        self.edit(
            capacity,
            place,
            |length| length.max(end),
            |old| {
                let length = old.as_ref().map_or(0, Block::len);
                match (fill, old) {
                    (Fill::Missing, Some(old)) if length >= end => (old, Bytes::new()),
                    (Fill::Missing, old) => Block::zeroed(old, length, end),
                    (Fill::All, old) => Block::zeroed(old, offset, end),
                }
            },
        )
    }

    /// See [`BlockEngine::punch`](crate::BlockEngine::punch).
    pub(in super::super) fn punch(
        &self,
        capacity: &Capacity,
        address: BlockAddress,
    ) -> Result<i64, Failure> {
        let (offset, end) = range(address);
        let place = (address.inode, address.block);
        let change = self.edit(
            capacity,
            place,
            |length| punched_length(length, offset, end),
            |old| punched(old, offset, end),
        )?;
        // Of a job that was dropped there is nothing to punch.
        Ok(change.unwrap_or(0))
    }

    /// The bytes asked for, to become another block; None where there is no such block. Memory is
    /// shared with a block copied whole, until either is changed.
    pub(in super::super) fn copied(&self, from: BlockAddress) -> Option<Bytes> {
        let shard = self.shard(from.inode);
        let block = shard.files.get(&from.inode)?.get(from.block)?;
        let bytes = block.read(from.offset_bytes as usize, from.length_bytes as usize);
        let whole = bytes.len() == block.len();
        drop(shard);
        // A part must not keep the whole in memory.
        Some(if whole {
            bytes
        } else {
            Bytes::copy_from_slice(&bytes)
        })
    }

    /// Puts `data` at the start of a range of a block, and punches the rest of the range. None if
    /// the job was dropped.
    pub(in super::super) fn replace(
        &self,
        capacity: &Capacity,
        address: BlockAddress,
        data: Bytes,
    ) -> Result<Option<i64>, Failure> {
        let (offset, end) = range(address);
        let place = (address.inode, address.block);
        let filled = offset + data.len();
        let written = |length: usize| match data.is_empty() {
            true => length,
            false => length.max(filled),
        };
        let after = |length| punched_length(written(length), filled, end);
        let data = data.clone();
        self.edit(capacity, place, after, |old| {
            let (block, spent) = match data.is_empty() {
                true => (old, Bytes::new()),
                false => {
                    let (block, spent) = Block::written(old, offset, data);
                    (Some(block), spent)
                }
            };
            let (block, more) = punched(block, filled, end);
            // The second is none where the first was needed: a write that replaces the block
            // leaves nothing behind its end.
            (block, if spent.is_empty() { more } else { spent })
        })
    }

    /// See [`BlockEngine::list`](crate::BlockEngine::list).
    pub(in super::super) fn list(&self, span: BlockSpan) -> HeldBlocks {
        FileBlocks::list(self.shard(span.inode).files.get(&span.inode), span)
    }

    pub(in super::super) fn drop_blocks(&self, capacity: &Capacity, span: BlockSpan) -> i64 {
        let gone = {
            let mut shard = self.shard(span.inode);
            let Some(file) = shard.files.get_mut(&span.inode) else {
                return 0;
            };
            let gone = file.take_range(span.first, span.end());
            if file.is_empty() {
                shard.files.remove(&span.inode);
            }
            gone
        };
        match gone {
            FileBlocks::Empty => 0,
            gone => free(capacity, gone),
        }
    }
}

fn punched(old: Option<Block>, offset: usize, end: usize) -> (Block, Bytes) {
    match old {
        Some(block) if offset < end && offset < block.len() => block.punched(offset, end),
        Some(block) => (block, Bytes::new()),
        None => Block::zeroed(None, 0, 0),
    }
}
