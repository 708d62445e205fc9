//! What a metadata server has storage servers do: drop blocks, and take changes of live sessions
//! only.

use async_trait::async_trait;
use pocket_proto::session::StorageServer;
use pocket_proto::{BlockIndex, Failure, Fence, InodeId, JobId, Vouch};
use pocket_storage_client::ClusterStorage;

/// Drops blocks on storage servers, and fences mounts there. Every operation may be repeated, and ends within a deadline.
#[async_trait]
pub trait BlockRemover: Send + Sync {
    /// Drops all blocks of the inodes.
    async fn remove_inodes(
        &self,
        server: &StorageServer,
        job: JobId,
        inodes: &[InodeId],
    ) -> Result<(), Failure>;

    /// Drops an inode's blocks behind `first_block`, and of that block all but `keep_bytes`.
    /// Returns the change of allocated bytes.
    async fn truncate(
        &self,
        server: &StorageServer,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Result<i64, Failure>;

    /// Drops all blocks of a job.
    async fn drop_job(&self, server: &StorageServer, job: JobId) -> Result<(), Failure>;

    /// Vouches for the sessions of a metadata server. Returns what the next vouch is to repeat,
    /// never 0.
    async fn vouch(&self, server: &StorageServer, vouch: Vouch) -> Result<u64, Failure>;

    /// Has changes of the job's blocks taken from its live sessions only. After success no other
    /// changes anything any more.
    async fn fence(&self, server: &StorageServer, job: JobId, fence: &Fence)
    -> Result<(), Failure>;
}

#[async_trait]
impl BlockRemover for ClusterStorage {
    async fn remove_inodes(
        &self,
        server: &StorageServer,
        job: JobId,
        inodes: &[InodeId],
    ) -> Result<(), Failure> {
        ClusterStorage::remove_inodes(self, server, job, inodes).await?;
        Ok(())
    }

    async fn truncate(
        &self,
        server: &StorageServer,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Result<i64, Failure> {
        ClusterStorage::truncate(self, server, job, inode, first_block, keep_bytes).await
    }

    async fn drop_job(&self, server: &StorageServer, job: JobId) -> Result<(), Failure> {
        ClusterStorage::drop_job(self, server, job).await?;
        Ok(())
    }

    async fn vouch(&self, server: &StorageServer, vouch: Vouch) -> Result<u64, Failure> {
        ClusterStorage::vouch(self, server, vouch).await
    }

    async fn fence(
        &self,
        server: &StorageServer,
        job: JobId,
        fence: &Fence,
    ) -> Result<(), Failure> {
        ClusterStorage::fence(self, server, job, fence).await
    }
}

/// Drops nothing: for jobs whose blocks nobody holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBlocks;

#[async_trait]
impl BlockRemover for NoBlocks {
    async fn remove_inodes(
        &self,
        _: &StorageServer,
        _: JobId,
        _: &[InodeId],
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn truncate(
        &self,
        _: &StorageServer,
        _: JobId,
        _: InodeId,
        _: BlockIndex,
        _: u32,
    ) -> Result<i64, Failure> {
        Ok(0)
    }

    async fn drop_job(&self, _: &StorageServer, _: JobId) -> Result<(), Failure> {
        Ok(())
    }

    async fn vouch(&self, _: &StorageServer, _: Vouch) -> Result<u64, Failure> {
        Ok(1)
    }

    async fn fence(&self, _: &StorageServer, _: JobId, _: &Fence) -> Result<(), Failure> {
        Ok(())
    }
}
