//! What holds blocks: one engine per medium, all behind [`BlockEngine`].

mod dram;

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Failure, Fill, HeldBlocks, InodeId, JobId,
};

pub use dram::DramEngine;

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

/// Holds variable-length blocks, addressed by job, inode and index, within a fixed capacity.
///
/// A block is as long as the furthest write into it (or as a truncation left it); bytes never
/// written read as zeros. What a block is charged depends on its length alone, so that the sum of
/// all changes reported for a job is what it holds. Every operation is atomic: readers see a block
/// before or after a write, and a failed operation changes nothing.
///
/// All operations may be called from any thread and return without waiting for a medium or a peer.
pub trait BlockEngine: Send + Sync + 'static {
    /// Reads from a block. [`Status::Invalid`](pocket_proto::Status::Invalid) beyond the largest
    /// block.
    fn read(&self, job: JobId, address: BlockAddress) -> Result<BlockRead, Failure>;

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
    ) -> Result<i64, Failure>;

    /// Has a block reach at least to the end of the range, and returns by how much its charge grew.
    /// An empty range does nothing. Errors as in [`BlockEngine::write`].
    fn allocate(&self, job: JobId, address: BlockAddress, fill: Fill) -> Result<i64, Failure>;

    /// Has the range of a block read as zeros, and returns the change of what is charged, never
    /// above 0. A block that lies in the range is dropped, and one that ends in it is cut there;
    /// zeros before bytes that stay are kept as such, and charged.
    /// [`Status::Invalid`](pocket_proto::Status::Invalid) beyond the largest block.
    fn punch(&self, job: JobId, address: BlockAddress) -> Result<i64, Failure>;

    /// Copies a range of a block over one of the same length, of any block of the job, and returns
    /// the change of what is charged. What the source lacks is punched into the destination.
    /// Errors as in [`BlockEngine::write`], and
    /// [`Status::Invalid`](pocket_proto::Status::Invalid) where the lengths differ.
    fn copy(&self, job: JobId, from: BlockAddress, to: BlockAddress) -> Result<i64, Failure>;

    /// Tells which blocks of the span are held; as many as one answer holds.
    fn list(&self, job: JobId, span: BlockSpan) -> HeldBlocks;

    /// Drops the blocks of the span. Returns the change of what is charged, never above 0.
    fn drop_blocks(&self, job: JobId, span: BlockSpan) -> i64;

    /// Drops the inode's blocks behind `first_block`, and of that all but its first `keep_bytes`
    /// bytes (the whole block if 0). Returns the change of what is charged, never above 0.
    fn truncate(&self, job: JobId, inode: InodeId, first_block: BlockIndex, keep_bytes: u32)
    -> i64;

    /// Drops all blocks of these inodes. Returns the change of what is charged.
    fn remove_inodes(&self, job: JobId, inodes: &[InodeId]) -> i64;

    /// Drops all blocks of a job and refuses further writes of it. Returns the change of what is
    /// charged.
    fn drop_job(&self, job: JobId) -> i64;

    /// The inodes of a job that blocks are held of: the `count` lowest behind `after`, in order.
    fn inodes(&self, job: JobId, after: InodeId, count: usize) -> Vec<InodeId>;

    /// What is held now.
    fn usage(&self) -> EngineUsage;
}
