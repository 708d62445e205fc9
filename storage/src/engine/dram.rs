//! Blocks in memory.
//!
//! A job's blocks are spread over shards by inode, each behind a lock of its own that is held for
//! a map operation and, for writes into the middle of a block, for the copy. Whole blocks are
//! adopted from the transport's receive buffers and handed out as references to the same memory;
//! a block that some reader still holds is copied before it is changed.
//!
//! Lock order: the table of jobs before a shard; no two shards at once.

mod block;
mod job;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, ByteCount, Failure, Fill, HeldBlocks, InodeId, JobId,
};

use self::job::JobBlocks;
use super::{
    BlockEngine, BlockRead, Change, Completion, EngineUsage,
    capacity::Capacity,
    extent::{check_address, check_copy, check_range},
    jobs::{JobTable, job_gone},
};

/// The engine of the DRAM tier.
pub struct DramEngine {
    capacity: Capacity,
    jobs: JobTable<JobBlocks>,
}

impl DramEngine {
    /// An empty engine that holds up to `capacity`.
    pub fn new(capacity: ByteCount) -> Self {
        DramEngine {
            capacity: Capacity::new(capacity.0),
            jobs: JobTable::default(),
        }
    }

    fn job(&self, job: JobId) -> Option<Arc<JobBlocks>> {
        self.jobs.get(job)
    }

    /// The job's blocks, made if it is new.
    fn job_for_writing(&self, job: JobId) -> Result<Arc<JobBlocks>, Failure> {
        self.jobs.get_or_make(job, JobBlocks::default)
    }

    fn read_now(&self, job: JobId, address: BlockAddress) -> Result<BlockRead, Failure> {
        check_address(address)?;
        let found = self.job(job).and_then(|blocks| blocks.read(address));
        Ok(BlockRead {
            hole: found.is_none(),
            bytes: found.unwrap_or_default(),
        })
    }

    fn write_now(
        &self,
        job: JobId,
        place: (InodeId, BlockIndex),
        offset_bytes: u32,
        data: Bytes,
    ) -> Result<i64, Failure> {
        check_range(offset_bytes, data.len())?;
        if data.is_empty() {
            return Ok(0);
        }
        self.job_for_writing(job)?
            .write(
                &self.capacity,
                place.0,
                place.1,
                offset_bytes as usize,
                data,
            )?
            .ok_or_else(|| job_gone(job))
    }

    fn allocate_now(&self, job: JobId, address: BlockAddress, fill: Fill) -> Result<i64, Failure> {
        check_address(address)?;
        if address.length_bytes == 0 {
            return Ok(0);
        }
        self.job_for_writing(job)?
            .allocate(&self.capacity, address, fill)?
            .ok_or_else(|| job_gone(job))
    }

    fn punch_now(&self, job: JobId, address: BlockAddress) -> Result<i64, Failure> {
        check_address(address)?;
        match self.job(job) {
            Some(blocks) => blocks.punch(&self.capacity, address),
            None => Ok(0),
        }
    }

    fn copy_now(&self, job: JobId, from: BlockAddress, to: BlockAddress) -> Result<i64, Failure> {
        check_copy(from, to)?;
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

    /// Changes what is there of a job, which always works.
    fn shrink(&self, job: JobId, change: impl FnOnce(&JobBlocks) -> i64) -> Change {
        Completion::Now(Ok(self.job(job).map_or(0, |blocks| change(&blocks))))
    }
}

impl BlockEngine for DramEngine {
    fn read(&self, job: JobId, address: BlockAddress) -> Completion<Result<BlockRead, Failure>> {
        Completion::Now(self.read_now(job, address))
    }

    fn write(
        &self,
        job: JobId,
        inode: InodeId,
        block: BlockIndex,
        offset_bytes: u32,
        data: Bytes,
    ) -> Change {
        Completion::Now(self.write_now(job, (inode, block), offset_bytes, data))
    }

    fn allocate(&self, job: JobId, address: BlockAddress, fill: Fill) -> Change {
        Completion::Now(self.allocate_now(job, address, fill))
    }

    fn punch(&self, job: JobId, address: BlockAddress) -> Change {
        Completion::Now(self.punch_now(job, address))
    }

    fn copy(&self, job: JobId, from: BlockAddress, to: BlockAddress) -> Change {
        Completion::Now(self.copy_now(job, from, to))
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

    fn drop_blocks(&self, job: JobId, span: BlockSpan) -> Change {
        self.shrink(job, |blocks| blocks.drop_blocks(&self.capacity, span))
    }

    fn truncate(
        &self,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Change {
        self.shrink(job, |blocks| {
            blocks.truncate(&self.capacity, inode, first_block, keep_bytes as usize)
        })
    }

    fn remove_inodes(&self, job: JobId, inodes: &[InodeId]) -> Change {
        self.shrink(job, |blocks| {
            let freed = inodes
                .iter()
                .map(|inode| blocks.remove(&self.capacity, *inode));
            freed.sum()
        })
    }

    fn drop_job(&self, job: JobId) -> Change {
        let blocks = self.jobs.drop_job(job);
        Completion::Now(Ok(
            blocks.map_or(0, |blocks| blocks.drop_all(&self.capacity))
        ))
    }

    fn inodes(&self, job: JobId, after: InodeId, count: usize) -> Vec<InodeId> {
        self.job(job)
            .map_or_else(Vec::new, |blocks| blocks.inodes(after, count))
    }

    fn usage(&self) -> EngineUsage {
        self.capacity.usage()
    }
}
