//! The state of one open file, shared by all its handles on this mount.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;
use pocket_proto::session::{Entry, Layout, Time};
use pocket_proto::{Failure, InodeId, Status};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::attributes::is_dense;
use super::contents::Version;
use super::counts::Counts;
use super::dirty::DirtyBlock;
use super::failures::Failures;
use super::pause::Changes;
use super::reservation::Reservation;
use super::write_data::WriteData;
use crate::inode_cache::Tick;

/// Whether data may stay in this mount's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// This mount may buffer and keep data.
    Cached,
    /// Other mounts share the file while one writes: each read and write goes to the servers.
    Through,
}

/// Tells open files apart, those of one inode as well; no two of a mount have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OpenNumber(pub(super) u64);

/// An open file.
pub(crate) struct File {
    pub(crate) inode: InodeId,
    pub(super) number: OpenNumber,
    pub(crate) block_bytes: u32,
    pub(super) state: Mutex<State>,
    /// Signalled when a write-back has ended.
    pub(super) progress: Notify,
    /// One commit at a time, so that sizes and counts arrive in order.
    pub(super) commit: tokio::sync::Mutex<()>,
    /// The server is told one by one of what is opened again and closed.
    pub(crate) counting: tokio::sync::Mutex<()>,
    /// Held for writing by what cuts the file, for reading by what writes to it.
    pub(crate) length: tokio::sync::RwLock<()>,
}

/// See [`File`].
pub(crate) struct State {
    pub(crate) sharing: Sharing,
    pub(super) layout: Layout,
    /// The size as this mount sees it, buffered data included.
    pub(crate) size: u64,
    /// The mode bits, to know whether a write must clear set-id bits.
    pub(super) mode: u32,
    /// End of what is stored, or was at open.
    pub(super) stored_size: u64,
    /// What the metadata server knows, unless another mount has cut the file since.
    pub(super) committed_size: u64,
    /// End of what was written through since the last commit: told whatever `committed_size` says.
    pub(super) through_end: u64,
    pub(super) dirty: BTreeMap<u64, DirtyBlock>,
    pub(super) changes: Changes,
    /// Number of the newest write.
    pub(super) writes: u64,
    pub(super) reservation: Reservation,
    /// What storage servers said the writes took, not yet committed.
    pub(super) allocated_delta: i64,
    /// Some of that may lie behind the size, which is not yet committed.
    pub(super) allocated_behind: bool,
    /// Time of the newest write not yet committed.
    pub(super) modified: Option<Time>,
    /// Of write-backs.
    pub(super) failures: Failures,
    /// Blocks whose buffered data could not be stored: they read as EIO until written whole.
    pub(super) lost: BTreeSet<u64>,
    /// Blocks that may be in the block cache.
    pub(super) kept: BTreeSet<u64>,
    /// The time of change that came with what is known of the file.
    pub(super) changed_time: Option<Time>,
    /// A commit was told to the metadata server that it is not known to have heard.
    pub(crate) told: bool,
    /// Nothing has been written to the file since it was opened.
    pub(super) pristine: bool,
    /// All that the file will hold with the next commit, if that is in memory.
    pub(super) content: Option<Bytes>,
    /// When this mount last changed size or layout: older answers of the server may know less.
    pub(super) changed: Option<Tick>,
    /// Grows when the session is lost: what was on its way then counts for nothing.
    pub(super) era: u64,
    /// Which of the mount's sessions the file is open in.
    pub(crate) session: u64,
    /// Handles of earlier eras have lost data: nothing is written through them any more.
    lost_era: u64,
    /// Handles of earlier eras have lost locks: nothing is done through them any more.
    locks_lost_era: u64,
    /// Reasons why pages that the kernel holds of the file may be older than what others have
    /// written: until they are dropped nothing is written from them.
    distrusted_pages: u32,
    /// Set when the open file is beyond rescue (its session or its job is gone).
    pub(crate) dead: Option<Status>,
    /// It goes when it is closed after it was read to the end.
    pub(crate) read_once: bool,
    pub(crate) counts: Counts,
}

/// A write to be buffered, and what was taken for it.
pub(crate) struct NewData<'a> {
    /// None: at the end of the file, wherever that is by now.
    pub(crate) offset: Option<u64>,
    pub(crate) data: WriteData<'a>,
    /// From the grant, bytes.
    pub(crate) space: u64,
    /// From the write budget, as many bytes as `data` has.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What became of a try to buffer a write.
pub(crate) enum Buffered {
    /// It is in memory.
    Done(Touched),
    /// By now more space is needed than was taken.
    NeedsSpace,
    /// The file goes through by now.
    GoesThrough,
    /// It would end behind the largest size.
    TooLarge,
}

/// Blocks that a write has changed in some way that matters to others.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Wholly written: should be sent.
    pub(crate) full: Vec<u64>,
    /// Held for readers, and now out of date.
    pub(crate) stale: Vec<u64>,
}

/// Largest size of a file, bytes (2^63 - 1, as off_t has it).
pub(crate) const FILE_BYTES_MAX: u64 = i64::MAX as u64;

impl File {
    pub(super) fn new(
        inode: InodeId,
        number: OpenNumber,
        (entry, sharing): (&Entry, Sharing),
        session: u64,
    ) -> Self {
        let layout = entry.layout.clone().unwrap_or_default();
        let attributes = entry.attributes.unwrap_or_default();
        let size = attributes.size_bytes;
        File {
            inode,
            number,
            block_bytes: layout.block_bytes.max(1),
            state: Mutex::new(State {
                sharing,
                layout,
                size,
                mode: attributes.mode,
                stored_size: size,
                committed_size: size,
                through_end: 0,
                dirty: BTreeMap::new(),
                changes: Changes::default(),
                writes: 0,
                reservation: Reservation::new(is_dense(&attributes)),
                allocated_delta: 0,
                allocated_behind: false,
                modified: None,
                failures: Failures::default(),
                lost: BTreeSet::new(),
                kept: BTreeSet::new(),
                changed_time: attributes.changed,
                told: false,
                pristine: true,
                content: None,
                changed: None,
                era: 0,
                session,
                lost_era: 0,
                locks_lost_era: 0,
                distrusted_pages: 0,
                dead: None,
                read_once: entry.read_once,
                counts: Counts::default(),
            }),
            progress: Notify::new(),
            commit: tokio::sync::Mutex::new(()),
            counting: tokio::sync::Mutex::new(()),
            length: tokio::sync::RwLock::new(()),
        }
    }

    /// Runs `f` on the state. Short: the lock is not to be held across an await.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// Buffers a write.
    pub(crate) fn buffer(&self, new: NewData<'_>) -> Buffered {
        let mut state = self.state.lock();
        if state.sharing == Sharing::Through {
            return Buffered::GoesThrough;
        }
        let length = new.data.len() as u32;
        let offset = new.offset.unwrap_or(state.size);
        if offset > FILE_BYTES_MAX - u64::from(length) {
            return Buffered::TooLarge;
        }
        if state.space_needed(self.block_bytes, offset, length) > new.space {
            return Buffered::NeedsSpace;
        }
        state.reservation.taken_bytes += new.space as i64;
        Buffered::Done(state.write(self.block_bytes, offset, new.data, new.permit))
    }

    /// Whether nothing is buffered, waits for a commit, or is being committed.
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state.lock();
        state.dirty.is_empty()
            && !state.needs_commit()
            && state.reservation.taken_bytes == 0
            && self.commit.try_lock().is_ok()
    }

    /// Tells a handle of the newest failure of a write-back since it was told of `seen`; how many
    /// there were.
    pub(crate) fn tell_failure(&self, seen: u64) -> (u64, Option<Failure>) {
        self.state.lock().failures.tell(seen)
    }

    /// Failures of write-backs that a handle opened now is not told of.
    pub(crate) fn failures_told(&self) -> u64 {
        self.state.lock().failures.told()
    }

    /// The session is lost: what was not committed under it is lost as well, and each handle is
    /// told so. From here on the file goes through, and the kernel's pages of it are distrusted.
    /// Answers the blocks held for readers.
    ///
    /// `owned`: nobody else knew the file, so its last commits may have been told only. `session` is
    /// the one to come.
    pub(crate) fn abandon(&self, failure: &Failure, owned: bool, session: u64) -> BTreeSet<u64> {
        let mut state = self.state.lock();
        state.share();
        state.distrust_pages();
        state.era += 1;
        state.session = session;
        state.changes.forget_pause();
        state.counts.lose_session();
        // A commit under way has taken what it tells of.
        let committing = self.commit.try_lock().is_err();
        let written = !state.dirty.is_empty() || state.needs_commit() || committing;
        let told = std::mem::take(&mut state.told);
        if written || told || owned {
            state.failures.note(failure.clone());
            state.lost_era = state.era;
        }
        state.dirty.clear();
        if !std::mem::take(&mut state.lost).is_empty() {
            // That it was not stored was told; others may have written there since.
            state.lost_era = state.era;
        }
        state.allocated_delta = 0;
        state.allocated_behind = false;
        state.modified = None;
        state.through_end = 0;
        state.reservation = Reservation::new(false);
        state.stored_size = state.committed_size;
        state.size = state.committed_size;
        let kept = std::mem::take(&mut state.kept);
        drop(state);
        self.progress.notify_waiters();
        kept
    }
}

impl State {
    /// From now on the file goes through. Others may cut it: what it holds is not known any more.
    pub(crate) fn share(&mut self) {
        self.sharing = Sharing::Through;
        self.reservation.doubt();
        self.touch();
    }

    /// The kernel is to drop its pages, which are written no more; [`State::trust_pages`] is to
    /// follow when it has.
    pub(crate) fn distrust_pages(&mut self) {
        self.distrusted_pages += 1;
    }

    /// The kernel has dropped the pages that were distrusted once.
    pub(crate) fn trust_pages(&mut self) {
        self.distrusted_pages = self.distrusted_pages.saturating_sub(1);
    }

    /// The content changes, or may.
    pub(crate) fn touch(&mut self) {
        self.pristine = false;
        self.content = None;
    }

    /// As what a content found or left here counts, if the file is as the server has it.
    pub(super) fn version(&self) -> Option<Version> {
        let changed = self.changed_time?;
        let fit = self.pristine && self.sharing == Sharing::Cached && self.dead.is_none();
        fit.then_some(Version {
            size: self.size,
            changed,
        })
    }

    /// Buffers `data`.
    fn write(
        &mut self,
        block_bytes: u32,
        offset: u64,
        data: WriteData<'_>,
        mut permit: OwnedSemaphorePermit,
    ) -> Touched {
        self.writes += 1;
        self.touch();
        let mut touched = Touched::default();
        let mut end = 0;
        for (block, start, length) in pieces(block_bytes, offset, data.len() as u32) {
            let piece = end..end + length as usize;
            end = piece.end;
            let permit = permit
                .split(length as usize)
                .expect("the permit covers the data");
            let dirty = self.dirty.entry(block).or_default();
            dirty.write(start, data.part(piece), permit, self.writes);
            if dirty.is_full(block_bytes) {
                touched.full.push(block);
                self.lost.remove(&block);
            }
            if self.kept.remove(&block) {
                touched.stale.push(block);
            }
            self.reservation.reach(block, start + length);
        }
        if offset > self.size {
            self.reservation.dense = false;
        }
        self.size = self.size.max(offset + data.len() as u64);
        self.modified = Some(super::now());
        touched
    }

    /// Whether the metadata server has something to be told.
    pub(super) fn needs_commit(&self) -> bool {
        self.stored_size > self.committed_size
            || self.through_end > 0
            || self.allocated_delta != 0
            || self.allocated_behind
            || self.modified.is_some()
    }

    /// The file was cut or grown by a truncate that the server has answered.
    pub(crate) fn resized(&mut self, size: u64, now: Tick) {
        self.touch();
        self.reservation.resized(size, self.size);
        // Nothing is buffered but what was written since the server answered.
        self.size = size;
        self.stored_size = size;
        self.committed_size = size;
        self.through_end = 0;
        self.lost.clear();
        self.changed = Some(now);
    }

    /// Blocks of a range were allocated, and counted; `end` is the end of the file now, if that is
    /// further than it was.
    pub(crate) fn allocated(&mut self, block_bytes: u32, range: Range<u64>, end: u64) {
        if range.start > self.size && end > self.size {
            self.reservation.dense = false;
        }
        if self.sharing == Sharing::Cached {
            self.reservation.promise(block_bytes, range.clone());
        }
        if end > self.size {
            self.size = end;
            self.stored_size = self.stored_size.max(end);
            self.through_end = self.through_end.max(end);
        }
        self.allocated_in_part(range);
        self.modified = Some(super::now());
    }

    /// Some blocks of a range were allocated, and counted; the file is as it was.
    pub(crate) fn allocated_in_part(&mut self, range: Range<u64>) {
        // Another mount may have cut a shared file meanwhile.
        self.allocated_behind |= range.end > self.size || self.sharing == Sharing::Through;
    }

    /// A range reads as zeros now: what could not be stored of a whole block of it does not matter
    /// any more.
    pub(crate) fn zeroed(&mut self, block_bytes: u32, range: &Range<u64>) {
        let block_bytes = u64::from(block_bytes);
        let whole = range.start.div_ceil(block_bytes)..range.end / block_bytes;
        self.lost.retain(|block| !whole.contains(block));
    }

    /// Whether everything below the size is data, so that there is no hole.
    pub(crate) fn is_dense(&self) -> bool {
        self.reservation.dense
    }

    /// Blocks from `first` on that are not, or not only, what servers hold: what is buffered, and
    /// what was and could not be stored.
    pub(crate) fn blocks_in_memory(&self, first: u64) -> BTreeSet<u64> {
        let buffered = self.dirty.range(first..).map(|(block, _)| *block);
        buffered.chain(self.lost.range(first..).copied()).collect()
    }

    /// Whether something was stored without being buffered, and not yet committed.
    pub(crate) fn has_through(&self) -> bool {
        self.through_end > 0
    }

    /// A range of the file reads as zeros now, without what it took.
    pub(crate) fn punched(&mut self) {
        self.reservation.doubt();
        self.modified = Some(super::now());
    }

    /// A piece of a write that went through is stored; its block is no longer held for readers.
    pub(crate) fn stored_through(&mut self, block: u64, start: u64, end: u64, allocated: i64) {
        self.touch();
        if start > self.size {
            self.reservation.dense = false;
        }
        self.stored_size = self.stored_size.max(end);
        self.size = self.size.max(end);
        self.through_end = self.through_end.max(end);
        self.allocated_delta += allocated;
        self.modified = Some(super::now());
        self.kept.remove(&block);
    }

    /// Why nothing can be written through a handle of such an era: the file is beyond rescue, or
    /// what was written before was lost, and there must not be zeros in its place.
    pub(crate) fn refuses_writes(&self, era: u64) -> Option<Status> {
        let lost = (era < self.lost_era).then_some(Status::Lost);
        self.dead.or(lost).or(self.lost_locks(era))
    }

    /// Why nothing can be written from the kernel's pages: what they hold around what a program
    /// stored may be older than what others have written.
    pub(crate) fn refuses_pages(&self) -> Option<Status> {
        (self.distrusted_pages > 0).then_some(Status::Lost)
    }

    /// Locks on the file were lost with the session, by whoever it was that had them.
    pub(crate) fn lose_locks(&mut self) {
        self.locks_lost_era = self.era;
    }

    /// Why nothing can be done through a handle of such an era: it was open when locks were lost.
    pub(crate) fn lost_locks(&self, era: u64) -> Option<Status> {
        (era < self.locks_lost_era).then_some(Status::Lost)
    }

    /// Which session the file's opens are counted in.
    pub(crate) fn era(&self) -> u64 {
        self.era
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
