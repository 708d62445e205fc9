//! What the file system core asks of storage servers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Failure, Fill, HeldBlocks, InodeId, session::StorageServer,
};
use pocket_wire::Payload;

/// What a read of a block found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockData {
    /// The bytes stored, from the offset asked for. May be shorter than asked: the rest is zeros.
    pub bytes: Bytes,
    /// The server holds no such block at all.
    pub hole: bool,
}

/// The blocks of one job, each on the server that the caller names.
///
/// It speaks for one session of a mount ([`BlockStore::renewed`]).
///
/// Every call ends: at a deadline, and long before it where the server does not move. Failures are
/// `Lost` (the server lives another life, its former blocks are gone), `ServerFull` (writing and
/// allocating: full, or another life; another server may take the block), `SessionEnded` (changing
/// anything: the session was fenced), `Unavailable` (unreachable, silent, or for changes out of touch
/// with the metadata server), and whatever else the server says.
#[async_trait]
pub trait BlockStore: Send + Sync {
    /// Reads from a block.
    async fn read(
        &self,
        server: &StorageServer,
        address: BlockAddress,
    ) -> Result<BlockData, Failure>;

    /// Writes into a block, which grows as needed; a gap becomes zeros. Returns by how many bytes
    /// the block's allocation changed. Writing the same again changes nothing.
    async fn write(
        &self,
        server: &StorageServer,
        inode: InodeId,
        block: BlockIndex,
        offset_bytes: u32,
        data: Payload,
    ) -> Result<i64, Failure>;

    /// Drops the server's blocks of `inode` behind `first_block`, and of `first_block` all but its
    /// first `keep_bytes` bytes (the whole block if 0). Returns the change of allocated bytes,
    /// never above 0. Idempotent.
    async fn truncate(
        &self,
        server: &StorageServer,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Result<i64, Failure>;

    /// Has a block reach at least to the end of the range. Returns by how many bytes the block's
    /// allocation changed. Idempotent.
    async fn allocate(
        &self,
        server: &StorageServer,
        address: BlockAddress,
        fill: Fill,
    ) -> Result<i64, Failure>;

    /// Has a range of a block read as zeros: the whole block is dropped, its end is cut off, and
    /// anything else is kept as zeros. Returns the change of allocated bytes, never above 0.
    /// Idempotent.
    async fn punch(&self, server: &StorageServer, address: BlockAddress) -> Result<i64, Failure>;

    /// Drops the server's blocks of the span. Returns the change of allocated bytes, never above 0.
    /// Idempotent.
    async fn drop_blocks(&self, server: &StorageServer, span: BlockSpan) -> Result<i64, Failure>;

    /// Tells which blocks of the span the server holds; as far as
    /// [`told_to`](HeldBlocks::told_to), which is behind the first block of the span.
    async fn list(&self, server: &StorageServer, span: BlockSpan) -> Result<HeldBlocks, Failure>;

    /// Copies a range of a block over one of the same length, of any block of the job, both on the
    /// server. Returns the change of allocated bytes. What the source lacks reads as zeros.
    async fn copy(
        &self,
        server: &StorageServer,
        from: BlockAddress,
        to: BlockAddress,
    ) -> Result<i64, Failure>;

    /// The way to the same servers for the mount's next session, whose credential this is. What is
    /// asked through this one is still asked for the session before.
    fn renewed(&self, credential: Bytes) -> Arc<dyn BlockStore>;
}
