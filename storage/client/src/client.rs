//! One job's blocks, over the wire.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Failure, Fill, HeldBlocks, InodeId, JobId, Operation,
    REPLY_FLAG_HOLE, Status, session::StorageServer,
};
use pocket_wire::{Payload, ReplyFrame};
use tokio::time::{Instant, sleep};

use crate::{BlockData, BlockStore, StorageClientOptions, pool::Pool};

/// A storage server that is out of touch with the metadata server is asked again for so long: one
/// that is new to it will be in touch in a moment, and one that stood still after a second or so.
const OUT_OF_TOUCH_PATIENCE: Duration = Duration::from_secs(3);
const OUT_OF_TOUCH_PAUSE: Duration = Duration::from_millis(10);

/// [`BlockStore`] of one job over connections that are opened on demand and shared.
pub struct StorageClient {
    job: JobId,
    pool: Pool,
}

impl StorageClient {
    /// A client for `job`, with the credential that the metadata server issued for a session.
    /// Connects to nobody yet.
    pub fn new(job: JobId, credential: Vec<u8>, options: StorageClientOptions) -> Self {
        StorageClient {
            job,
            pool: Pool::new(credential.into(), options),
        }
    }

    /// A request without data whose reply is a change of allocated bytes.
    async fn change(
        &self,
        server: &StorageServer,
        operation: Operation,
        head: &[u8],
    ) -> Result<i64, Failure> {
        self.change_with(server, operation, head, Payload::default())
            .await
    }

    /// A request whose reply is a change of allocated bytes.
    async fn change_with(
        &self,
        server: &StorageServer,
        operation: Operation,
        head: &[u8],
        data: Payload,
    ) -> Result<i64, Failure> {
        let reply = self.ask(server, operation, head, data).await?;
        change_told(server, &reply.body)
    }

    /// Makes a request, again and again while the server is out of touch.
    async fn ask(
        &self,
        server: &StorageServer,
        operation: Operation,
        head: &[u8],
        data: Payload,
    ) -> Result<ReplyFrame, Failure> {
        let until = Instant::now() + OUT_OF_TOUCH_PATIENCE;
        loop {
            let call = self
                .pool
                .call(server, operation, self.job, head, data.clone());
            match call.await {
                Err(failure) if failure.status == Status::Again => {
                    if Instant::now() >= until {
                        return Err(Failure::new(Status::Unavailable, failure.message));
                    }
                    sleep(OUT_OF_TOUCH_PAUSE).await;
                }
                outcome => return outcome,
            }
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
            .ask(server, Operation::ReadBlock, &head, Payload::default())
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
        self.change_with(server, Operation::WriteBlock, &address.encode(), data)
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
        self.change(server, Operation::TruncateBlocks, &head).await
    }

    async fn allocate(
        &self,
        server: &StorageServer,
        address: BlockAddress,
        fill: Fill,
    ) -> Result<i64, Failure> {
        let operation = match fill {
            Fill::Missing => Operation::AllocateBlock,
            Fill::All => Operation::ZeroBlock,
        };
        self.change(server, operation, &address.encode())
            .await
            .map_err(elsewhere)
    }

    async fn punch(&self, server: &StorageServer, address: BlockAddress) -> Result<i64, Failure> {
        self.change(server, Operation::PunchBlock, &address.encode())
            .await
    }

    async fn drop_blocks(&self, server: &StorageServer, span: BlockSpan) -> Result<i64, Failure> {
        self.change(server, Operation::DropBlocks, &span.encode())
            .await
    }

    async fn list(&self, server: &StorageServer, span: BlockSpan) -> Result<HeldBlocks, Failure> {
        let (operation, head) = (Operation::ListBlocks, span.encode());
        let reply = self
            .ask(server, operation, &head, Payload::default())
            .await?;
        blocks_told(server, span, &reply.body)
    }

    async fn copy(
        &self,
        server: &StorageServer,
        from: BlockAddress,
        to: BlockAddress,
    ) -> Result<i64, Failure> {
        let head = [from.encode(), to.encode()].concat();
        self.change(server, Operation::CopyBlock, &head).await
    }

    fn renewed(&self, credential: Bytes) -> Arc<dyn BlockStore> {
        Arc::new(StorageClient {
            job: self.job,
            pool: Pool::new(credential, self.pool.options().clone()),
        })
    }
}

/// Reads the answer to a change: how many more bytes are allocated.
pub(crate) fn change_told(server: &StorageServer, body: &[u8]) -> Result<i64, Failure> {
    let bytes: [u8; 8] = body.try_into().map_err(|_| {
        Failure::new(
            Status::Malformed,
            format!(
                "{} bytes in the reply of {}, expected 8",
                body.len(),
                server.endpoint
            ),
        )
    })?;
    Ok(i64::from_le_bytes(bytes))
}

/// Reads the answer to a list of the blocks of `span`.
pub(crate) fn blocks_told(
    server: &StorageServer,
    span: BlockSpan,
    body: &[u8],
) -> Result<HeldBlocks, Failure> {
    let malformed = |what| {
        Failure::new(
            Status::Malformed,
            format!("{} answered {what} to a list of blocks", server.endpoint),
        )
    };
    let held = HeldBlocks::decode(body).map_err(|_| malformed("odd bytes"))?;
    let in_order = held
        .blocks
        .windows(2)
        .all(|pair| pair[0].block < pair[1].block);
    let ends = [held.blocks.first(), held.blocks.last()];
    let inside = ends
        .into_iter()
        .flatten()
        .all(|held| (span.first..span.end()).contains(&held.block));
    let moves_on = held.told_to > span.first || span.end() == span.first;
    let told = held
        .blocks
        .last()
        .is_none_or(|last| last.block < held.told_to);
    if !in_order || !inside || !moves_on || !told {
        return Err(malformed("other blocks than were asked for"));
    }
    Ok(held)
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
