//! Room for what is new: dead segments are erased and become free, and segments with little left in
//! them are emptied.
//!
//! Two threads. The graveyard erases the headers of segments that nothing refers to; it syncs the
//! medium first, so that what took the place of their content is there when they are gone. The
//! cleaner works when free segments get few: it writes what counts in the emptiest segment once
//! more, unchanged and under its old `seq`, and lets go of the segment.

use std::{
    collections::HashSet,
    sync::{Arc, Weak, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;
use pocket_proto::{BlockIndex, InodeId, JobId};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::{
    append::{resume_starved, write},
    block::{Extent, LogBlock},
    core::Core,
    entry::{Entry, What, sums_of},
    job::{JobState, LogJob, Pending, said_record},
    read::read_extent,
    record::{Place, Record},
    segment::{Dead, Segment},
    ticket::Ticket,
};
use crate::engine::device::{SECTOR_BYTES, SectorBuffer, write_wait};

/// How often the cleaner looks for work unasked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Segments in which more than this counts are not worth emptying.
const LIVE_PERCENT_MAX: u64 = 95;
/// Bytes that are moved together.
const MOVED_BYTES_MAX: usize = 4 << 20;
/// Things said to be gone that a job may have before its oldest segment is emptied, which lets them
/// be forgotten.
const TOMBSTONES_MAX: usize = 1 << 16;
/// Free segments are trimmed when nothing was written for so many looks: a segment that is soon used
/// again is better left as it is, for its file system and for its flash.
const QUIET_LOOKS: u32 = 10;
/// Segments trimmed in one go, so that cleaning need not wait for long.
const TRIMMED_TOGETHER: usize = 64;
/// Segments erased after one sync.
const ERASED_TOGETHER: usize = 256;

/// Starts both threads. They end with the engine.
pub(super) fn start(core: &Arc<Core>, dead: mpsc::Receiver<Dead>) -> std::io::Result<()> {
    let (buried, cleaned) = (Arc::downgrade(core), Arc::downgrade(core));
    thread::Builder::new()
        .name("pocket-graveyard".to_owned())
        .spawn(move || bury(&buried, &dead))?;
    thread::Builder::new()
        .name("pocket-cleaner".to_owned())
        .spawn(move || clean_when_needed(&cleaned))?;
    Ok(())
}

fn bury(core: &Weak<Core>, dead: &mpsc::Receiver<Dead>) {
    while let Ok(first) = dead.recv() {
        let Some(core) = core.upgrade() else { return };
        if core.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut together = vec![first];
        together.extend(dead.try_iter().take(ERASED_TOGETHER - 1));
        // Of a job that was dropped nothing has taken the place.
        if together.iter().any(|dead| dead.awaited.is_none())
            && let Err(cause) = core.device.sync()
        {
            core.note_error("syncing the medium", JobId(0), &cause);
        }
        for dead in together {
            erase(&core, dead);
        }
        resume_starved(&core);
        core.cleaner.raise();
    }
}

fn erase(core: &Arc<Core>, dead: Dead) {
    let index = dead.header.index;
    let erased = write_wait(
        &*core.device,
        core.space.place(index),
        SectorBuffer::zeroed(SECTOR_BYTES),
    );
    if let Some(job) = core.jobs.get(dead.header.job) {
        let forgotten = {
            let mut state = job.state.lock();
            state.segments.remove(&index);
            state.prune()
        };
        drop(forgotten);
    }
    match erased {
        Ok(()) if dead.retired => warn!(segment = index, "segment not used again"),
        Ok(()) => core.space.give_back(index),
        Err(cause) => core.note_error("erasing a segment", dead.header.job, &cause),
    }
}

fn clean_when_needed(core: &Weak<Core>) {
    let (mut quiet_looks, mut written) = (0, 0);
    loop {
        {
            let Some(core) = core.upgrade() else { return };
            if core.closed.load(Ordering::Relaxed) {
                return;
            }
            let before =
                std::mem::replace(&mut written, core.written_bytes.load(Ordering::Relaxed));
            quiet_looks = if before == written {
                quiet_looks + 1
            } else {
                0
            };
            if core.space.free_segments() < core.low_water() {
                clean_one(&core);
            } else if quiet_looks > QUIET_LOOKS {
                trim(&core);
            }
            relieve_tombstones(&core);
        }
        // Waits on a clone that keeps nothing but the signal alive.
        let Some(signal) = core.upgrade().map(|core| Arc::clone(&core.cleaner)) else {
            return;
        };
        if signal.wait(LOOK_EVERY) {
            quiet_looks = 0;
        }
    }
}

/// Tells the medium of free segments, where there are enough: it may wear less, or give their room
/// to others. Headers stay as they were erased.
fn trim(core: &Core) {
    let header = SECTOR_BYTES as u64;
    let bytes = u64::from(core.space.segment_bytes) - header;
    for _ in 0..TRIMMED_TOGETHER {
        let trimmed = core.space.trim_one(|index| {
            let at = core.space.place(index) + header;
            if let Err(error) = core.device.discard(at, bytes) {
                debug!(segment = index, %error, "the medium knows no trimming");
            }
        });
        if !trimmed {
            return;
        }
    }
}

/// Empties the segment with the least in it, if there is one worth it. When it is erased the
/// graveyard asks for the next.
fn clean_one(core: &Arc<Core>) {
    if core.health.has_failed() {
        return;
    }
    let mut best: Option<(u64, Arc<LogJob>, Arc<Segment>)> = None;
    for job in core.jobs.all() {
        let candidates = job.state.lock().closed_segments();
        for segment in candidates {
            let live = segment.live.load(Ordering::Relaxed);
            if best.as_ref().is_none_or(|(least, ..)| live < *least) {
                best = Some((live, Arc::clone(&job), segment));
            }
        }
    }
    let most = u64::from(core.space.segment_bytes) / 100 * LIVE_PERCENT_MAX;
    if let Some((live, job, segment)) = best
        && live < most
    {
        empty(core, &job, segment);
    }
}

/// Empties the oldest segment of jobs that remember too much of what is gone.
fn relieve_tombstones(core: &Arc<Core>) {
    for job in core.jobs.all() {
        let oldest = {
            let state = job.state.lock();
            let closed = state.closed_segments();
            let many = state.tombstones.len() > TOMBSTONES_MAX;
            let oldest = closed
                .into_iter()
                .min_by_key(|segment| segment.header.opened);
            oldest.filter(|_| many)
        };
        if let Some(segment) = oldest {
            empty(core, &job, segment);
        }
    }
}

impl JobState {
    /// Segments that nothing more is written to.
    fn closed_segments(&self) -> Vec<Arc<Segment>> {
        let segments = self.segments.values();
        segments
            .filter_map(|(_, segment)| segment.upgrade())
            .filter(|segment| !self.writer.writes_to(segment))
            .collect()
    }
}

/// Has everything that counts in a segment stand elsewhere. What changes meanwhile, or cannot be
/// written, stays; then the segment lives on.
fn empty(core: &Arc<Core>, job: &Arc<LogJob>, segment: Arc<Segment>) {
    debug!(job = %job.id, segment = segment.header.index, "emptying a segment");
    let mentions: HashSet<_> = segment.mentions.lock().iter().copied().collect();
    let mut moving = Moving::default();
    for place in &mentions {
        let extents: Vec<Extent> = {
            let state = job.state.lock();
            let block = state.block(*place);
            let all = block
                .into_iter()
                .flat_map(|block| block.extents(0, u32::MAX));
            all.filter(|extent| extent.record.is_in(&segment)).collect()
        };
        for extent in extents {
            moving.bytes += extent.length as usize;
            let data = read_extent(core, job.id, &extent);
            moving.extents.push((*place, extent, data));
            if moving.bytes >= MOVED_BYTES_MAX {
                move_together(core, job, &segment, std::mem::take(&mut moving));
            }
        }
        moving.places.push(*place);
    }
    move_together(core, job, &segment, moving);
    move_tombstones(core, job, &segment);
}

/// What is moved with one wait.
#[derive(Default)]
struct Moving {
    bytes: usize,
    extents: Vec<((InodeId, BlockIndex), Extent, Option<Bytes>)>,
    /// Blocks that are made of nothing in the segment any more, but whose length may be said there.
    places: Vec<(InodeId, BlockIndex)>,
}

fn move_together(core: &Arc<Core>, job: &Arc<LogJob>, segment: &Arc<Segment>, moving: Moving) {
    let sums: Vec<_> = moving
        .extents
        .iter()
        .map(|(.., data)| data.as_deref().map(sums_of))
        .collect();
    queue_moves(core, job, |state, ticket| {
        for ((place, extent, data), sums) in moving.extents.into_iter().zip(sums) {
            state.move_extent(core, place, &extent, data.zip(sums), ticket);
        }
        for place in moving.places {
            state.move_length(core, place, segment, ticket);
        }
    });
}

fn move_tombstones(core: &Arc<Core>, job: &Arc<LogJob>, segment: &Arc<Segment>) {
    queue_moves(core, job, |state, ticket| {
        let forgotten = state.prune();
        drop(forgotten);
        for at in 0..state.tombstones.len() {
            if state.tombstones[at].record.is_in(segment) {
                state.move_tombstone(core, at, ticket);
            }
        }
    });
}

/// Queues entries under the job's lock and waits until they are written.
fn queue_moves(
    core: &Arc<Core>,
    job: &Arc<LogJob>,
    queue: impl FnOnce(&mut JobState, &Arc<Ticket>),
) {
    let (ticket, written): (_, oneshot::Receiver<_>) = Ticket::new();
    let ticket = Arc::new(ticket);
    let writes = {
        let mut state = job.state.lock();
        if state.dropped {
            return;
        }
        queue(&mut state, &ticket);
        state.take_writes(core, job)
    };
    drop(ticket);
    write(core, job, writes);
    if let Ok(Err(failure)) = written.blocking_recv() {
        warn!(job = %job.id, %failure, "moving out of a segment failed");
    }
}

impl JobState {
    /// Has an extent be made of a record elsewhere: with the same bytes, or lost where they could
    /// not be read.
    fn move_extent(
        &mut self,
        core: &Core,
        (inode, index): (InodeId, BlockIndex),
        extent: &Extent,
        data: Option<(Bytes, Box<[u32]>)>,
        ticket: &Arc<Ticket>,
    ) {
        let Some(block) = self
            .files
            .get_mut(&inode)
            .and_then(|file| file.get_mut(index))
        else {
            return;
        };
        let (offset, length, seq) = (extent.offset, extent.length, extent.record.seq);
        let block_length = block.length();
        let (what, place, sums, data) = match data {
            Some((data, sums)) => {
                let what = What::Data {
                    offset,
                    length,
                    block_length,
                    at: 0,
                    sums: sums.clone(),
                };
                (what, Place::Memory(data.clone()), sums, data)
            }
            None => {
                let what = What::Lost {
                    offset,
                    length,
                    block_length,
                };
                (what, Place::Lost(None), Box::default(), Bytes::new())
            }
        };
        let record = Record::new(offset, length, seq, sums, place, &core.space);
        if !block.replace(extent, &record) {
            return;
        }
        if Arc::ptr_eq(block.said_by(), &extent.record) {
            block.say(block_length, Arc::clone(&record));
        }
        self.writer.moves.push_back(Pending {
            entry: Entry {
                inode,
                block: index,
                what,
                seq,
                written: core.tick(),
            },
            record,
            data,
            ticket: Arc::clone(ticket),
            held: Some(Box::new(Arc::clone(&extent.record))),
            failures: 0,
        });
    }

    /// Says a block's length anew if that was last said in this segment.
    fn move_length(
        &mut self,
        core: &Core,
        (inode, index): (InodeId, BlockIndex),
        segment: &Segment,
        ticket: &Arc<Ticket>,
    ) {
        let block = self
            .files
            .get_mut(&inode)
            .and_then(|file| file.get_mut(index));
        let Some(block) = block.filter(|block| block.said_by().is_in(segment)) else {
            return;
        };
        let now = core.tick();
        let record = said_record(core, now);
        let block_length = block.length();
        let old = block.say(block_length, Arc::clone(&record));
        self.writer.moves.push_back(Pending {
            entry: Entry {
                inode,
                block: index,
                what: What::Punch {
                    offset: 0,
                    length: 0,
                    block_length,
                },
                seq: now,
                written: now,
            },
            record,
            data: Bytes::new(),
            ticket: Arc::clone(ticket),
            held: Some(Box::new(old)),
            failures: 0,
        });
    }

    /// Says once more that something is gone.
    fn move_tombstone(&mut self, core: &Core, at: usize, ticket: &Arc<Ticket>) {
        let mut entry = self.tombstones[at].entry.clone();
        entry.written = core.tick();
        if let What::Punch { block_length, .. } = &mut entry.what {
            let block = self.block((entry.inode, entry.block));
            *block_length = block.map_or(0, LogBlock::length);
        }
        let record = said_record(core, entry.seq);
        let tombstone = &mut self.tombstones[at];
        tombstone.entry = entry.clone();
        let old = std::mem::replace(&mut tombstone.record, Arc::clone(&record));
        self.writer.moves.push_back(Pending {
            entry,
            record,
            data: Bytes::new(),
            ticket: Arc::clone(ticket),
            held: Some(Box::new(old)),
            failures: 0,
        });
    }
}
