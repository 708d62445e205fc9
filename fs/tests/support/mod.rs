//! A job in this process: the real metadata server without sockets, the real block engine without
//! a server around it.

#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod client;
mod tap;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_fs::{FileSystem, FileSystemConfig, RecallInbox};
use pocket_meta::{BlockRemover, LocalJob, LocalJobConfig, LocalMetadata};
use pocket_meta_client::Metadata;
use pocket_proto::session::{StorageServer, WeightMap, WeightedServer};
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, ByteCount, Failure, Fence, Fill, HeldBlocks, InodeId,
    JobId, Status, Vouch,
};
use pocket_storage::{BlockEngine, DramEngine};
use pocket_storage_client::{BlockData, BlockStore, Payload};
use tokio::sync::Semaphore;

pub(crate) use client::{CALLER, Client};
pub(crate) use tap::Op;

const JOB: JobId = JobId(7);
const CAPACITY_BYTES: u64 = 64 << 20;

/// A current-thread runtime: what is spawned runs in a fixed order.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The blocks of the job, reached by calls.
#[derive(Clone)]
pub(crate) struct EngineStore {
    engine: Arc<DramEngine>,
    /// Writes find no room.
    pub(crate) is_full: Arc<AtomicBool>,
    /// Cuts that the metadata server asks for.
    pub(crate) cuts: Gate,
    pub(crate) reads: Gate,
}

/// Where a test can hold requests up.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Option<Arc<Semaphore>>>>);

impl Gate {
    /// What comes from now on waits until the answer has permits for it.
    pub(crate) fn hold(&self) -> Arc<Semaphore> {
        let permits = Arc::new(Semaphore::new(0));
        *self.0.lock().unwrap() = Some(Arc::clone(&permits));
        permits
    }

    async fn pass(&self) {
        let permits = self.0.lock().unwrap().clone();
        if let Some(permits) = permits {
            permits.acquire().await.unwrap().forget();
        }
    }
}

#[async_trait]
impl BlockStore for EngineStore {
    async fn read(&self, _: &StorageServer, address: BlockAddress) -> Result<BlockData, Failure> {
        self.reads.pass().await;
        let read = self.engine.read(JOB, address).finished().await?;
        Ok(BlockData {
            bytes: read.bytes,
            hole: read.hole,
        })
    }

    async fn write(
        &self,
        _: &StorageServer,
        inode: InodeId,
        block: BlockIndex,
        offset_bytes: u32,
        data: Payload,
    ) -> Result<i64, Failure> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(Status::ServerFull.into());
        }
        let data = data.into_bytes();
        self.engine
            .write(JOB, inode, block, offset_bytes, data)
            .finished()
            .await
    }

    async fn truncate(
        &self,
        _: &StorageServer,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Result<i64, Failure> {
        self.engine
            .truncate(JOB, inode, first_block, keep_bytes)
            .finished()
            .await
    }

    async fn allocate(
        &self,
        _: &StorageServer,
        address: BlockAddress,
        fill: Fill,
    ) -> Result<i64, Failure> {
        self.engine.allocate(JOB, address, fill).finished().await
    }

    async fn punch(&self, _: &StorageServer, address: BlockAddress) -> Result<i64, Failure> {
        self.engine.punch(JOB, address).finished().await
    }

    async fn drop_blocks(&self, _: &StorageServer, span: BlockSpan) -> Result<i64, Failure> {
        self.engine.drop_blocks(JOB, span).finished().await
    }

    async fn list(&self, _: &StorageServer, span: BlockSpan) -> Result<HeldBlocks, Failure> {
        Ok(self.engine.list(JOB, span))
    }

    async fn copy(
        &self,
        _: &StorageServer,
        from: BlockAddress,
        to: BlockAddress,
    ) -> Result<i64, Failure> {
        self.engine.copy(JOB, from, to).finished().await
    }

    fn renewed(&self, _: Bytes) -> Arc<dyn BlockStore> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl BlockRemover for EngineStore {
    async fn remove_inodes(
        &self,
        _: &StorageServer,
        job: JobId,
        inodes: &[InodeId],
    ) -> Result<(), Failure> {
        self.engine
            .remove_inodes(job, inodes)
            .finished()
            .await
            .map(drop)
    }

    async fn truncate(
        &self,
        _: &StorageServer,
        job: JobId,
        inode: InodeId,
        first_block: BlockIndex,
        keep_bytes: u32,
    ) -> Result<i64, Failure> {
        self.cuts.pass().await;
        self.engine
            .truncate(job, inode, first_block, keep_bytes)
            .finished()
            .await
    }

    async fn drop_job(&self, _: &StorageServer, job: JobId) -> Result<(), Failure> {
        self.engine.drop_job(job).finished().await.map(drop)
    }

    async fn vouch(&self, _: &StorageServer, _: Vouch) -> Result<u64, Failure> {
        Ok(1)
    }

    async fn fence(&self, _: &StorageServer, _: JobId, _: &Fence) -> Result<(), Failure> {
        Ok(())
    }
}

/// A job, its metadata and its blocks.
pub(crate) struct Job {
    metadata: LocalJob,
    pub(crate) store: EngineStore,
}

impl Job {
    pub(crate) async fn start(block_bytes: u32) -> Self {
        let store = EngineStore {
            engine: Arc::new(DramEngine::new(ByteCount(CAPACITY_BYTES))),
            is_full: Arc::default(),
            cuts: Gate::default(),
            reads: Gate::default(),
        };
        let server = StorageServer {
            server: 1,
            ..StorageServer::default()
        };
        let weighted = WeightedServer {
            server: Some(server),
            weight: 1,
            stands_for: 0,
        };
        let config = LocalJobConfig {
            job: JOB,
            capacity_bytes: CAPACITY_BYTES,
            awaited_bytes_max: 0,
            block_bytes,
            weight_map: WeightMap {
                epoch: 1,
                edition: 0,
                servers: vec![weighted],
            },
            lease: Duration::from_secs(5),
            orphan_grace: std::time::Duration::ZERO,
        };
        let metadata = LocalJob::new(config, Arc::new(store.clone())).unwrap();
        Job { metadata, store }
    }

    /// One more mount of the job.
    pub(crate) async fn mount(&self) -> Arc<FileSystem> {
        self.mount_and_inbox(|metadata| Arc::new(metadata)).await.0
    }

    /// One more mount, whose requests take a way of the test's own, with the inbox through which the
    /// test speaks to it as the server does.
    pub(crate) async fn mount_and_inbox(
        &self,
        way: impl FnOnce(LocalMetadata) -> Arc<dyn Metadata>,
    ) -> (Arc<FileSystem>, Arc<RecallInbox>) {
        let inbox = RecallInbox::new();
        let metadata = way(self.metadata.connect(inbox.clone()).unwrap());
        let storage = Arc::new(self.store.clone());
        let fs = FileSystem::new(metadata, storage, FileSystemConfig::default()).unwrap();
        inbox.attach(&fs);
        (fs, inbox)
    }

    /// Ends the job: every session is lost.
    pub(crate) async fn end(&self) {
        self.metadata.end().await;
    }

    /// Waits until the blocks of removed files are gone, which happens behind their backs.
    pub(crate) async fn assert_all_space_returned(&self) {
        let gone = async {
            while self.store.engine.usage().used_bytes > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .unwrap();
    }
}

/// The inode that a name in the root leads to.
pub(crate) async fn inode_of(fs: &Arc<FileSystem>, name: &[u8]) -> InodeId {
    let entry = fs.lookup(InodeId::ROOT, name).await.unwrap().value;
    InodeId(entry.attributes.unwrap().inode)
}

/// A name of a letter and a number.
pub(crate) fn name(letter: char, number: usize) -> Vec<u8> {
    format!("{letter}{number}").into_bytes()
}
