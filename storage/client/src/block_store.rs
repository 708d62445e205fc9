//! What the file system core asks of storage servers.

use async_trait::async_trait;
use bytes::Bytes;
use pocket_proto::{BlockAddress, BlockIndex, Failure, InodeId, session::StorageServer};
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
/// Every call ends: at a deadline, and long before it where the server does not move. Failures are `Lost` (read or truncate: the server
/// lives another life, its former blocks are gone), `ServerFull` (write: full, or another life;
/// another server may take the block), `Unavailable` (unreachable, or silent), and whatever else
/// the server says.
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
}
