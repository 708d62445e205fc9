//! What holds blocks: one engine per medium, all behind [`BlockEngine`].

mod capacity;
mod completion;
mod device;
mod dram;
mod extent;
mod file_blocks;
mod jobs;
mod log;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Failure, Fill, HeldBlocks, InodeId, JobId,
};

pub use completion::Completion;
pub use device::OpenError;
pub use dram::DramEngine;
pub use log::{Doubt, LogConfig, LogEngine, Medium, OpenFailure, Opened, Survival};

/// By how much the charge of blocks changed, once that is so.
pub type Change = Completion<Result<i64, Failure>>;

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRead {
    /// The bytes held, from the offset asked for; fewer than asked where the block is shorter.
    pub bytes: Bytes,
    /// There is no such block.
    pub hole: bool,
}

/// What an engine holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineUsage {
    /// Bytes charged to blocks.
    pub used_bytes: u64,
    /// Bytes that can be charged.
    pub capacity_bytes: u64,
    /// Blocks held.
    pub blocks: u64,
}

/// How a medium is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediumReport {
    /// Bytes written to it since the engine was opened, for its wear.
    pub written_bytes: u64,
    /// Transfers that failed, and reads that found other bytes than were written.
    pub errors: u32,
    /// Errors are so many that nothing new is taken.
    pub failed: bool,
}

/// Holds variable-length blocks, addressed by job, inode and index, within a fixed capacity.
///
/// A block is as long as the furthest write into it (or as a truncation left it); bytes never
/// written read as zeros. What a block is charged depends on its length alone, so that the sum of
/// all changes reported for a job is what it holds. Every operation is atomic: readers see a block
/// before or after a write. A refused operation changes nothing; one that the medium fails
/// ([`Status::Lost`](pocket_proto::Status::Lost)) leaves what it wrote lost: reads of it fail until
/// it is written again, and never find other bytes.
///
/// All operations may be called from any thread and return without waiting for a medium or a peer.
/// They take effect in the order of the calls, whenever they are answered: a read that is begun
/// after a write was begun sees it. An answered change outlives a crash of the process on media
/// that outlive it.
pub trait BlockEngine: Send + Sync + 'static {
    /// Reads from a block. [`Status::Invalid`](pocket_proto::Status::Invalid) beyond the largest
    /// block, [`Status::Lost`](pocket_proto::Status::Lost) where the medium lost what is asked for.
    fn read(&self, job: JobId, address: BlockAddress) -> Completion<Result<BlockRead, Failure>>;

    /// Writes into a block and returns by how much its charge grew. An engine may keep `data`
    /// itself as the block, so it should be alone in its buffer. Writing nothing does nothing.
    ///
    /// Errors: [`Status::ServerFull`](pocket_proto::Status::ServerFull) where it does not fit,
    /// [`Status::JobGone`](pocket_proto::Status::JobGone) for a job that was dropped,
    /// [`Status::Invalid`](pocket_proto::Status::Invalid) beyond the largest block.
    fn write(
        &self,
        job: JobId,
        inode: InodeId,
        block: BlockIndex,
        offset_bytes: u32,
        data: Bytes,
    ) -> Change;

    /// Has a block reach at least to the end of the range, and returns by how much its charge grew.
    /// An empty range does nothing. Errors as in [`BlockEngine::write`].
    fn allocate(&self, job: JobId, address: BlockAddress, fill: Fill) -> Change;

    /// Has the range of a block read as zeros, and returns the change of what is charged, never
    /// above 0. A block that lies in the range is dropped, and one that ends in it is cut there;
    /// zeros before bytes that stay are kept as such, and charged.
    /// [`Status::Invalid`](pocket_proto::Status::Invalid) beyond the largest block.
    fn punch(&self, job: JobId, address: BlockAddress) -> Change;

    /// Copies a range of a block over one of the same length, of any block of the job, and returns
    /// the change of what is charged. What the source lacks is punched into the destination. Where
    /// the source must be read from a medium, nothing is begun before the outcome is awaited.
    /// Errors as in [`BlockEngine::write`], and
    /// [`Status::Invalid`](pocket_proto::Status::Invalid) where the lengths differ.
    fn copy(&self, job: JobId, from: BlockAddress, to: BlockAddress) -> Change;

    /// Tells which blocks of the span are held; as many as one answer holds.
    fn list(&self, job: JobId, span: BlockSpan) -> HeldBlocks;

    /// Drops the blocks of the span. Returns the change of what is charged, never above 0.
    fn drop_blocks(&self, job: JobId, span: BlockSpan) -> Change;

    /// Drops the inode's blocks behind `first_block`, and of that all but its first `keep_bytes`
    /// bytes (the whole block if 0). Returns the change of what is charged, never above 0.
    fn truncate(
        &self,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Change;

    /// Drops all blocks of these inodes. Returns the change of what is charged.
    fn remove_inodes(&self, job: JobId, inodes: &[InodeId]) -> Change;

    /// Drops all blocks of a job and refuses further writes of it. Returns the change of what is
    /// charged.
    fn drop_job(&self, job: JobId) -> Change;

    /// The inodes of a job that blocks are held of: the `count` lowest behind `after`, in order.
    fn inodes(&self, job: JobId, after: InodeId, count: usize) -> Vec<InodeId>;

    /// What is held now.
    fn usage(&self) -> EngineUsage;

    /// How the medium is; memory is always well.
    fn medium(&self) -> MediumReport {
        MediumReport::default()
    }

    /// Ends in an orderly way, when nothing is asked any more: what is under way is done, and the
    /// next engine on a medium that outlives this one finds it ready. Waits for the medium.
    fn stop(&self) -> std::io::Result<()> {
        Ok(())
    }
}
