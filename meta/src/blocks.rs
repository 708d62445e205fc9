//! What a metadata server has storage servers do: drop blocks, hand them on, and take changes of
//! live sessions only.

use async_trait::async_trait;
use bytes::Bytes;
use pocket_proto::session::StorageServer;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, Failure, Fence, HeldBlocks, InodeId, JobId, Vouch,
};
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

    /// How blocks are moved; `None` where none can be.
    fn mover(&self) -> Option<&dyn BlockMover> {
        None
    }
}

/// What it takes to move blocks from a storage server to others. Every operation may be repeated,
/// and ends within a deadline.
#[async_trait]
pub trait BlockMover: Send + Sync {
    /// The inodes that the server holds blocks of, in order, behind `after`; none at the end.
    async fn inodes(
        &self,
        server: &StorageServer,
        job: JobId,
        after: InodeId,
    ) -> Result<Vec<InodeId>, Failure>;

    /// The blocks of a span that the server holds, as far as one answer tells.
    async fn list(
        &self,
        server: &StorageServer,
        job: JobId,
        span: BlockSpan,
    ) -> Result<HeldBlocks, Failure>;

    /// A block as the server holds it; `None` where there is none.
    async fn read(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
    ) -> Result<Option<Bytes>, Failure>;

    /// Puts a block on the server, in the place of whatever it had there.
    async fn put(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
        data: Bytes,
    ) -> Result<(), Failure>;

    /// Drops one block.
    async fn drop_block(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
    ) -> Result<(), Failure>;
}

#[async_trait]
impl BlockMover for ClusterStorage {
    async fn inodes(
        &self,
        server: &StorageServer,
        job: JobId,
        after: InodeId,
    ) -> Result<Vec<InodeId>, Failure> {
        ClusterStorage::inodes(self, server, job, after).await
    }

    async fn list(
        &self,
        server: &StorageServer,
        job: JobId,
        span: BlockSpan,
    ) -> Result<HeldBlocks, Failure> {
        ClusterStorage::list(self, server, job, span).await
    }

    async fn read(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
    ) -> Result<Option<Bytes>, Failure> {
        ClusterStorage::read(self, server, job, address).await
    }

    async fn put(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
        data: Bytes,
    ) -> Result<(), Failure> {
        // A copy from an earlier time may lie there, and be longer.
        self.drop_block(server, job, address).await?;
        ClusterStorage::write(self, server, job, address, data).await?;
        Ok(())
    }

    async fn drop_block(
        &self,
        server: &StorageServer,
        job: JobId,
        address: BlockAddress,
    ) -> Result<(), Failure> {
        let span = BlockSpan {
            inode: address.inode,
            first: address.block,
            count: 1,
        };
        ClusterStorage::drop_blocks(self, server, job, span).await?;
        Ok(())
    }
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

    fn mover(&self) -> Option<&dyn BlockMover> {
        Some(self)
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

/// Storage servers that give one answer, for the tests of this crate.
#[cfg(test)]
pub(crate) mod fake {
    use parking_lot::Mutex;
    use pocket_proto::Status;

    use super::*;

    /// Answers `status` to whatever is to be dropped, and notes what it was told.
    pub(crate) struct Fake {
        pub(crate) status: Status,
        /// Jobs that were to be dropped, and the servers.
        pub(crate) dropped: Mutex<Vec<(u64, JobId)>>,
        pub(crate) vouches: Mutex<usize>,
    }

    impl Fake {
        pub(crate) fn new(status: Status) -> Self {
            Fake {
                status,
                dropped: Mutex::default(),
                vouches: Mutex::default(),
            }
        }

        fn answer(&self) -> Result<(), Failure> {
            match self.status {
                Status::Ok => Ok(()),
                status => Err(status.into()),
            }
        }
    }

    #[async_trait]
    impl BlockRemover for Fake {
        async fn remove_inodes(
            &self,
            _: &StorageServer,
            _: JobId,
            _: &[InodeId],
        ) -> Result<(), Failure> {
            self.answer()
        }

        async fn truncate(
            &self,
            _: &StorageServer,
            _: JobId,
            _: InodeId,
            _: BlockIndex,
            _: u32,
        ) -> Result<i64, Failure> {
            self.answer().map(|()| 0)
        }

        async fn drop_job(&self, server: &StorageServer, job: JobId) -> Result<(), Failure> {
            self.dropped.lock().push((server.server, job));
            self.answer()
        }

        async fn vouch(&self, _: &StorageServer, _: Vouch) -> Result<u64, Failure> {
            *self.vouches.lock() += 1;
            Ok(1)
        }

        async fn fence(&self, _: &StorageServer, _: JobId, _: &Fence) -> Result<(), Failure> {
            Ok(())
        }
    }
}
