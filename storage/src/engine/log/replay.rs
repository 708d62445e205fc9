//! Making a job's index again from what its entries say.

use std::{collections::HashMap, sync::Arc};

use pocket_proto::{BlockIndex, InodeId};

use super::{
    block::{Extent, LogBlock},
    core::Core,
    entry::{Entry, What},
    job::{JobState, Tombstone},
    record::{Place, Record},
    segment::Segment,
};
use crate::engine::file_blocks::FileBlocks;

/// The entries of a job.
#[derive(Default)]
pub(super) struct Replay {
    entries: Vec<(Entry, Arc<Segment>)>,
    segments: Vec<Arc<Segment>>,
    /// When the length of each block was said: what was written earlier, but is applied later
    /// because it was copied, says nothing new.
    lengths_said: HashMap<(InodeId, BlockIndex), u64>,
}

impl Replay {
    /// Adds what a segment says.
    pub(super) fn add(&mut self, segment: Arc<Segment>, entries: Vec<Entry>) {
        let places = entries.iter().map(|entry| (entry.inode, entry.block));
        segment.mentions.lock().extend(places);
        let with_segment = entries
            .into_iter()
            .map(|entry| (entry, Arc::clone(&segment)));
        self.entries.extend(with_segment);
        self.segments.push(segment);
    }

    /// Applies everything in its order. Segments that nothing refers to then are let go of.
    pub(super) fn run(mut self, core: &Core, state: &mut JobState) {
        for segment in &self.segments {
            let known = (segment.header.opened, Arc::downgrade(segment));
            state.segments.insert(segment.header.index, known);
        }
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_by_key(|(entry, _)| (entry.seq, entry.written));
        for (entry, segment) in entries {
            self.apply(core, state, entry, segment);
        }
        // Blocks of no length are none.
        for (place, _) in self.lengths_said {
            if let Some(file) = state.files.get_mut(&place.0)
                && file.get(place.1).is_some_and(|block| block.length() == 0)
            {
                file.remove(place.1);
            }
        }
        state.files.retain(|_, file| !file.is_empty());
        for file in state.files.values() {
            let totals = file.totals();
            core.capacity.adopt(totals.charge, totals.blocks);
        }
        drop(state.prune());
    }

    fn apply(&mut self, core: &Core, state: &mut JobState, entry: Entry, segment: Arc<Segment>) {
        let (inode, index) = (entry.inode, entry.block);
        let mut gone = Vec::new();
        match entry.what.clone() {
            What::Data {
                offset,
                length,
                block_length,
                at,
                sums,
            } => {
                let place = Place::Segment {
                    segment,
                    at,
                    recent: None,
                };
                let record = Record::new(offset, length, entry.seq, sums, place, &core.space);
                self.lay(state, &entry, &record, block_length);
            }
            What::Lost {
                offset,
                length,
                block_length,
            } => {
                let place = Place::Lost(Some(segment));
                let sums = Box::default();
                let record = Record::new(offset, length, entry.seq, sums, place, &core.space);
                self.lay(state, &entry, &record, block_length);
            }
            What::Punch {
                offset,
                length,
                block_length,
            } => {
                let record = said_in(core, &entry, segment);
                let block = block(state, (inode, index), &record);
                block.cut(offset, offset.saturating_add(length), &mut gone);
                self.say(state, &entry, &record, block_length);
                if length > 0 {
                    state.tombstones.push(Tombstone { entry, record });
                }
            }
            What::Drop { count } => {
                self.drop_span(state, &entry, count);
                let record = said_in(core, &entry, segment);
                state.tombstones.push(Tombstone { entry, record });
            }
        }
    }

    fn lay(&mut self, state: &mut JobState, entry: &Entry, record: &Arc<Record>, length: u32) {
        let mut gone = Vec::new();
        let extent = Extent {
            offset: record.offset,
            length: record.length,
            record: Arc::clone(record),
        };
        block(state, (entry.inode, entry.block), record).lay(extent, &mut gone);
        self.say(state, entry, record, length);
    }

    fn say(&mut self, state: &mut JobState, entry: &Entry, record: &Arc<Record>, length: u32) {
        let place = (entry.inode, entry.block);
        let said = self.lengths_said.entry(place).or_default();
        if entry.written >= *said {
            *said = entry.written;
            block(state, place, record).say(length, Arc::clone(record));
        }
    }

    /// Everything in the span that was there is gone; of blocks that were made later, copied
    /// entries may have said the length already.
    fn drop_span(&mut self, state: &mut JobState, entry: &Entry, count: u64) {
        let Some(file) = state.files.get_mut(&entry.inode) else {
            return;
        };
        let end = BlockIndex(entry.block.0.saturating_add(count));
        let mut dropped = match count {
            u64::MAX => file.split_off(entry.block),
            _ => file.take_range(entry.block, end),
        };
        while let Some((index, mut block)) = dropped.pop() {
            let said = self.lengths_said.get(&(entry.inode, index));
            if said.is_some_and(|said| *said > entry.seq) {
                block.cut(0, u32::MAX, &mut Vec::new());
                file.insert(index, block);
            }
        }
    }
}

/// The block, made if there is none.
fn block<'a>(
    state: &'a mut JobState,
    (inode, index): (InodeId, BlockIndex),
    record: &Arc<Record>,
) -> &'a mut LogBlock {
    let file: &mut FileBlocks<LogBlock> = state.files.entry(inode).or_default();
    file.get_or_insert_with(index, || LogBlock::new(Arc::clone(record)))
}

fn said_in(core: &Core, entry: &Entry, segment: Arc<Segment>) -> Arc<Record> {
    let place = Place::Segment {
        segment,
        at: 0,
        recent: None,
    };
    Record::new(0, 0, entry.seq, Box::default(), place, &core.space)
}
