//! Records: pieces of blocks, as they were written, and where they are.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    entry::Entry,
    segment::{Segment, Space},
};

/// What was written at once: bytes of a block, or something that was said of it.
pub(super) struct Record {
    /// Where in the block it begins.
    pub(super) offset: u32,
    /// Bytes written; 0 where there are none.
    pub(super) length: u32,
    pub(super) seq: u64,
    pub(super) sums: Box<[u32]>,
    /// Bytes of it that blocks are made of.
    live: AtomicU32,
    place: Mutex<Place>,
    space: Arc<Space>,
}

/// Where a record's bytes are.
#[derive(Clone)]
pub(super) enum Place {
    /// On their way to the medium.
    Memory(Bytes),
    /// In a segment; perhaps also still in memory.
    Segment {
        segment: Arc<Segment>,
        at: u32,
        recent: Option<Bytes>,
    },
    /// Nowhere; that is said in a segment, if anywhere.
    Lost(Option<Arc<Segment>>),
}

impl Place {
    /// The segment that has the record's entry.
    fn segment(&self) -> Option<&Arc<Segment>> {
        match self {
            Place::Memory(_) => None,
            Place::Segment { segment, .. } => Some(segment),
            Place::Lost(segment) => segment.as_ref(),
        }
    }
}

impl Record {
    /// A record that begins at `offset` of its block; `length` of it counts from the first.
    pub(super) fn new(
        offset: u32,
        length: u32,
        seq: u64,
        sums: Box<[u32]>,
        place: Place,
        space: &Arc<Space>,
    ) -> Arc<Self> {
        let record = Record {
            offset,
            length,
            seq,
            sums,
            live: AtomicU32::new(length),
            place: Mutex::new(Place::Lost(None)),
            space: Arc::clone(space),
        };
        space.add_live(u64::from(length) + record.overhead());
        record.move_to(place);
        Arc::new(record)
    }

    /// What it takes beside its payload: an entry in the batch, and one in the summary.
    fn overhead(&self) -> u64 {
        2 * Entry::encoded_bytes(self.length as usize) as u64
    }

    /// What is taken for so many bytes.
    pub(super) fn footprint(payload_bytes: usize) -> u64 {
        (payload_bytes + 2 * Entry::encoded_bytes(payload_bytes)) as u64
    }

    /// Blocks are no longer made of so many of its bytes.
    pub(super) fn kill(&self, bytes: u32) {
        let place = self.place.lock();
        self.live.fetch_sub(bytes, Ordering::Relaxed);
        self.space.remove_live(u64::from(bytes));
        if let Some(segment) = place.segment() {
            segment.live.fetch_sub(u64::from(bytes), Ordering::Relaxed);
        }
    }

    /// Its bytes are elsewhere now.
    pub(super) fn move_to(&self, to: Place) {
        let mut place = self.place.lock();
        if let Some(segment) = to.segment() {
            let counted = u64::from(self.live.load(Ordering::Relaxed)) + self.overhead();
            segment.live.fetch_add(counted, Ordering::Relaxed);
        }
        debug_assert!(place.segment().is_none(), "moved once");
        *place = to;
    }

    pub(super) fn place(&self) -> Place {
        self.place.lock().clone()
    }

    /// Whether it is in this segment.
    pub(super) fn is_in(&self, wanted: &Segment) -> bool {
        let place = self.place.lock();
        let segment = place.segment();
        segment.is_some_and(|segment| std::ptr::eq(&**segment, wanted))
    }

    /// The segment it is in, by its index.
    pub(super) fn segment_index(&self) -> Option<u32> {
        let place = self.place.lock();
        place.segment().map(|segment| segment.header.index)
    }

    /// Lets go of the bytes in memory.
    pub(super) fn forget_recent(&self) {
        if let Place::Segment { recent, .. } = &mut *self.place.lock() {
            *recent = None;
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let counted = u64::from(*self.live.get_mut()) + self.overhead();
        self.space.remove_live(counted);
        if let Some(segment) = self.place.get_mut().segment() {
            segment.live.fetch_sub(counted, Ordering::Relaxed);
        }
    }
}
