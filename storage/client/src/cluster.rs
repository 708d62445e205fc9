//! What a metadata server asks of storage servers, for any job.

use bytes::Bytes;
use pocket_proto::{
    BlockIndex, ClusterKey, Credential, Failure, Fence, InodeId, JobId, Operation, Scope, Status,
    Vouch, session::StorageServer,
};
use pocket_wire::Payload;

use crate::{StorageClientOptions, client::truncation, pool::Pool};

/// Inodes named in one request.
const INODES_PER_REQUEST_MAX: usize = 65_536;

/// Frees blocks of any job, and fences mounts. All its operations are idempotent. Failures are those of
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
