//! How much is held, and how much may be.

use std::sync::atomic::{AtomicU64, Ordering};

use pocket_proto::{ByteCount, Failure, Status};

use super::EngineUsage;

/// Exact count of bytes charged against a limit, and of blocks.
pub(super) struct Capacity {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    blocks: AtomicU64,
}

impl Capacity {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Capacity {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
        }
    }

    /// Charges `bytes` more, or nothing if they do not fit.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), Failure> {
        let fits =
            |used: u64| Some(used.checked_add(bytes)?).filter(|sum| *sum <= self.limit_bytes);
        // The count guards no other memory, so its own order suffices.
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map(|_| ())
            .map_err(|used| {
                Failure::new(
                    Status::ServerFull,
                    format!(
                        "{} of {} used, {} wanted",
                        ByteCount(used),
                        ByteCount(self.limit_bytes),
                        ByteCount(bytes)
                    ),
                )
            })
    }

    /// Charges what is there already, whether or not it fits.
    pub(super) fn adopt(&self, bytes: u64, blocks: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.count_blocks(blocks, 0);
    }

    /// Takes back what was charged.
    pub(super) fn release(&self, bytes: u64) {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released more than was charged");
    }

    pub(super) fn count_blocks(&self, made: u64, dropped: u64) {
        self.blocks.fetch_add(made, Ordering::Relaxed);
        self.blocks.fetch_sub(dropped, Ordering::Relaxed);
    }

    pub(super) fn usage(&self) -> EngineUsage {
        EngineUsage {
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            capacity_bytes: self.limit_bytes,
            blocks: self.blocks.load(Ordering::Relaxed),
        }
    }
}
