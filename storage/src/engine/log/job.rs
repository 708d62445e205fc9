//! A job's blocks: what they are now, in memory, ahead of what the medium holds.
//!
//! Every change is made here at once, under the job's lock, and queued as entries for the medium, in
//! the same order. Until an entry is written its bytes are read from memory, and what it supersedes
//! is held: a crash finds one or the other.
//!
//! Lock order: a job before a record; everything else is taken last and alone.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::{BlockIndex, BlockSpan, Failure, InodeId, JobId};

use super::{
    append::Writer,
    block::{Extent, LogBlock},
    core::Core,
    entry::{Entry, What},
    record::{Place, Record},
    segment::Segment,
    ticket::Ticket,
};
use crate::engine::{
    extent::{BLOCK_BYTES_MAX, charge_of},
    file_blocks::FileBlocks,
    jobs::job_gone,
};

/// A job and its blocks.
pub(super) struct LogJob {
    pub(super) id: JobId,
    pub(super) state: Mutex<JobState>,
}

/// What a job has.
#[derive(Default)]
pub(super) struct JobState {
    pub(super) files: HashMap<InodeId, FileBlocks<LogBlock>>,
    /// What was said to be gone, and is still needed so that it stays gone.
    pub(super) tombstones: Vec<Tombstone>,
    /// The job's segments, and when each was opened.
    pub(super) segments: BTreeMap<u32, (u64, Weak<Segment>)>,
    pub(super) writer: Writer,
    pub(super) dropped: bool,
}

/// Something said to be gone.
pub(super) struct Tombstone {
    pub(super) entry: Entry,
    pub(super) record: Arc<Record>,
}

/// Bytes to be laid into a block.
pub(super) struct Piece {
    pub(super) offset: u32,
    pub(super) data: Bytes,
    pub(super) sums: Box<[u32]>,
}

/// An entry on its way to the medium.
pub(super) struct Pending {
    pub(super) entry: Entry,
    pub(super) record: Arc<Record>,
    pub(super) data: Bytes,
    /// Who waits for it.
    pub(super) ticket: Arc<Ticket>,
    /// What it supersedes, not to be let go of before it is written.
    #[expect(dead_code, reason = "dropped with the entry, and not before")]
    pub(super) held: Option<Box<dyn Any + Send>>,
    /// How often it has failed.
    pub(super) failures: u32,
}

/// A change of one block.
pub(super) struct Edit {
    pub(super) place: (InodeId, BlockIndex),
    /// How long the block becomes; 0 drops it.
    pub(super) length: usize,
    pub(super) pieces: Vec<Piece>,
    /// A range that then holds nothing.
    pub(super) punched: Range<usize>,
}

impl LogJob {
    pub(super) fn new(id: JobId) -> Self {
        LogJob {
            id,
            state: Mutex::default(),
        }
    }

    /// Drops everything, and whatever comes later. The ticket waits until the medium has none of it.
    /// Answers the change of what is charged.
    pub(super) fn drop_all(&self, core: &Core, ticket: &Arc<Ticket>) -> i64 {
        let (files, tombstones, writer) = {
            let mut state = self.state.lock();
            state.dropped = true;
            let segments = state.segments.values();
            for segment in segments.filter_map(|(_, segment)| segment.upgrade()) {
                segment.awaited_by(ticket);
            }
            (
                std::mem::take(&mut state.files),
                std::mem::take(&mut state.tombstones),
                state.writer.take_all(),
            )
        };
        for pending in writer.queue.iter().chain(&writer.moves) {
            pending.ticket.fail(job_gone(self.id));
        }
        let mut change = 0;
        for file in files.into_values() {
            let totals = file.totals();
            core.capacity.release(totals.charge);
            core.capacity.count_blocks(0, totals.blocks);
            change -= totals.charge as i64;
        }
        drop((tombstones, writer));
        change
    }
}

impl JobState {
    /// Fails for a job that was dropped while someone still had it in hand.
    pub(super) fn check(&self, job: JobId) -> Result<(), Failure> {
        match self.dropped {
            true => Err(job_gone(job)),
            false => Ok(()),
        }
    }

    pub(super) fn block(&self, (inode, block): (InodeId, BlockIndex)) -> Option<&LogBlock> {
        self.files.get(&inode)?.get(block)
    }

    /// How long a block is; 0 where there is none.
    pub(super) fn length_of(&self, place: (InodeId, BlockIndex)) -> usize {
        self.block(place).map_or(0, |block| block.length() as usize)
    }

    /// Makes a change and queues it. Answers the change of what is charged; where that does not fit
    /// nothing is done.
    pub(super) fn edit(
        &mut self,
        core: &Core,
        edit: Edit,
        ticket: &Arc<Ticket>,
    ) -> Result<i64, Failure> {
        let before = self.block(edit.place).map(LogBlock::length);
        let (charged, charge) = (
            charge_of(before.unwrap_or(0) as usize),
            charge_of(edit.length),
        );
        let grows = charge.saturating_sub(charged);
        let payload = edit.pieces.iter().map(|piece| piece.data.len()).sum();
        if payload > 0 || grows > 0 {
            core.admit(payload)?;
        }
        core.capacity.charge(grows)?;
        match (before, edit.length) {
            (None, 0) => {}
            (Some(_), 0) => {
                self.drop_block(core, edit.place, ticket);
                core.capacity.count_blocks(0, 1);
            }
            _ => {
                if before.is_none() {
                    core.capacity.count_blocks(1, 0);
                }
                self.change_block(core, edit, ticket);
            }
        }
        core.capacity.release(charged.saturating_sub(charge));
        Ok(charge as i64 - charged as i64)
    }

    fn change_block(&mut self, core: &Core, edit: Edit, ticket: &Arc<Ticket>) {
        let Edit {
            place: (inode, index),
            length,
            pieces,
            punched,
        } = edit;
        // No block is longer than 16 MiB.
        let block_length = length as u32;
        let file = self.files.entry(inode).or_default();
        let entry = |what, seq| Entry {
            inode,
            block: index,
            what,
            seq,
            written: seq,
        };
        for piece in pieces {
            let seq = core.tick();
            let bytes = piece.data.len() as u32;
            let in_memory = Place::Memory(piece.data.clone());
            let what = What::Data {
                offset: piece.offset,
                length: bytes,
                block_length,
                at: 0,
                sums: piece.sums.clone(),
            };
            let record = Record::new(piece.offset, bytes, seq, piece.sums, in_memory, &core.space);
            let mut gone = Vec::new();
            if file.get(index).is_none() {
                file.insert(index, LogBlock::new(Arc::clone(&record)));
            }
            if let Some(block) = file.get_mut(index) {
                let extent = Extent {
                    offset: piece.offset,
                    length: bytes,
                    record: Arc::clone(&record),
                };
                block.lay(extent, &mut gone);
                gone.push(block.say(block_length, Arc::clone(&record)));
            }
            self.writer.queue.push_back(Pending {
                entry: entry(what, seq),
                record,
                data: piece.data,
                ticket: Arc::clone(ticket),
                held: Some(Box::new(gone)),
                failures: 0,
            });
        }
        // What reaches the end is cut off there.
        let range = match punched.end >= length {
            true => block_length.min(punched.start as u32)..BLOCK_BYTES_MAX as u32,
            false => punched.start as u32..punched.end as u32,
        };
        let mut gone = Vec::new();
        if let Some(block) = file.get_mut(index) {
            block.cut(range.start, range.end, &mut gone);
        }
        let is_tombstone = !gone.is_empty();
        if !is_tombstone && file.get(index).map(LogBlock::length) == Some(block_length) {
            return;
        }
        let seq = core.tick();
        let entry = entry(
            What::Punch {
                offset: range.start,
                length: if is_tombstone {
                    range.end - range.start
                } else {
                    0
                },
                block_length,
            },
            seq,
        );
        let record = said_record(core, seq);
        match file.get_mut(index) {
            Some(block) => gone.push(block.say(block_length, Arc::clone(&record))),
            None => {
                let mut block = LogBlock::new(Arc::clone(&record));
                block.say(block_length, Arc::clone(&record));
                file.insert(index, block);
            }
        }
        self.say(entry, record, is_tombstone, gone, ticket);
    }

    fn drop_block(&mut self, core: &Core, place: (InodeId, BlockIndex), ticket: &Arc<Ticket>) {
        let (inode, index) = place;
        let Some(file) = self.files.get_mut(&inode) else {
            return;
        };
        let gone = file.remove(index);
        if file.is_empty() {
            self.files.remove(&inode);
        }
        let seq = core.tick();
        let entry = Entry {
            inode,
            block: index,
            what: What::Drop { count: 1 },
            seq,
            written: seq,
        };
        self.say(entry, said_record(core, seq), true, gone, ticket);
    }

    /// Drops the blocks of a span. Answers the change of what is charged.
    pub(super) fn drop_span(&mut self, core: &Core, span: BlockSpan, ticket: &Arc<Ticket>) -> i64 {
        let Some(file) = self.files.get_mut(&span.inode) else {
            return 0;
        };
        let gone = match span.count {
            // Behind the last there is nothing to look for.
            u64::MAX => file.split_off(span.first),
            _ => file.take_range(span.first, span.end()),
        };
        if file.is_empty() {
            self.files.remove(&span.inode);
        }
        if gone.is_empty() {
            return 0;
        }
        let totals = gone.totals();
        let seq = core.tick();
        let entry = Entry {
            inode: span.inode,
            block: span.first,
            what: What::Drop { count: span.count },
            seq,
            written: seq,
        };
        self.say(entry, said_record(core, seq), true, gone, ticket);
        core.capacity.release(totals.charge);
        core.capacity.count_blocks(0, totals.blocks);
        -(totals.charge as i64)
    }

    /// Queues an entry without bytes.
    fn say(
        &mut self,
        entry: Entry,
        record: Arc<Record>,
        is_tombstone: bool,
        held: impl Any + Send,
        ticket: &Arc<Ticket>,
    ) {
        if is_tombstone {
            self.tombstones.push(Tombstone {
                entry: entry.clone(),
                record: Arc::clone(&record),
            });
        }
        self.writer.queue.push_back(Pending {
            entry,
            record,
            data: Bytes::new(),
            ticket: Arc::clone(ticket),
            held: Some(Box::new(held)),
            failures: 0,
        });
    }

    /// Takes out the tombstones that are no longer needed, for the caller to drop.
    pub(super) fn prune(&mut self) -> Vec<Tombstone> {
        let mut opened: Vec<_> = self
            .segments
            .iter()
            .map(|(index, (opened, _))| (*opened, *index))
            .collect();
        opened.sort_unstable();
        let oldest_beside = |own: Option<u32>| {
            let others = opened.iter().find(|(_, index)| Some(*index) != own);
            others.map_or(u64::MAX, |(opened, _)| *opened)
        };
        let needed = |tombstone: &mut Tombstone| {
            oldest_beside(tombstone.record.segment_index()) >= tombstone.entry.seq
        };
        self.tombstones.extract_if(.., needed).collect()
    }
}

/// Stands for something that was said, without bytes.
pub(super) fn said_record(core: &Core, seq: u64) -> Arc<Record> {
    let nothing = Place::Memory(Bytes::new());
    Record::new(0, 0, seq, Box::default(), nothing, &core.space)
}
