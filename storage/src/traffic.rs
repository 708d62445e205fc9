//! Counts of what a server has done, for its reports.

use std::sync::atomic::{AtomicU64, Ordering};

use pocket_proto::HEADER_BYTES;

/// Counters that only grow.
#[derive(Default)]
pub(crate) struct Traffic {
    operations: AtomicU64,
    network_bytes: AtomicU64,
}

impl Traffic {
    /// Counts an operation by the bodies of its request and its reply.
    pub(crate) fn count(&self, request_bytes: usize, reply_bytes: usize) {
        let bytes = request_bytes + reply_bytes + 2 * HEADER_BYTES;
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.network_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    pub(crate) fn network_bytes(&self) -> u64 {
        self.network_bytes.load(Ordering::Relaxed)
    }
}
