//! Blocks on a medium that outlives the process, kept as a log.
//!
//! Everything is written behind what was written before, in segments that belong to one job each
//! ([`format`] has the layout), and an index of all blocks is kept in memory. Writes of all sizes so
//! become long runs, small ones share transfers, dropping a job frees its segments at once, and a
//! crash loses nothing that was answered: at start the index is made again from what stands on the
//! medium ([`recover`]). Segments with little left in them are emptied into others when room gets
//! short ([`clean`]).
//!
//! Memory: about 200 bytes a block, and a checksum of 4 bytes for every 4 KiB.

mod append;
mod batch;
mod block;
mod clean;
mod core;
mod entry;
mod format;
mod job;
mod look;
mod read;
mod record;
mod recover;
mod replay;
mod segment;
#[cfg(test)]
mod tests;
mod ticket;

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Failure, Fill, HeldBlocks, InodeId, JobId, Status,
};
use tokio::sync::oneshot;

use self::{
    append::write,
    core::Core,
    entry::sums_of,
    job::{Edit, JobState, LogJob, Piece},
    read::{Plan, found},
    ticket::Ticket,
};
use super::{
    BlockEngine, BlockRead, Change, Completion, EngineUsage, MediumReport,
    extent::{BLOCK_BYTES_MAX, check_address, check_copy, check_range, punched_length, range},
    file_blocks::FileBlocks,
};

pub use recover::{Doubt, LogConfig, Medium, OpenFailure, Opened, Survival};

/// The engine of the tiers that are no memory.
pub struct LogEngine {
    core: Arc<Core>,
    open: Arc<OpenGuard>,
}

/// Dropped with the engine.
struct OpenGuard(Arc<Core>);

impl Drop for OpenGuard {
    /// What is on the medium stays as it is.
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.cleaner.raise();
    }
}

/// Shorter ends of long writes are copied, so that keeping them keeps nothing else.
const COPIED_END_BYTES_MAX: usize = 64 << 10;

impl LogEngine {
    /// Makes a change of a job and answers when it stands on the medium.
    fn change(
        &self,
        job: &Arc<LogJob>,
        change: impl FnOnce(&mut JobState, &Core, &Arc<Ticket>) -> Result<i64, Failure>,
    ) -> Change {
        let (ticket, written) = Ticket::new();
        let ticket = Arc::new(ticket);
        let (changed, writes) = {
            let mut state = job.state.lock();
            let changed = change(&mut state, &self.core, &ticket);
            (changed, state.take_writes(&self.core, job))
        };
        write(&self.core, job, writes);
        match changed {
            Ok(bytes) => answered(ticket, written, bytes),
            Err(refused) => Completion::Now(Err(refused)),
        }
    }

    /// Makes a change of a job that only gives space back.
    fn shrink(
        &self,
        job: JobId,
        shrink: impl FnOnce(&mut JobState, &Core, &Arc<Ticket>) -> i64,
    ) -> Change {
        match self.core.jobs.get(job) {
            Some(job) => self.change(&job, |state, core, ticket| Ok(shrink(state, core, ticket))),
            None => Completion::Now(Ok(0)),
        }
    }

    fn job_for_writing(&self, job: JobId) -> Result<Arc<LogJob>, Failure> {
        self.core.jobs.get_or_make(job, || {
            self.core.jobs_with_blocks.fetch_add(1, Ordering::Relaxed);
            LogJob::new(job)
        })
    }

    fn edit(&self, job: JobId, edit: impl FnOnce(&mut JobState) -> Edit) -> Change {
        let known = match self.job_for_writing(job) {
            Ok(known) => known,
            Err(gone) => return Completion::Now(Err(gone)),
        };
        self.change(&known, |state, core, ticket| {
            state.check(job)?;
            let edit = edit(state);
            state.edit(core, edit, ticket)
        })
    }

    /// Bytes as they are laid into a block: in records, with their checksums.
    fn pieces(&self, offset: u32, data: &Bytes) -> Vec<Piece> {
        let most = self.core.record_bytes_max();
        let starts = (0..data.len()).step_by(most);
        let pieces = starts.map(|start| {
            let end = (start + most).min(data.len());
            let part = data.slice(start..end);
            let is_short_end = start > 0 && part.len() <= COPIED_END_BYTES_MAX;
            Piece {
                // No block is longer than 16 MiB.
                offset: offset + start as u32,
                sums: sums_of(&part),
                data: match is_short_end {
                    true => Bytes::copy_from_slice(&part),
                    false => part,
                },
            }
        });
        pieces.collect()
    }

    fn plan(&self, job: JobId, address: BlockAddress) -> Option<Plan> {
        let job = self.core.jobs.get(job)?;
        let state = job.state.lock();
        let block = state.block((address.inode, address.block))?;
        let (from, to) = range(address);
        let length = block.length();
        let within = (from as u32).min(length)..(to as u32).min(length);
        Some(Plan::new(&self.core, block, within))
    }

    /// Puts `data` at the start of a range of a block, and punches the rest of the range.
    fn replace(&self, job: JobId, address: BlockAddress, data: Bytes) -> Change {
        let place = (address.inode, address.block);
        let (offset, end) = range(address);
        let filled = offset + data.len();
        let pieces = self.pieces(address.offset_bytes, &data);
        self.edit(job, |state| {
            let held = state.length_of(place);
            let written = if data.is_empty() {
                held
            } else {
                held.max(filled)
            };
            Edit {
                place,
                length: punched_length(written, filled, end),
                pieces,
                punched: filled..end,
            }
        })
    }
}

/// The answer to a change, when it stands on the medium.
fn answered(
    ticket: Arc<Ticket>,
    mut written: oneshot::Receiver<Result<(), Failure>>,
    bytes: i64,
) -> Change {
    drop(ticket);
    // What needed no writing is done.
    if let Ok(outcome) = written.try_recv() {
        return Completion::Now(outcome.map(|()| bytes));
    }
    Completion::later(async move {
        let given_up = || Failure::new(Status::Internal, "a write was given up");
        written.await.map_err(|_| given_up())?.map(|()| bytes)
    })
}

impl BlockEngine for LogEngine {
    fn read(&self, job: JobId, address: BlockAddress) -> Completion<Result<BlockRead, Failure>> {
        if let Err(invalid) = check_address(address) {
            return Completion::Now(Err(invalid));
        }
        let Some(plan) = self.plan(job, address) else {
            return Completion::Now(Ok(BlockRead {
                bytes: Bytes::new(),
                hole: true,
            }));
        };
        match plan.read(&self.core, job) {
            Completion::Now(bytes) => Completion::Now(found(bytes)),
            Completion::Later(bytes) => Completion::later(async { found(bytes.await) }),
        }
    }

    fn write(
        &self,
        job: JobId,
        inode: InodeId,
        block: BlockIndex,
        offset_bytes: u32,
        data: Bytes,
    ) -> Change {
        if let Err(invalid) = check_range(offset_bytes, data.len()) {
            return Completion::Now(Err(invalid));
        }
        if data.is_empty() {
            return Completion::Now(Ok(0));
        }
        let place = (inode, block);
        let end = offset_bytes as usize + data.len();
        let pieces = self.pieces(offset_bytes, &data);
        self.edit(job, |state| Edit {
            place,
            length: state.length_of(place).max(end),
            pieces,
            punched: 0..0,
        })
    }

    fn allocate(&self, job: JobId, address: BlockAddress, fill: Fill) -> Change {
        if let Err(invalid) = check_address(address) {
            return Completion::Now(Err(invalid));
        }
        if address.length_bytes == 0 {
            return Completion::Now(Ok(0));
        }
        let place = (address.inode, address.block);
        let (offset, end) = range(address);
        self.edit(job, |state| Edit {
            place,
            length: state.length_of(place).max(end),
            pieces: Vec::new(),
            punched: match fill {
                Fill::Missing => 0..0,
                Fill::All => offset..end,
            },
        })
    }

    fn punch(&self, job: JobId, address: BlockAddress) -> Change {
        if let Err(invalid) = check_address(address) {
            return Completion::Now(Err(invalid));
        }
        let place = (address.inode, address.block);
        let (offset, end) = range(address);
        match self.core.jobs.get(job) {
            Some(_) if offset < end => {}
            _ => return Completion::Now(Ok(0)),
        }
        self.edit(job, |state| Edit {
            place,
            length: punched_length(state.length_of(place), offset, end),
            pieces: Vec::new(),
            punched: offset..end,
        })
    }

    fn copy(&self, job: JobId, from: BlockAddress, to: BlockAddress) -> Change {
        if let Err(invalid) = check_copy(from, to) {
            return Completion::Now(Err(invalid));
        }
        if to.length_bytes == 0 {
            return Completion::Now(Ok(0));
        }
        let engine = LogEngine {
            core: Arc::clone(&self.core),
            open: Arc::clone(&self.open),
        };
        match self.read(job, from) {
            Completion::Now(Ok(read)) => self.replace(job, to, read.bytes),
            Completion::Now(Err(failure)) => Completion::Now(Err(failure)),
            Completion::Later(read) => Completion::later(async move {
                let bytes = read.await?.bytes;
                engine.replace(job, to, bytes).finished().await
            }),
        }
    }

    fn list(&self, job: JobId, span: BlockSpan) -> HeldBlocks {
        let Some(job) = self.core.jobs.get(job) else {
            return FileBlocks::<block::LogBlock>::list(None, span);
        };
        let state = job.state.lock();
        FileBlocks::list(state.files.get(&span.inode), span)
    }

    fn drop_blocks(&self, job: JobId, span: BlockSpan) -> Change {
        self.shrink(job, |state, core, ticket| {
            state.drop_span(core, span, ticket)
        })
    }

    fn truncate(
        &self,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Change {
        let keep = keep_bytes as usize;
        let behind = |first| BlockSpan {
            inode,
            first,
            count: u64::MAX,
        };
        self.shrink(job, |state, core, ticket| {
            if keep == 0 {
                return state.drop_span(core, behind(first_block), ticket);
            }
            let place = (inode, first_block);
            let mut change = 0;
            if state.length_of(place) > keep {
                let cut = Edit {
                    place,
                    length: keep,
                    pieces: Vec::new(),
                    punched: keep..BLOCK_BYTES_MAX,
                };
                // What becomes shorter always fits.
                change = state.edit(core, cut, ticket).unwrap_or(0);
            }
            match first_block.0.checked_add(1) {
                Some(next) => change + state.drop_span(core, behind(BlockIndex(next)), ticket),
                None => change,
            }
        })
    }

    fn remove_inodes(&self, job: JobId, inodes: &[InodeId]) -> Change {
        self.shrink(job, |state, core, ticket| {
            let removed = inodes.iter().map(|inode| {
                let all = BlockSpan {
                    inode: *inode,
                    first: BlockIndex(0),
                    count: u64::MAX,
                };
                state.drop_span(core, all, ticket)
            });
            removed.sum()
        })
    }

    fn drop_job(&self, job: JobId) -> Change {
        let Some(job) = self.core.jobs.drop_job(job) else {
            return Completion::Now(Ok(0));
        };
        self.core.jobs_with_blocks.fetch_sub(1, Ordering::Relaxed);
        let (ticket, erased) = Ticket::new();
        let ticket = Arc::new(ticket);
        let change = job.drop_all(&self.core, &ticket);
        answered(ticket, erased, change)
    }

    fn inodes(&self, job: JobId, after: InodeId, count: usize) -> Vec<InodeId> {
        let Some(job) = self.core.jobs.get(job) else {
            return Vec::new();
        };
        let held = |state: &JobState| {
            let inodes = state.files.keys().copied();
            inodes.filter(|inode| *inode > after).collect::<Vec<_>>()
        };
        let mut inodes = held(&job.state.lock());
        inodes.sort_unstable();
        inodes.truncate(count);
        inodes
    }

    fn usage(&self) -> EngineUsage {
        self.core.capacity.usage()
    }

    fn medium(&self) -> MediumReport {
        MediumReport {
            written_bytes: self.core.written_bytes.load(Ordering::Relaxed),
            errors: self.core.health.errors(),
            failed: self.core.health.has_failed(),
        }
    }

    fn stop(&self) -> std::io::Result<()> {
        recover::stop(&self.core)
    }
}
