//! The blocks of one file that are held here: often one, sometimes thousands.

use std::collections::BTreeMap;

use pocket_proto::{BlockIndex, BlockSpan, HELD_BLOCKS_MAX, HeldBlock, HeldBlocks};

use super::extent::charge_of;

/// A block, as far as sums over blocks are concerned.
pub(super) trait Held {
    /// How long it is.
    fn length_bytes(&self) -> usize;

    /// What it is charged.
    fn charge(&self) -> u64 {
        charge_of(self.length_bytes())
    }
}

/// Blocks by index. A single one needs no map: most files are small.
#[derive(Default)]
pub(super) enum FileBlocks<B> {
    #[default]
    Empty,
    One(BlockIndex, B),
    Many(BTreeMap<BlockIndex, B>),
}

impl<B: Held> FileBlocks<B> {
    pub(super) fn get(&self, index: BlockIndex) -> Option<&B> {
        match self {
            FileBlocks::One(own, block) if *own == index => Some(block),
            FileBlocks::Many(blocks) => blocks.get(&index),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: BlockIndex) -> Option<&mut B> {
        match self {
            FileBlocks::One(own, block) if *own == index => Some(block),
            FileBlocks::Many(blocks) => blocks.get_mut(&index),
            _ => None,
        }
    }

    /// Adds a block where there was none.
    pub(super) fn insert(&mut self, index: BlockIndex, block: B) {
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

    /// The block of an index, made if there is none.
    pub(super) fn get_or_insert_with(
        &mut self,
        index: BlockIndex,
        make: impl FnOnce() -> B,
    ) -> &mut B {
        if self.get(index).is_none() {
            self.insert(index, make());
        }
        self.get_mut(index).expect("it was there, or was inserted")
    }

    /// Takes any block away.
    pub(super) fn pop(&mut self) -> Option<(BlockIndex, B)> {
        let index = match self {
            FileBlocks::Empty => return None,
            FileBlocks::One(index, _) => *index,
            FileBlocks::Many(blocks) => *blocks.last_key_value()?.0,
        };
        Some((index, self.remove(index)?))
    }

    /// Takes a block away.
    pub(super) fn remove(&mut self, index: BlockIndex) -> Option<B> {
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
    pub(super) fn take_range(&mut self, first: BlockIndex, end: BlockIndex) -> FileBlocks<B> {
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
    fn lengths(&self, first: BlockIndex, end: BlockIndex, most: usize) -> Vec<(BlockIndex, usize)> {
        if first >= end {
            return Vec::new();
        }
        match self {
            FileBlocks::Empty => Vec::new(),
            FileBlocks::One(own, block) => (first..end)
                .contains(own)
                .then(|| (*own, block.length_bytes()))
                .into_iter()
                .collect(),
            FileBlocks::Many(blocks) => blocks
                .range(first..end)
                .take(most)
                .map(|(index, block)| (*index, block.length_bytes()))
                .collect(),
        }
    }

    /// Tells which blocks of a span are held; as many as one answer holds. `None` stands for a file
    /// that has none.
    pub(super) fn list(file: Option<&Self>, span: BlockSpan) -> HeldBlocks {
        let lengths = file.map(|file| file.lengths(span.first, span.end(), HELD_BLOCKS_MAX));
        let blocks: Vec<_> = lengths
            .unwrap_or_default()
            .into_iter()
            .map(|(block, length)| HeldBlock {
                block,
                // No block is longer than 16 MiB.
                length_bytes: length as u32,
            })
            .collect();
        let told_to = match blocks.last() {
            Some(last) if blocks.len() >= HELD_BLOCKS_MAX => {
                BlockIndex(last.block.0.saturating_add(1))
            }
            _ => span.end(),
        };
        HeldBlocks { told_to, blocks }
    }

    /// Takes away the blocks from `first` on.
    pub(super) fn split_off(&mut self, first: BlockIndex) -> FileBlocks<B> {
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
                charge: blocks.values().map(B::charge).sum(),
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
