//! The state of one open file, shared by all its handles on this mount.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use pocket_proto::session::{Attributes, Entry, Layout, Time};
use pocket_proto::{Failure, InodeId, Status};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::dirty::DirtyBlock;

/// Storage servers allocate in steps of this many bytes.
const ALLOCATION_UNIT_BYTES: u32 = 512;
/// Set-user-id and set-group-id.
const SET_ID_BITS: u32 = 0o6000;

/// Whether data may stay in this mount's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// This mount may buffer and keep data.
    Cached,
    /// Other mounts share the file while one writes: each read and write goes to the servers.
    Through,
}

/// An open file.
pub(crate) struct File {
    pub(crate) inode: InodeId,
    pub(crate) block_bytes: u32,
    pub(super) state: Mutex<State>,
    /// Signalled when a write-back has ended.
    pub(super) progress: Notify,
    /// One commit at a time, so that sizes and counts arrive in order.
    pub(super) commit: tokio::sync::Mutex<()>,
}

/// See [`File`].
pub(crate) struct State {
    pub(crate) sharing: Sharing,
    pub(crate) layout: Layout,
    /// The size as this mount sees it, buffered data included.
    pub(crate) size: u64,
    /// The mode bits, to know whether a write must clear set-id bits.
    pub(super) mode: u32,
    /// End of what is stored, or was at open.
    pub(super) stored_size: u64,
    /// What the metadata server knows.
    pub(super) committed_size: u64,
    /// No holes when opened: everything below `committed_size` has its space already.
    dense: bool,
    pub(super) dirty: BTreeMap<u64, DirtyBlock>,
    /// Number of the newest write.
    pub(super) writes: u64,
    /// How far space was taken in each block written since all was last stored.
    reserved_ends: BTreeMap<u64, u32>,
    /// Space taken and not yet accounted for by a commit.
    pub(crate) reserved_bytes: i64,
    /// What storage servers said the writes took, not yet committed.
    pub(super) allocated_delta: i64,
    /// Time of the newest write not yet committed.
    pub(super) modified: Option<Time>,
    /// The first failure of a write-back that nobody has been told of.
    pub(super) failed: Option<Failure>,
    /// Blocks that may be in the block cache.
    pub(super) kept: BTreeSet<u64>,
    /// Set when the open file is beyond rescue (its session or its job is gone).
    pub(crate) dead: Option<Status>,
    pub(super) readers: u32,
    pub(super) writers: u32,
}

/// What became of a try to buffer a write.
pub(crate) enum Buffered {
    /// It is in memory.
    Done(Touched),
    /// More space than given is needed, by then.
    NeedsSpace,
    /// The file has gone through meanwhile.
    GoesThrough,
}

/// Blocks that a write has changed in some way that matters to others.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Wholly written: should be sent.
    pub(crate) full: Vec<u64>,
    /// Held for readers, and now out of date.
    pub(crate) stale: Vec<u64>,
}

impl File {
    pub(super) fn new(inode: InodeId, entry: &Entry, sharing: Sharing) -> Self {
        let layout = entry.layout.clone().unwrap_or_default();
        let attributes = entry.attributes.unwrap_or_default();
        let size = attributes.size_bytes;
        File {
            inode,
            block_bytes: layout.block_bytes.max(1),
            state: Mutex::new(State {
                sharing,
                layout,
                size,
                mode: attributes.mode,
                stored_size: size,
                committed_size: size,
                dense: attributes.allocated_bytes >= size,
                dirty: BTreeMap::new(),
                writes: 0,
                reserved_ends: BTreeMap::new(),
                reserved_bytes: 0,
                allocated_delta: 0,
                modified: None,
                failed: None,
                kept: BTreeSet::new(),
                dead: None,
                readers: 0,
                writers: 0,
            }),
            progress: Notify::new(),
            commit: tokio::sync::Mutex::new(()),
        }
    }

    /// Runs `f` on the state. Short: the lock is not to be held across an await.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// Space that buffering `length` bytes at `offset` must be able to count on.
    pub(crate) fn space_needed(&self, offset: u64, length: u32) -> u64 {
        self.state
            .lock()
            .space_needed(self.block_bytes, offset, length)
    }

    /// Buffers `data`, for which `space` bytes were taken from the grant and `permit` from the
    /// write budget.
    pub(crate) fn buffer(
        &self,
        offset: u64,
        data: &[u8],
        space: u64,
        permit: OwnedSemaphorePermit,
    ) -> Buffered {
        let mut state = self.state.lock();
        if state.sharing == Sharing::Through {
            return Buffered::GoesThrough;
        }
        let length = data.len() as u32;
        if state.space_needed(self.block_bytes, offset, length) > space {
            return Buffered::NeedsSpace;
        }
        state.reserved_bytes += space as i64;
        Buffered::Done(state.write(self.block_bytes, offset, data, permit))
    }

    /// Lets attributes from the server show what is only in this mount's memory.
    pub(crate) fn overlay(&self, attributes: &mut Attributes) {
        let state = self.state.lock();
        if state.sharing == Sharing::Cached {
            if state.writers > 0 || !state.dirty.is_empty() {
                attributes.size_bytes = attributes.size_bytes.max(state.size);
            }
            if let Some(modified) = &state.modified {
                attributes.modified = Some(*modified);
                attributes.changed = attributes.changed.max_by_time(*modified);
            }
        }
    }

    /// The server has answered with newer attributes than those at open.
    pub(crate) fn refresh(&self, entry: &Entry) {
        let Some(attributes) = &entry.attributes else {
            return;
        };
        let mut state = self.state.lock();
        state.mode = attributes.mode;
        if let Some(layout) = &entry.layout {
            state.adopt_layout(layout);
        }
        if state.dirty.is_empty() && state.stored_size <= state.committed_size {
            state.size = attributes.size_bytes;
            state.stored_size = attributes.size_bytes;
            state.committed_size = attributes.size_bytes;
        } else {
            state.committed_size = state.committed_size.max(attributes.size_bytes);
            state.size = state.size.max(attributes.size_bytes);
        }
    }

    /// The modification time is being set: what was buffered before does not change it any more.
    pub(crate) fn forget_modified(&self) {
        self.state.lock().modified = None;
    }

    /// To be told at the next flush.
    pub(crate) fn fail_later(&self, failure: Failure) {
        self.state.lock().failed.get_or_insert(failure);
    }

    /// Whether a write by someone without the right to keep them clears set-id bits.
    pub(crate) fn has_set_id(&self) -> bool {
        self.state.lock().mode & SET_ID_BITS != 0
    }

    /// Whether nothing is buffered or waits for a commit.
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state.lock();
        state.dirty.is_empty() && !state.needs_commit() && state.failed.is_none()
    }
}

impl State {
    /// For each block touched: the growth of its end beyond what it holds or has been taken.
    fn space_needed(&self, block_bytes: u32, offset: u64, length: u32) -> u64 {
        pieces(block_bytes, offset, length)
            .map(|(block, start, length)| {
                let end = round_up(start + length);
                let held = self.reserved_ends.get(&block).copied().unwrap_or(0);
                let held = held.max(self.allocated_end(block_bytes, block));
                u64::from(end.saturating_sub(held))
            })
            .sum()
    }

    /// Bytes of `block` that surely have their space on the server.
    fn allocated_end(&self, block_bytes: u32, block: u64) -> u32 {
        if !self.dense {
            return 0;
        }
        let behind = self
            .committed_size
            .saturating_sub(block * u64::from(block_bytes));
        round_up(behind.min(u64::from(block_bytes)) as u32)
    }

    /// Buffers `data`.
    fn write(
        &mut self,
        block_bytes: u32,
        offset: u64,
        data: &[u8],
        mut permit: OwnedSemaphorePermit,
    ) -> Touched {
        self.writes += 1;
        let mut touched = Touched::default();
        let mut rest = data;
        for (block, start, length) in pieces(block_bytes, offset, data.len() as u32) {
            let (piece, behind) = rest.split_at(length as usize);
            rest = behind;
            let permit = permit
                .split(length as usize)
                .expect("the permit covers the data");
            let dirty = self.dirty.entry(block).or_default();
            dirty.write(start, piece, permit, self.writes);
            if dirty.is_full(block_bytes) {
                touched.full.push(block);
            }
            if self.kept.remove(&block) {
                touched.stale.push(block);
            }
            let end = self.reserved_ends.entry(block).or_insert(0);
            *end = (*end).max(round_up(start + length));
        }
        if offset > self.size {
            self.dense = false;
        }
        self.size = self.size.max(offset + data.len() as u64);
        self.modified = Some(super::now());
        touched
    }

    pub(super) fn needs_commit(&self) -> bool {
        self.stored_size > self.committed_size
            || self.allocated_delta != 0
            || self.modified.is_some()
    }

    /// All is stored and committed: what was taken and not used goes back.
    pub(super) fn settle(&mut self) -> i64 {
        if !self.dirty.is_empty() || self.allocated_delta != 0 {
            return 0;
        }
        self.reserved_ends.clear();
        std::mem::take(&mut self.reserved_bytes)
    }

    /// Takes a layout over if it knows more exceptions than ours.
    pub(crate) fn adopt_layout(&mut self, layout: &Layout) {
        if layout.block_bytes == self.layout.block_bytes
            && (layout.epoch != self.layout.epoch
                || layout.exceptions.len() >= self.layout.exceptions.len())
        {
            self.layout = layout.clone();
        }
    }

    /// The file was cut or grown by a truncate that the server has answered.
    pub(crate) fn resized(&mut self, size: u64) {
        if size > self.size {
            self.dense = false;
        }
        self.size = size;
        self.stored_size = size;
        self.committed_size = size;
        self.reserved_ends.clear();
    }

    /// A write that went through is stored up to `end`.
    pub(crate) fn stored(&mut self, end: u64, allocated: i64) {
        self.stored_size = self.stored_size.max(end);
        self.size = self.size.max(end);
        self.allocated_delta += allocated;
        self.modified = Some(super::now());
    }

    /// Open handles, readers and writers.
    pub(crate) fn opens(&self) -> (u32, u32) {
        (self.readers, self.writers)
    }
}

/// Splits a range of a file at block boundaries: (block, start within it, length).
pub(crate) fn pieces(
    block_bytes: u32,
    offset: u64,
    length: u32,
) -> impl Iterator<Item = (u64, u32, u32)> {
    let block_bytes = u64::from(block_bytes);
    let end = offset + u64::from(length);
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let block = at / block_bytes;
            let stop = ((block + 1) * block_bytes).min(end);
            let piece = (block, (at % block_bytes) as u32, (stop - at) as u32);
            at = stop;
            piece
        })
    })
}

fn round_up(bytes: u32) -> u32 {
    bytes.next_multiple_of(ALLOCATION_UNIT_BYTES)
}

/// The later of two times.
trait Later {
    fn max_by_time(self, other: Time) -> Option<Time>;
}

impl Later for Option<Time> {
    fn max_by_time(self, other: Time) -> Option<Time> {
        match self {
            Some(time)
                if (time.seconds, time.nanoseconds) >= (other.seconds, other.nanoseconds) =>
            {
                Some(time)
            }
            _ => Some(other),
        }
    }
}
