//! The blocks of one file that are held here: often one, sometimes thousands.

use std::collections::BTreeMap;

use pocket_proto::BlockIndex;

use super::block::Block;

/// Blocks by index. A single one needs no map: most files are small.
#[derive(Default)]
pub(super) enum FileBlocks {
    #[default]
    Empty,
    One(BlockIndex, Block),
    Many(BTreeMap<BlockIndex, Block>),
}

impl FileBlocks {
    pub(super) fn get(&self, index: BlockIndex) -> Option<&Block> {
        match self {
            FileBlocks::One(own, block) if *own == index => Some(block),
            FileBlocks::Many(blocks) => blocks.get(&index),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: BlockIndex) -> Option<&mut Block> {
        match self {
            FileBlocks::One(own, block) if *own == index => Some(block),
            FileBlocks::Many(blocks) => blocks.get_mut(&index),
            _ => None,
        }
    }

    /// Adds a block where there was none.
    pub(super) fn insert(&mut self, index: BlockIndex, block: Block) {
        debug_assert!(self.get(index).is_none());
        *self = match std::mem::take(self) {
            FileBlocks::Empty => FileBlocks::One(index, block),
            FileBlocks::One(other_index, other) => {
                FileBlocks::Many(BTreeMap::from([(other_index, other), (index, block)]))
            }
            FileBlocks::Many(mut blocks) => {
                blocks.insert(index, block);
                FileBlocks::Many(blocks)
            }
        };
    }

    /// Takes a block away.
    pub(super) fn remove(&mut self, index: BlockIndex) -> Option<Block> {
        match self {
            FileBlocks::One(own, _) if *own == index => match std::mem::take(self) {
                FileBlocks::One(_, block) => Some(block),
                _ => None,
            },
            FileBlocks::Many(blocks) => {
                let removed = blocks.remove(&index);
                if blocks.is_empty() {
                    *self = FileBlocks::Empty;
                }
                removed
            }
            _ => None,
        }
    }

    /// Takes away the blocks from `first` to the one before `end`.
    pub(super) fn take_range(&mut self, first: BlockIndex, end: BlockIndex) -> FileBlocks {
        if first >= end {
            return FileBlocks::Empty;
        }
        match self {
            FileBlocks::One(own, _) if (first..end).contains(own) => std::mem::take(self),
            FileBlocks::Many(blocks) => {
                let inside: Vec<_> = blocks.range(first..end).map(|(index, _)| *index).collect();
                let taken = inside
                    .into_iter()
                    .filter_map(|index| Some((index, blocks.remove(&index)?)))
                    .collect();
                if blocks.is_empty() {
                    *self = FileBlocks::Empty;
                }
                FileBlocks::Many(taken)
            }
            _ => FileBlocks::Empty,
        }
    }

    /// How long the first blocks are from `first` to the one before `end`; no more than `most`.
    pub(super) fn lengths(
        &self,
        first: BlockIndex,
        end: BlockIndex,
        most: usize,
    ) -> Vec<(BlockIndex, usize)> {
        if first >= end {
            return Vec::new();
        }
        match self {
            FileBlocks::Empty => Vec::new(),
            FileBlocks::One(own, block) => (first..end)
                .contains(own)
                .then(|| (*own, block.len()))
                .into_iter()
                .collect(),
            FileBlocks::Many(blocks) => blocks
                .range(first..end)
                .take(most)
                .map(|(index, block)| (*index, block.len()))
                .collect(),
        }
    }

    /// Takes away the blocks from `first` on.
    pub(super) fn split_off(&mut self, first: BlockIndex) -> FileBlocks {
        match self {
            FileBlocks::One(own, _) if *own >= first => std::mem::take(self),
            FileBlocks::Many(blocks) => {
                let taken = FileBlocks::Many(blocks.split_off(&first));
                if blocks.is_empty() {
                    *self = FileBlocks::Empty;
                }
                taken
            }
            _ => FileBlocks::Empty,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, FileBlocks::Empty)
    }

    /// What the blocks are charged, and how many they are.
    pub(super) fn totals(&self) -> Totals {
        match self {
            FileBlocks::Empty => Totals::default(),
            FileBlocks::One(_, block) => Totals {
                charge: block.charge(),
                blocks: 1,
            },
            FileBlocks::Many(blocks) => Totals {
                charge: blocks.values().map(Block::charge).sum(),
                blocks: blocks.len() as u64,
            },
        }
    }
}

/// Sums over blocks.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) charge: u64,
    pub(super) blocks: u64,
}
