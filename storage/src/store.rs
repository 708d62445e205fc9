//! What a storage server keeps its blocks on, as its operator names it.

use std::{path::PathBuf, sync::Arc};

use pocket_proto::{ByteCount, Incarnation, ServerId};

use crate::engine::{BlockEngine, Doubt, DramEngine, LogConfig, LogEngine, Medium, OpenFailure};

/// Memory for what was lately written to a disk.
const RECENT_BYTES: usize = 64 << 20;

/// A tier, and where it is: a directory or a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// Memory of this process.
    Dram,
    /// Flash on the memory bus of the machine.
    Nvme(PathBuf),
    /// Flash behind a disk controller, or over a network.
    Ssd(PathBuf),
    /// Spinning disks.
    Hdd(PathBuf),
}

/// An engine and whose blocks it has.
pub(crate) struct OpenStore {
    pub(crate) engine: Arc<dyn BlockEngine>,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
}

impl Store {
    /// The tier's name, for placement.
    pub fn tier(&self) -> &'static str {
        match self {
            Store::Dram => "dram",
            Store::Nvme(_) => "nvme",
            Store::Ssd(_) => "ssd",
            Store::Hdd(_) => "hdd",
        }
    }

    /// Opens it; `server` is the id where there are no blocks yet.
    pub(crate) async fn open(
        &self,
        server: ServerId,
        capacity: ByteCount,
    ) -> Result<OpenStore, OpenFailure> {
        let (path, medium) = match self {
            Store::Dram => {
                return Ok(OpenStore {
                    engine: Arc::new(DramEngine::new(capacity)),
                    server,
                    incarnation: Incarnation::random(),
                });
            }
            Store::Nvme(path) | Store::Ssd(path) => (path.clone(), Medium::Flash),
            Store::Hdd(path) => (path.clone(), Medium::Spindle),
        };
        let config = LogConfig {
            server,
            capacity,
            medium,
            recent_bytes: RECENT_BYTES,
            doubt: Doubt::Drop,
        };
        let opening = tokio::task::spawn_blocking(move || LogEngine::open(&path, &config));
        let opened = match opening.await {
            Ok(opened) => opened?,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        Ok(OpenStore {
            engine: Arc::new(opened.engine),
            server: opened.server,
            incarnation: opened.incarnation,
        })
    }
}
