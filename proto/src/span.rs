//! Runs of blocks of a file, which of them a storage server holds, and how more are made.

use crate::frame::{FrameError, u32_at, u64_at};
use crate::{BlockIndex, InodeId};

/// Bytes of a [`BlockSpan`] on the wire.
pub const BLOCK_SPAN_BYTES: usize = 24;
/// A server tells no more blocks of a file in one reply.
pub const HELD_BLOCKS_MAX: usize = 4096;

const HELD_BLOCK_BYTES: usize = 12;

/// What becomes of the bytes in a range that is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Those that are there stay; what the block lacks becomes zeros.
    Missing,
    /// All become zeros.
    All,
}

/// Blocks of a file, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSpan {
    /// The file.
    pub inode: InodeId,
    /// The first of them.
    pub first: BlockIndex,
    /// How many.
    pub count: u64,
}

impl BlockSpan {
    /// The block behind the last; a span never goes further than block numbers do.
    pub fn end(&self) -> BlockIndex {
        BlockIndex(self.first.0.saturating_add(self.count))
    }

    /// The span as bytes.
    pub fn encode(&self) -> [u8; BLOCK_SPAN_BYTES] {
        let mut bytes = [0; BLOCK_SPAN_BYTES];
        bytes[0..8].copy_from_slice(&self.inode.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    /// Reads a span from the head of a body.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let bytes: &[u8; BLOCK_SPAN_BYTES] = body.first_chunk().ok_or(FrameError::TooShort)?;
        Ok(BlockSpan {
            inode: InodeId(u64_at(bytes, 0)),
            first: BlockIndex(u64_at(bytes, 8)),
            count: u64_at(bytes, 16),
        })
    }
}

/// A block that a server holds, and how long it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBlock {
    /// The block within the file.
    pub block: BlockIndex,
    /// Its bytes; what the file has behind them reads as zeros.
    pub length_bytes: u32,
}

/// The blocks of a span that a server holds, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldBlocks {
    /// Every block before this one is told of; the span may go further, as a reply holds
    /// [`HELD_BLOCKS_MAX`] blocks.
    pub told_to: BlockIndex,
    /// The blocks held.
    pub blocks: Vec<HeldBlock>,
}

impl HeldBlocks {
    /// As the body of a reply.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.blocks.len() * HELD_BLOCK_BYTES);
        bytes.extend_from_slice(&self.told_to.0.to_le_bytes());
        for held in &self.blocks {
            bytes.extend_from_slice(&held.block.0.to_le_bytes());
            bytes.extend_from_slice(&held.length_bytes.to_le_bytes());
        }
        bytes
    }

    /// Reads the body of a reply.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        let (told_to, rest) = body.split_first_chunk::<8>().ok_or(FrameError::TooShort)?;
        let (blocks, odd) = rest.as_chunks::<HELD_BLOCK_BYTES>();
        if !odd.is_empty() {
            return Err(FrameError::TooShort);
        }
        let held = |bytes: &[u8; HELD_BLOCK_BYTES]| HeldBlock {
            block: BlockIndex(u64_at(bytes, 0)),
            length_bytes: u32_at(bytes, 8),
        };
        Ok(HeldBlocks {
            told_to: BlockIndex(u64::from_le_bytes(*told_to)),
            blocks: blocks.iter().map(held).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn span_survives_the_wire(inode: u64, first: u64, count: u64) {
            let span = BlockSpan { inode: InodeId(inode), first: BlockIndex(first), count };
            prop_assert_eq!(BlockSpan::decode(&span.encode()), Ok(span));
            prop_assert!(span.end() >= span.first);
        }

        #[test]
        fn blocks_held_survive_the_wire(told_to: u64, blocks: Vec<(u64, u32)>) {
            let held = HeldBlocks {
                told_to: BlockIndex(told_to),
                blocks: blocks
                    .into_iter()
                    .map(|(block, length_bytes)| HeldBlock { block: BlockIndex(block), length_bytes })
                    .collect(),
            };
            prop_assert_eq!(HeldBlocks::decode(&held.encode()), Ok(held));
        }

        #[test]
        fn any_bytes_are_blocks_held_or_an_error(bytes: Vec<u8>) {
            if let Ok(held) = HeldBlocks::decode(&bytes) {
                prop_assert_eq!(held.encode(), bytes);
            }
        }
    }
}
