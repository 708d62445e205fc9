//! One block: how long it is, and the records it is made of.

use std::sync::Arc;

use super::record::Record;
use crate::engine::file_blocks::Held;

/// A block. Ranges without an extent are zeros.
pub(super) struct LogBlock {
    length: u32,
    /// In order of offset; they do not overlap.
    extents: Vec<Extent>,
    /// What last said how long the block is: it must stay on the medium.
    said_by: Arc<Record>,
}

/// A range of a block and the record that has its bytes.
#[derive(Clone)]
pub(super) struct Extent {
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) record: Arc<Record>,
}

impl Extent {
    pub(super) fn end(&self) -> u32 {
        self.offset + self.length
    }

    /// The part of it between two offsets; `None` if there is none.
    pub(super) fn within(&self, from: u32, to: u32) -> Option<Extent> {
        let (start, end) = (self.offset.max(from), self.end().min(to));
        (start < end).then(|| Extent {
            offset: start,
            length: end - start,
            record: Arc::clone(&self.record),
        })
    }
}

impl Held for LogBlock {
    fn length_bytes(&self) -> usize {
        self.length as usize
    }
}

impl LogBlock {
    /// A block without bytes, as `said_by` says.
    pub(super) fn new(said_by: Arc<Record>) -> Self {
        LogBlock {
            length: 0,
            extents: Vec::new(),
            said_by,
        }
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    /// Notes what was last said of its length. Answers who said so before.
    pub(super) fn say(&mut self, length: u32, said_by: Arc<Record>) -> Arc<Record> {
        self.length = length;
        std::mem::replace(&mut self.said_by, said_by)
    }

    pub(super) fn said_by(&self) -> &Arc<Record> {
        &self.said_by
    }

    /// The extents between two offsets, cut there.
    pub(super) fn extents(&self, from: u32, to: u32) -> impl Iterator<Item = Extent> {
        let first = self.extents.partition_point(|extent| extent.end() <= from);
        self.extents[first..]
            .iter()
            .map_while(move |extent| extent.within(from, to))
    }

    /// Has a range hold nothing; moves the records that it was made of to `gone`.
    pub(super) fn cut(&mut self, from: u32, to: u32, gone: &mut Vec<Arc<Record>>) {
        let first = self.extents.partition_point(|extent| extent.end() <= from);
        let behind = self.extents.partition_point(|extent| extent.offset < to);
        if from >= to || first >= behind {
            return;
        }
        let mut kept = Vec::new();
        for extent in &self.extents[first..behind] {
            if let Some(cut) = extent.within(from, to) {
                cut.record.kill(cut.length);
                gone.push(cut.record);
            }
            kept.extend(extent.within(0, from));
            kept.extend(extent.within(to, u32::MAX));
        }
        self.extents.splice(first..behind, kept);
    }

    /// Has a range be made of a record; what it was made of goes to `gone`.
    pub(super) fn lay(&mut self, extent: Extent, gone: &mut Vec<Arc<Record>>) {
        self.cut(extent.offset, extent.end(), gone);
        let at = self
            .extents
            .partition_point(|other| other.offset < extent.offset);
        self.extents.insert(at, extent);
    }

    /// Has what is made of `old` in the range be made of `new` instead, byte for byte. False: it is
    /// not made of that any more.
    pub(super) fn replace(&mut self, old: &Extent, new: &Arc<Record>) -> bool {
        let found = self.extents.iter_mut().find(|extent| {
            Arc::ptr_eq(&extent.record, &old.record)
                && (extent.offset, extent.length) == (old.offset, old.length)
        });
        match found {
            Some(extent) => {
                extent.record.kill(extent.length);
                extent.record = Arc::clone(new);
                true
            }
            None => false,
        }
    }
}
