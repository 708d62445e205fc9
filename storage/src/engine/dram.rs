//! Blocks in memory.
//!
//! A job's blocks are spread over shards by inode, each behind a lock of its own that is held for
//! a map operation and, for writes into the middle of a block, for the copy. Whole blocks are
//! adopted from the transport's receive buffers and handed out as references to the same memory;
//! a block that some reader still holds is copied before it is changed.
//!
//! Lock order: the table of jobs before a shard; no two shards at once.

mod block;
mod capacity;
mod file_blocks;
mod job;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::RwLock;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, ByteCount, Failure, Fill, HeldBlocks, InodeId, JobId,
    Status,
};

use self::{block::BLOCK_BYTES_MAX, capacity::Capacity, job::JobBlocks};
use super::{BlockEngine, BlockRead, EngineUsage};

/// Dropped jobs that are remembered, so that a straggler's write does not bring one back. Ids are
/// never used again; a job dropped so many jobs ago has no stragglers.
const DROPPED_JOBS_MAX: usize = 16_384;

/// The engine of the DRAM tier.
pub struct DramEngine {
    capacity: Capacity,
    jobs: RwLock<Jobs>,
}

#[derive(Default)]
struct Jobs {
    live: HashMap<JobId, Arc<JobBlocks>>,
    dropped: HashSet<JobId>,
    dropped_in_order: VecDeque<JobId>,
}

impl DramEngine {
    /// An empty engine that holds up to `capacity`.
    pub fn new(capacity: ByteCount) -> Self {
        DramEngine {
            capacity: Capacity::new(capacity.0),
            jobs: RwLock::default(),
        }
    }

    fn job(&self, job: JobId) -> Option<Arc<JobBlocks>> {
        self.jobs.read().live.get(&job).cloned()
    }

    /// The job's blocks, made if it is new.
    fn job_for_writing(&self, job: JobId) -> Result<Arc<JobBlocks>, Failure> {
        if let Some(blocks) = self.job(job) {
            return Ok(blocks);
        }
        let mut jobs = self.jobs.write();
        if jobs.dropped.contains(&job) {
            return Err(job_gone(job));
        }
        Ok(Arc::clone(jobs.live.entry(job).or_default()))
    }
}

impl BlockEngine for DramEngine {
    fn read(&self, job: JobId, address: BlockAddress) -> Result<BlockRead, Failure> {
        check_range(address.offset_bytes, address.length_bytes as usize)?;
        let found = self.job(job).and_then(|blocks| blocks.read(address));
        Ok(BlockRead {
            hole: found.is_none(),
            bytes: found.unwrap_or_default(),
        })
    }

    fn write(
        &self,
        job: JobId,
        inode: InodeId,
        block: BlockIndex,
        offset_bytes: u32,
        data: Bytes,
    ) -> Result<i64, Failure> {
        check_range(offset_bytes, data.len())?;
        if data.is_empty() {
            return Ok(0);
        }
        self.job_for_writing(job)?
            .write(&self.capacity, inode, block, offset_bytes as usize, data)?
            .ok_or_else(|| job_gone(job))
    }

    fn allocate(&self, job: JobId, address: BlockAddress, fill: Fill) -> Result<i64, Failure> {
        check_address(address)?;
        if address.length_bytes == 0 {
            return Ok(0);
        }
        self.job_for_writing(job)?
            .allocate(&self.capacity, address, fill)?
            .ok_or_else(|| job_gone(job))
    }

    fn punch(&self, job: JobId, address: BlockAddress) -> Result<i64, Failure> {
        check_address(address)?;
        match self.job(job) {
            Some(blocks) => blocks.punch(&self.capacity, address),
            None => Ok(0),
        }
    }

    fn copy(&self, job: JobId, from: BlockAddress, to: BlockAddress) -> Result<i64, Failure> {
        check_address(from)?;
        check_address(to)?;
        if from.length_bytes != to.length_bytes {
            return Err(Failure::new(
                Status::Invalid,
                format!(
                    "a copy of {} bytes over {}",
                    from.length_bytes, to.length_bytes
                ),
            ));
        }
        if to.length_bytes == 0 {
            return Ok(0);
        }
        let blocks = self.job_for_writing(job)?;
        // Source and destination may share a lock, so the source is let go of first.
        let data = blocks.copied(from).unwrap_or_default();
        blocks
            .replace(&self.capacity, to, data)?
            .ok_or_else(|| job_gone(job))
    }

    fn list(&self, job: JobId, span: BlockSpan) -> HeldBlocks {
        match self.job(job) {
            Some(blocks) => blocks.list(span),
            None => HeldBlocks {
                told_to: span.end(),
                blocks: Vec::new(),
            },
        }
    }

    fn drop_blocks(&self, job: JobId, span: BlockSpan) -> i64 {
        self.job(job)
            .map_or(0, |blocks| blocks.drop_blocks(&self.capacity, span))
    }

    fn truncate(
        &self,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> i64 {
        self.job(job).map_or(0, |blocks| {
            blocks.truncate(&self.capacity, inode, first_block, keep_bytes as usize)
        })
    }

    fn remove_inodes(&self, job: JobId, inodes: &[InodeId]) -> i64 {
        self.job(job).map_or(0, |blocks| {
            let freed = inodes
                .iter()
                .map(|inode| blocks.remove(&self.capacity, *inode));
            freed.sum()
        })
    }

    fn drop_job(&self, job: JobId) -> i64 {
        let blocks = self.jobs.write().drop_job(job);
        blocks.map_or(0, |blocks| blocks.drop_all(&self.capacity))
    }

    fn inodes(&self, job: JobId, after: InodeId, count: usize) -> Vec<InodeId> {
        self.job(job)
            .map_or_else(Vec::new, |blocks| blocks.inodes(after, count))
    }

    fn usage(&self) -> EngineUsage {
        self.capacity.usage()
    }
}

impl Jobs {
    fn drop_job(&mut self, job: JobId) -> Option<Arc<JobBlocks>> {
        if self.dropped.insert(job) {
            self.dropped_in_order.push_back(job);
        }
        if self.dropped_in_order.len() > DROPPED_JOBS_MAX
            && let Some(oldest) = self.dropped_in_order.pop_front()
        {
            self.dropped.remove(&oldest);
        }
        self.live.remove(&job)
    }
}

fn check_address(address: BlockAddress) -> Result<(), Failure> {
    check_range(address.offset_bytes, address.length_bytes as usize)
}

fn check_range(offset_bytes: u32, length_bytes: usize) -> Result<(), Failure> {
    if offset_bytes as usize + length_bytes <= BLOCK_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::new(
        Status::Invalid,
        format!(
            "{length_bytes} bytes at {offset_bytes} of a block, which ends at {BLOCK_BYTES_MAX}"
        ),
    ))
}

fn job_gone(job: JobId) -> Failure {
    Failure::new(Status::JobGone, format!("job {job} has ended"))
}
