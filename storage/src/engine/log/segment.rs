//! Segments: whose they are, and which are free.
//!
//! A segment in use lives as long as something refers to it: records that blocks are made of, what
//! was said in it and still counts, readers, writes under way. When nothing does it goes to the
//! graveyard, a thread that erases its header and makes it free.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

use parking_lot::Mutex;
use pocket_proto::{BlockIndex, InodeId};

use super::{
    format::{SEGMENTS_AT, SegmentHeader},
    ticket::Ticket,
};

/// Free segments that only cleaning may take: it needs some to make more.
pub(super) const CLEANING_RESERVE: usize = 3;

/// A segment in use.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    /// Bytes in it that count.
    pub(super) live: AtomicU64,
    /// It failed a write and is not used again.
    pub(super) retired: AtomicBool,
    /// Blocks that entries in it speak of.
    pub(super) mentions: Mutex<Vec<(InodeId, BlockIndex)>>,
    /// Who waits for its end.
    awaited: Mutex<Option<Arc<Ticket>>>,
    graveyard: mpsc::Sender<Dead>,
}

/// A segment that nothing refers to.
pub(super) struct Dead {
    pub(super) header: SegmentHeader,
    pub(super) retired: bool,
    /// Let go of when its header is erased. Where somebody waits, its job was dropped.
    pub(super) awaited: Option<Arc<Ticket>>,
}

impl Segment {
    pub(super) fn new(header: SegmentHeader, graveyard: mpsc::Sender<Dead>) -> Self {
        Segment {
            header,
            live: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            mentions: Mutex::default(),
            awaited: Mutex::default(),
            graveyard,
        }
    }

    /// Has the ticket wait until the segment is erased.
    pub(super) fn awaited_by(&self, ticket: &Arc<Ticket>) {
        *self.awaited.lock() = Some(Arc::clone(ticket));
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Without a graveyard the engine has ended: what is on the medium stays as it is.
        let _ = self.graveyard.send(Dead {
            header: self.header,
            retired: self.retired.load(Ordering::Relaxed),
            awaited: self.awaited.lock().take(),
        });
    }
}

/// A segment that nobody has.
#[derive(Clone, Copy)]
struct Free {
    index: u32,
    /// The medium knows that its content is of no use.
    trimmed: bool,
}

/// The segments of a medium.
pub(super) struct Space {
    pub(super) segment_bytes: u32,
    segments: u32,
    free: Mutex<VecDeque<Free>>,
    /// Bytes that count, in all segments and on their way there.
    live: AtomicU64,
    pub(super) graveyard: mpsc::Sender<Dead>,
}

impl Space {
    pub(super) fn new(
        segment_bytes: u32,
        segments: u32,
        free: impl IntoIterator<Item = u32>,
        graveyard: mpsc::Sender<Dead>,
    ) -> Self {
        let trimmed = |index| Free {
            index,
            trimmed: true,
        };
        let free = free.into_iter().map(trimmed).collect();
        Space {
            segment_bytes,
            segments,
            free: Mutex::new(free),
            live: AtomicU64::new(0),
            graveyard,
        }
    }

    /// First byte of a segment on the medium.
    pub(super) fn place(&self, index: u32) -> u64 {
        SEGMENTS_AT + u64::from(index) * u64::from(self.segment_bytes)
    }

    /// A free segment, unless only those for cleaning are left.
    pub(super) fn take(&self, for_cleaning: bool) -> Option<u32> {
        let mut free = self.free.lock();
        let kept = if for_cleaning { 0 } else { CLEANING_RESERVE };
        let taken = (free.len() > kept).then(|| free.pop_front()).flatten()?;
        Some(taken.index)
    }

    pub(super) fn give_back(&self, index: u32) {
        let trimmed = false;
        self.free.lock().push_back(Free { index, trimmed });
    }

    /// Has `trim` tell the medium that a free segment is of no use; nobody else has it meanwhile.
    /// False: there is none that it does not know of.
    pub(super) fn trim_one(&self, trim: impl FnOnce(u32)) -> bool {
        let taken = {
            let mut free = self.free.lock();
            let untrimmed = free.iter().position(|free| !free.trimmed);
            untrimmed.and_then(|at| free.remove(at))
        };
        let Some(Free { index, .. }) = taken else {
            return false;
        };
        trim(index);
        let trimmed = true;
        self.free.lock().push_back(Free { index, trimmed });
        true
    }

    pub(super) fn free_segments(&self) -> usize {
        self.free.lock().len()
    }

    pub(super) fn segments(&self) -> usize {
        self.segments as usize
    }

    pub(super) fn add_live(&self, bytes: u64) {
        self.live.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove_live(&self, bytes: u64) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether cleaning can make room for so many bytes more, when `jobs` jobs have blocks: each may
    /// leave a segment unfilled, and a fraction of every segment is lost to its ends.
    pub(super) fn has_room(&self, bytes: u64, jobs: usize) -> bool {
        let kept = 2 * CLEANING_RESERVE + jobs;
        let usable = self.segments().saturating_sub(kept) as u64;
        let per_segment = u64::from(self.segment_bytes / 16 * 15);
        self.live.load(Ordering::Relaxed) + bytes <= usable * per_segment
    }
}
