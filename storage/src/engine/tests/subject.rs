//! The engines under test.

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::{
    BlockAddress, BlockIndex, BlockSpan, ByteCount, Failure, Fill, HeldBlocks, InodeId, JobId,
    ServerId,
};

use crate::engine::{
    BlockEngine, BlockRead, Completion, DramEngine, EngineUsage,
    device::MemoryDevice,
    log::{Doubt, LogConfig, LogEngine, Medium},
};

/// An engine that can be made anew, with its operations waited for.
pub(in crate::engine) trait Subject: Sized + Sync {
    fn new(capacity: u64) -> Self;

    fn engine(&self) -> &dyn BlockEngine;

    /// The engine of another process on the same medium, after this one ended in an orderly way or
    /// not. None: nothing outlives the engine.
    fn restarted(self, orderly: bool) -> Result<Self, Self>;

    fn read(&self, job: JobId, address: BlockAddress) -> Result<BlockRead, Failure> {
        now(self.engine().read(job, address))
    }

    fn write(
        &self,
        job: JobId,
        inode: InodeId,
        block: BlockIndex,
        offset: u32,
        data: Bytes,
    ) -> Result<i64, Failure> {
        now(self.engine().write(job, inode, block, offset, data))
    }

    fn allocate(&self, job: JobId, address: BlockAddress, fill: Fill) -> Result<i64, Failure> {
        now(self.engine().allocate(job, address, fill))
    }

    fn punch(&self, job: JobId, address: BlockAddress) -> Result<i64, Failure> {
        now(self.engine().punch(job, address))
    }

    fn copy(&self, job: JobId, from: BlockAddress, to: BlockAddress) -> Result<i64, Failure> {
        now(self.engine().copy(job, from, to))
    }

    fn list(&self, job: JobId, span: BlockSpan) -> HeldBlocks {
        self.engine().list(job, span)
    }

    fn inodes(&self, job: JobId, after: InodeId, count: usize) -> Vec<InodeId> {
        self.engine().inodes(job, after, count)
    }

    fn drop_blocks(&self, job: JobId, span: BlockSpan) -> i64 {
        now(self.engine().drop_blocks(job, span)).unwrap()
    }

    fn truncate(&self, job: JobId, inode: InodeId, first: BlockIndex, keep: u32) -> i64 {
        now(self.engine().truncate(job, inode, first, keep)).unwrap()
    }

    fn remove_inodes(&self, job: JobId, inodes: &[InodeId]) -> i64 {
        now(self.engine().remove_inodes(job, inodes)).unwrap()
    }

    fn drop_job(&self, job: JobId) -> i64 {
        now(self.engine().drop_job(job)).unwrap()
    }

    fn usage(&self) -> EngineUsage {
        self.engine().usage()
    }
}

/// Waits for an operation.
pub(in crate::engine) fn now<T: Send + 'static>(completion: Completion<T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(completion.finished())
}

pub(in crate::engine) fn log_config(capacity: u64) -> LogConfig {
    LogConfig {
        server: ServerId(5),
        capacity: ByteCount(capacity),
        medium: Medium::Flash,
        recent_bytes: 0,
        doubt: Doubt::Keep,
    }
}

impl Subject for DramEngine {
    fn new(capacity: u64) -> Self {
        DramEngine::new(ByteCount(capacity))
    }

    fn engine(&self) -> &dyn BlockEngine {
        self
    }

    fn restarted(self, _: bool) -> Result<Self, Self> {
        Err(self)
    }
}

/// The log on a medium in memory.
pub(in crate::engine) struct LogInMemory {
    pub(in crate::engine) engine: LogEngine,
    pub(in crate::engine) device: Arc<MemoryDevice>,
    capacity: u64,
}

impl LogInMemory {
    pub(in crate::engine) fn open(device: Arc<MemoryDevice>, capacity: u64) -> Self {
        let config = log_config(capacity);
        let opened = LogEngine::open_device(device.clone(), &config, 1).unwrap();
        LogInMemory {
            engine: opened.engine,
            device,
            capacity,
        }
    }
}

impl Subject for LogInMemory {
    fn new(capacity: u64) -> Self {
        Self::open(Arc::default(), capacity)
    }

    fn engine(&self) -> &dyn BlockEngine {
        &self.engine
    }

    fn restarted(self, orderly: bool) -> Result<Self, Self> {
        let (device, capacity) = (self.device, self.capacity);
        if orderly {
            self.engine.stop().unwrap();
        }
        drop(self.engine);
        Ok(Self::open(device, capacity))
    }
}

/// The log in a file, by io_uring where the kernel lets us, as in a server.
pub(in crate::engine) struct LogInFile {
    directory: tempfile::TempDir,
    engine: LogEngine,
    config: LogConfig,
}

impl Subject for LogInFile {
    fn new(capacity: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = LogConfig {
            recent_bytes: 64 << 10,
            ..log_config(capacity)
        };
        let opened = LogEngine::open(directory.path(), &config).unwrap();
        LogInFile {
            directory,
            engine: opened.engine,
            config,
        }
    }

    fn engine(&self) -> &dyn BlockEngine {
        &self.engine
    }

    fn restarted(self, orderly: bool) -> Result<Self, Self> {
        let LogInFile {
            directory,
            engine,
            config,
        } = self;
        if orderly {
            engine.stop().unwrap();
        }
        drop(engine);
        let opened = LogEngine::open(directory.path(), &config).unwrap();
        Ok(LogInFile {
            directory,
            engine: opened.engine,
            config,
        })
    }
}
