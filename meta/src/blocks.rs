//! What a metadata server has storage servers do: drop blocks.

use async_trait::async_trait;
use pocket_proto::session::StorageServer;
use pocket_proto::{BlockIndex, Failure, InodeId, JobId};
use pocket_storage_client::ClusterStorage;

/// Drops blocks on storage servers. Every operation may be repeated, and ends within a deadline.
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
}
