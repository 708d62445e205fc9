//! Writing: entries that are queued together go to the medium as one batch, at the end of their
//! job's open segment.
//!
//! While as many batches are under way as the medium wants, further entries gather; so one entry
//! alone goes at once, and many share a transfer. A batch that fails is written once more, into
//! another segment.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Weak, atomic::Ordering},
};

use pocket_proto::{Failure, Status};

use super::{
    batch::{Batch, BatchSize, place_payloads},
    core::Core,
    entry::What,
    format::{BATCHES_AT, SegmentHeader, TableKind, encode_table_header},
    job::{JobState, LogJob, Pending},
    record::Place,
    segment::Segment,
};
use crate::engine::device::{Direction, SECTOR_BYTES, SectorBuffer, Transfer};

/// Entries of one batch, at most.
const BATCH_ENTRIES_MAX: usize = 1024;
/// How often an entry is written before it is given up.
const TRIES_MAX: u32 = 3;

/// A job's place in the log.
#[derive(Default)]
pub(super) struct Writer {
    /// Entries to be written, in their order.
    pub(super) queue: VecDeque<Pending>,
    /// Entries copied out of segments that are given up: they go first.
    pub(super) moves: VecDeque<Pending>,
    /// The segment that is appended to.
    pub(super) open: Option<Open>,
    /// Segments that are full, with batches still under way.
    closing: Vec<Open>,
    batches_in_flight: usize,
}

/// A segment that is being filled.
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    /// Where the next batch goes; 0: the header is not written yet.
    end: u32,
    /// The summary so far.
    table: Vec<u8>,
    count: u32,
    batches_in_flight: usize,
    /// A batch of it failed: it gets no summary.
    failed: bool,
}

/// What may be sent to the medium.
pub(super) enum Write {
    Batch(Batch),
    Summary(Open),
}

impl JobState {
    /// Takes what should be written now. Call [`write`] with it when the lock is gone.
    pub(super) fn take_writes(&mut self, core: &Core, job: &Arc<LogJob>) -> Vec<Write> {
        let mut writes = Vec::new();
        while self.writer.batches_in_flight < core.tuning.batches_in_flight
            && self.writer.next().is_some()
            && self.take_batch(core, job, &mut writes)
        {}
        writes
    }

    /// False: there is no free segment.
    fn take_batch(&mut self, core: &Core, job: &Arc<LogJob>, writes: &mut Vec<Write>) -> bool {
        if !self.writer.has_room(core.space.segment_bytes) {
            writes.extend(self.writer.close());
            if !self.open_segment(core, job) {
                core.starved.lock().push(Arc::downgrade(job));
                core.cleaner.raise();
                return false;
            }
        }
        let batch = self.writer.fill_batch(core);
        writes.extend(batch.map(Write::Batch));
        true
    }

    fn open_segment(&mut self, core: &Core, job: &Arc<LogJob>) -> bool {
        let Some(index) = core.space.take(!self.writer.moves.is_empty()) else {
            return false;
        };
        if core.space.free_segments() < core.low_water() {
            core.cleaner.raise();
        }
        let waiting = self.writer.queue.iter().chain(&self.writer.moves);
        // Whatever will be in the segment was said then or later.
        let opened = waiting.map(|pending| pending.entry.written).min();
        let header = SegmentHeader {
            index,
            job: job.id,
            nonce: rand::random(),
            opened: opened.unwrap_or_else(|| core.tick()),
        };
        let segment = Arc::new(Segment::new(header, core.space.graveyard.clone()));
        self.segments
            .insert(index, (header.opened, Arc::downgrade(&segment)));
        self.writer.open = Some(Open {
            segment,
            end: 0,
            table: Vec::new(),
            count: 0,
            batches_in_flight: 0,
            failed: false,
        });
        true
    }

    /// Closes the open segment, so that it gets its summary.
    pub(super) fn close_segment(&mut self) -> Option<Write> {
        self.writer.close()
    }
}

impl Writer {
    fn next(&self) -> Option<&Pending> {
        self.moves.front().or(self.queue.front())
    }

    fn pop(&mut self) -> Option<Pending> {
        self.moves.pop_front().or_else(|| self.queue.pop_front())
    }

    /// Whether the next entry fits into the open segment.
    fn has_room(&self, segment_bytes: u32) -> bool {
        match (&self.open, self.next()) {
            (Some(open), Some(next)) => {
                let extent = BatchSize::default().with(next.data.len());
                open.takes(extent, segment_bytes)
            }
            _ => false,
        }
    }

    /// Takes the open segment out of use; answers its summary if that can be written already.
    fn close(&mut self) -> Option<Write> {
        let open = self.open.take()?;
        if open.batches_in_flight > 0 {
            self.closing.push(open);
            return None;
        }
        open.summary()
    }

    fn fill_batch(&mut self, core: &Core) -> Option<Batch> {
        let mut open = self.open.take()?;
        let mut extent = BatchSize::default();
        let mut entries = Vec::new();
        while let Some(next) = self.next() {
            let with = extent.with(next.data.len());
            let payload = with.payload();
            let full = entries.len() >= BATCH_ENTRIES_MAX
                || payload > core.tuning.batch_bytes_max
                || !open.takes(with, core.space.segment_bytes);
            if full && !entries.is_empty() {
                break;
            }
            extent = with;
            entries.extend(self.pop());
        }
        let with_header = open.end == 0;
        let at = open.end.max(BATCHES_AT);
        place_payloads(&mut entries, at, extent);
        for pending in &entries {
            pending.entry.encode(&mut open.table);
        }
        {
            let mut mentions = open.segment.mentions.lock();
            let places = entries.iter();
            mentions.extend(places.map(|pending| (pending.entry.inode, pending.entry.block)));
        }
        // A segment is far shorter than 4 GiB.
        open.count += entries.len() as u32;
        open.end = at + extent.total() as u32;
        open.batches_in_flight += 1;
        self.batches_in_flight += 1;
        let segment = Arc::clone(&open.segment);
        self.open = Some(open);
        Some(Batch {
            entries,
            segment,
            at,
            bytes: extent.total(),
            table_bytes: extent.table,
            with_header,
        })
    }

    /// The segment that is open or closing with this index.
    fn find(&mut self, index: u32) -> Option<&mut Open> {
        let all = self.closing.iter_mut().chain(&mut self.open);
        let mut found = all.filter(|open| open.segment.header.index == index);
        found.next()
    }

    /// Notes that a batch is over. Answers the summary of its segment if that was the last.
    fn batch_over(&mut self, segment: &Segment, failed: bool) -> Option<Write> {
        self.batches_in_flight -= 1;
        let index = segment.header.index;
        if let Some(open) = self.find(index) {
            open.batches_in_flight -= 1;
            open.failed |= failed;
        }
        // Where one write failed the next may, too.
        if failed {
            segment.retired.store(true, Ordering::Relaxed);
            let open = self.open.as_ref().map(|open| open.segment.header.index);
            if open == Some(index) {
                return self.close();
            }
        }
        let over = |open: &Open| open.segment.header.index == index && open.batches_in_flight == 0;
        let at = self.closing.iter().position(over)?;
        self.closing.swap_remove(at).summary()
    }

    /// Whether batches may still go to a segment.
    pub(super) fn writes_to(&self, segment: &Segment) -> bool {
        let mut written = self.closing.iter().chain(&self.open);
        written.any(|open| std::ptr::eq(&*open.segment, segment))
    }

    /// Everything that waits or is open, for a job that was dropped.
    pub(super) fn take_all(&mut self) -> Writer {
        let batches_in_flight = self.batches_in_flight;
        let all = std::mem::take(self);
        self.batches_in_flight = batches_in_flight;
        all
    }
}

impl Open {
    /// Whether a batch fits in front of the summary, which grows by its entries.
    fn takes(&self, batch: BatchSize, segment_bytes: u32) -> bool {
        let summary = (self.table.len() + batch.table).next_multiple_of(SECTOR_BYTES);
        let end = self.end.max(BATCHES_AT) as usize + batch.total();
        end + summary + SECTOR_BYTES <= segment_bytes as usize
    }

    fn summary(self) -> Option<Write> {
        (!self.failed && self.count > 0).then_some(Write::Summary(self))
    }
}

/// Sends to the medium what was taken.
pub(super) fn write(core: &Arc<Core>, job: &Arc<LogJob>, writes: Vec<Write>) {
    for write in writes {
        core.busy.begin();
        match write {
            Write::Batch(batch) => write_batch(core, job, batch),
            Write::Summary(open) => write_summary(core, open),
        }
    }
}

fn write_batch(core: &Arc<Core>, job: &Arc<LogJob>, batch: Batch) {
    let buffer = batch.encode();
    let start = if batch.with_header { 0 } else { batch.at };
    let at = core.space.place(batch.segment.header.index) + u64::from(start);
    let (shared, job) = (Arc::clone(core), Arc::clone(job));
    core.written_bytes
        .fetch_add(buffer.len() as u64, Ordering::Relaxed);
    core.device.submit(Transfer {
        direction: Direction::Write,
        at,
        buffer,
        done: Box::new(move |result, buffer| {
            drop(buffer);
            batch_written(&shared, &job, batch, result);
            shared.busy.end();
        }),
    });
}

fn batch_written(core: &Arc<Core>, job: &Arc<LogJob>, batch: Batch, result: io::Result<()>) {
    let failed = result.is_err();
    if let Err(cause) = result {
        core.note_error("writing a batch", job.id, &cause);
    }
    let Batch {
        entries, segment, ..
    } = batch;
    let (over, writes) = {
        let mut state = job.state.lock();
        let summary = state.writer.batch_over(&segment, failed);
        let over = match failed {
            false => settle(core, &segment, entries),
            true if state.dropped => entries,
            true => state.writer.repeat(core, entries),
        };
        let mut writes: Vec<_> = summary.into_iter().collect();
        if !state.dropped {
            writes.extend(state.take_writes(core, job));
        }
        (over, writes)
    };
    // Answers, and lets go of what was superseded, where nobody waits for the lock.
    drop(over);
    write(core, job, writes);
}

/// The records are in the segment now.
fn settle(core: &Core, segment: &Arc<Segment>, entries: Vec<Pending>) -> Vec<Pending> {
    for pending in &entries {
        let at = match &pending.entry.what {
            What::Data { at, .. } => *at,
            _ => 0,
        };
        if matches!(pending.entry.what, What::Lost { .. }) {
            let said = Some(Arc::clone(segment));
            pending.record.move_to(Place::Lost(said));
            continue;
        }
        let keeps = !pending.data.is_empty() && core.recent.keeps(&pending.data);
        pending.record.move_to(Place::Segment {
            segment: Arc::clone(segment),
            at,
            recent: keeps.then(|| pending.data.clone()),
        });
        if keeps {
            core.recent.keep(&pending.record);
        }
    }
    entries
}

impl Writer {
    /// Queues entries of a failed batch again; answers those that have failed too often.
    fn repeat(&mut self, core: &Core, entries: Vec<Pending>) -> Vec<Pending> {
        let tries = if core.health.has_failed() {
            1
        } else {
            TRIES_MAX
        };
        let mut given_up = Vec::new();
        for mut pending in entries.into_iter().rev() {
            pending.failures += 1;
            if pending.failures < tries {
                self.moves.push_front(pending);
                continue;
            }
            pending.record.move_to(Place::Lost(None));
            let what = "the medium failed, what was written is lost";
            pending.ticket.fail(Failure::new(Status::Lost, what));
            given_up.push(pending);
        }
        given_up
    }
}

/// Writes a summary. Without it the segment is as good, only slower to look through.
fn write_summary(core: &Arc<Core>, open: Open) {
    let header = open.segment.header;
    let table_bytes = open.table.len().next_multiple_of(SECTOR_BYTES);
    let position = core.space.segment_bytes as usize - SECTOR_BYTES - table_bytes;
    let mut buffer = SectorBuffer::zeroed(table_bytes + SECTOR_BYTES);
    buffer[..open.table.len()].copy_from_slice(&open.table);
    let (position, nonce) = (position as u32, header.nonce);
    let footer = encode_table_header(TableKind::Summary, nonce, position, open.count, &open.table);
    buffer[table_bytes..][..footer.len()].copy_from_slice(&footer);
    let (shared, segment) = (Arc::clone(core), open.segment);
    core.written_bytes
        .fetch_add(buffer.len() as u64, Ordering::Relaxed);
    core.device.submit(Transfer {
        direction: Direction::Write,
        at: core.space.place(header.index) + u64::from(position),
        buffer,
        done: Box::new(move |result, _buffer| {
            if let Err(cause) = result {
                shared.note_error("writing a summary", header.job, &cause);
            }
            drop(segment);
            shared.busy.end();
        }),
    });
}

/// Goes on with jobs that wait for a free segment.
pub(super) fn resume_starved(core: &Arc<Core>) {
    let starved = std::mem::take(&mut *core.starved.lock());
    for job in starved.iter().filter_map(Weak::upgrade) {
        let writes = {
            let mut state = job.state.lock();
            match state.dropped {
                true => Vec::new(),
                false => state.take_writes(core, &job),
            }
        };
        write(core, &job, writes);
    }
}
