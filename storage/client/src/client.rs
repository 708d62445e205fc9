//! One job's blocks, over the wire.

use async_trait::async_trait;
use pocket_proto::{
    BlockAddress, BlockIndex, Failure, InodeId, JobId, Operation, REPLY_FLAG_HOLE, Status,
    session::StorageServer,
};
use pocket_wire::Payload;

use crate::{BlockData, BlockStore, StorageClientOptions, pool::Pool};

/// [`BlockStore`] of one job over connections that are opened on demand and shared.
pub struct StorageClient {
    job: JobId,
    pool: Pool,
}

impl StorageClient {
    /// A client for `job`, with the credential that the controller issued for it. Connects to
    /// nobody yet.
    pub fn new(job: JobId, credential: Vec<u8>, options: StorageClientOptions) -> Self {
        StorageClient {
            job,
            pool: Pool::new(credential.into(), options),
        }
    }
}

#[async_trait]
impl BlockStore for StorageClient {
    async fn read(
        &self,
        server: &StorageServer,
        address: BlockAddress,
    ) -> Result<BlockData, Failure> {
        let head = address.encode();
        let reply = self
            .pool
            .call(
                server,
                Operation::ReadBlock,
                self.job,
                &head,
                Payload::default(),
            )
            .await?;
        if reply.body.len() > address.length_bytes as usize {
            return Err(Failure::new(
                Status::Malformed,
                format!(
                    "{} answered {} bytes to a read of {}",
                    server.endpoint,
                    reply.body.len(),
                    address.length_bytes
                ),
            ));
        }
        Ok(BlockData {
            bytes: reply.body,
            hole: reply.flags & REPLY_FLAG_HOLE != 0,
        })
    }

    async fn write(
        &self,
        server: &StorageServer,
        inode: InodeId,
        block: BlockIndex,
        offset_bytes: u32,
        data: Payload,
    ) -> Result<i64, Failure> {
        let address = BlockAddress {
            inode,
            block,
            offset_bytes,
            // Longer than any block is refused by the transport.
            length_bytes: u32::try_from(data.len()).unwrap_or(u32::MAX),
        };
        self.pool
            .call_for_change(
                server,
                Operation::WriteBlock,
                self.job,
                &address.encode(),
                data,
            )
            .await
            .map_err(elsewhere)
    }

    async fn truncate(
        &self,
        server: &StorageServer,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Result<i64, Failure> {
        let head = truncation(inode, first_block, keep_bytes).encode();
        self.pool
            .call_for_change(
                server,
                Operation::TruncateBlocks,
                self.job,
                &head,
                Payload::default(),
            )
            .await
    }
}

/// The address that says what a truncation keeps.
pub(crate) fn truncation(inode: InodeId, first_block: BlockIndex, keep_bytes: u32) -> BlockAddress {
    BlockAddress {
        inode,
        block: first_block,
        offset_bytes: keep_bytes,
        length_bytes: 0,
    }
}

/// What is lost for reading is, for writing, a server to be replaced by another.
fn elsewhere(failure: Failure) -> Failure {
    match failure.status {
        Status::Lost => Failure::new(Status::ServerFull, failure.message),
        _ => failure,
    }
}
