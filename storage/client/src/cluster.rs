//! What a metadata server asks of storage servers, for any job: to free blocks, and what it takes
//! to move them.

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, ClusterKey, Credential, Failure, Fence, HeldBlocks,
    InodeId, JobId, Operation, REPLY_FLAG_HOLE, Scope, Status, Vouch, session::StorageServer,
};
use pocket_wire::Payload;

use crate::{
    StorageClientOptions,
    client::{blocks_told, truncation},
    pool::Pool,
};

/// Inodes named in one request.
const INODES_PER_REQUEST_MAX: usize = 65_536;

/// Frees and moves blocks of any job, and fences mounts. All its operations are idempotent. Failures are those of
/// [`BlockStore`](crate::BlockStore); `Lost` means that there is nothing left to free.
pub struct ClusterStorage {
    pool: Pool,
}

impl ClusterStorage {
    /// A client with the rights of the cluster's own servers. Connects to nobody yet. One
    /// connection per server serves it.
    pub fn new(key: &ClusterKey, options: StorageClientOptions) -> Self {
        let credential = Credential::issue(key, Scope::Cluster);
        let options = StorageClientOptions {
            connections: 1,
            ..options
        };
        ClusterStorage {
            pool: Pool::new(Bytes::copy_from_slice(credential.as_bytes()), options),
        }
    }

    /// Drops all blocks of these inodes that `server` holds. Returns the change of allocated
    /// bytes, never above 0.
    pub async fn remove_inodes(
        &self,
        server: &StorageServer,
        job: JobId,
        inodes: &[InodeId],
    ) -> Result<i64, Failure> {
        let mut change = 0;
        for inodes in inodes.chunks(INODES_PER_REQUEST_MAX) {
            let ids: Vec<u8> = inodes
                .iter()
                .flat_map(|inode| inode.0.to_le_bytes())
                .collect();
            change += self
                .pool
                .call_for_change(
                    server,
                    Operation::RemoveInodes,
                    job,
                    &[],
                    Bytes::from(ids).into(),
                )
                .await?;
        }
        Ok(change)
    }

    /// As [`BlockStore::truncate`](crate::BlockStore::truncate).
    pub async fn truncate(
        &self,
        server: &StorageServer,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Result<i64, Failure> {
        let head = truncation(inode, first_block, keep_bytes).encode();
        self.pool
            .call_for_change(
                server,
                Operation::TruncateBlocks,
                job,
                &head,
                Payload::default(),
            )
            .await
    }

    /// The inodes of a job that `server` holds blocks of, in order, behind `after`; as many as one
    /// answer holds, none at the end.
    pub async fn inodes(
        &self,
        server: &StorageServer,
        job: JobId,
        after: InodeId,
    ) -> Result<Vec<InodeId>, Failure> {
        let head = after.0.to_le_bytes();
        let call = self.pool.call(
            server,
            Operation::ListInodes,
            job,
            &head,
            Payload::default(),
        );
        let body = call.await?.body;
        let (ids, rest) = body.as_chunks::<8>();
        let inodes: Vec<_> = ids
            .iter()
            .map(|id| InodeId(u64::from_le_bytes(*id)))
            .collect();
        let in_order = inodes.windows(2).all(|pair| pair[0] < pair[1]);
        if !rest.is_empty() || !in_order || inodes.first().is_some_and(|first| *first <= after) {
            let what = format!("{} answered no list of inodes", server.endpoint);
            return Err(Failure::new(Status::Malformed, what));
        }
        Ok(inodes)
    }

    /// As [`BlockStore::list`](crate::BlockStore::list).
    pub async fn list(
        &self,
        server: &StorageServer,
        job: JobId,
        span: BlockSpan,
    ) -> Result<HeldBlocks, Failure> {
        let (operation, head) = (Operation::ListBlocks, span.encode());
        let call = self
            .pool
            .call(server, operation, job, &head, Payload::default());
        blocks_told(server, span, &call.await?.body)
    }

    /// What `server` holds of a block; `None` where there is none.
    pub async fn read(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
    ) -> Result<Option<Bytes>, Failure> {
        let head = address.encode();
        let call = self
            .pool
            .call(server, Operation::ReadBlock, job, &head, Payload::default());
        let reply = call.await?;
        Ok((reply.flags & REPLY_FLAG_HOLE == 0).then_some(reply.body))
    }

    /// Writes a block from its beginning. Returns by how many bytes its allocation changed.
    pub async fn write(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
        data: Bytes,
    ) -> Result<i64, Failure> {
        let head = address.encode();
        self.pool
            .call_for_change(server, Operation::WriteBlock, job, &head, data.into())
            .await
    }

    /// As [`BlockStore::drop_blocks`](crate::BlockStore::drop_blocks).
    pub async fn drop_blocks(
        &self,
        server: &StorageServer,
        job: JobId,
        span: BlockSpan,
    ) -> Result<i64, Failure> {
        let head = span.encode();
        self.pool
            .call_for_change(
                server,
                Operation::DropBlocks,
                job,
                &head,
                Payload::default(),
            )
            .await
    }

    /// Drops all blocks of a job that `server` holds, and refuses its writes from now on. Returns
    /// the change of allocated bytes, never above 0.
    pub async fn drop_job(&self, server: &StorageServer, job: JobId) -> Result<i64, Failure> {
        self.pool
            .call_for_change(server, Operation::DropJob, job, &[], Payload::default())
            .await
    }
    /// Vouches for the sessions of a metadata server. Returns what the next vouch is to repeat.
    pub async fn vouch(&self, server: &StorageServer, vouch: Vouch) -> Result<u64, Failure> {
        let (none, body) = (JobId(0), vouch.encode());
        let call = self
            .pool
            .call(server, Operation::Vouch, none, &body, Payload::default());
        let reply = call.await?.body;
        let clock: [u8; 8] = reply.as_ref().try_into().map_err(|_| {
            let what = format!("{} bytes in the answer to a vouch, expected 8", reply.len());
            Failure::new(Status::Malformed, what)
        })?;
        Ok(u64::from_le_bytes(clock))
    }

    /// Has `server` take changes of the job's blocks from its live sessions only. When this
    /// succeeds, no other changes anything there any more.
    pub async fn fence(
        &self,
        server: &StorageServer,
        job: JobId,
        fence: &Fence,
    ) -> Result<(), Failure> {
        let body = Payload::from(Bytes::from(fence.encode()));
        self.pool
            .call(server, Operation::FenceSessions, job, &[], body)
            .await?;
        Ok(())
    }
}
