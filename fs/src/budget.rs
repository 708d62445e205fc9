//! The byte budget: a hard bound on data held for readers and writers.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A pool of bytes; what is taken comes back when the permit is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    semaphore: Arc<Semaphore>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let permits = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        Budget {
            semaphore: Arc::new(Semaphore::new(permits)),
            bytes,
        }
    }

    /// Takes `bytes` if there are so many.
    pub(crate) fn try_take(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.semaphore)
            .try_acquire_many_owned(bytes)
            .ok()
    }

    /// Waits for `bytes`; first come, first served. Never more than the whole pool.
    pub(crate) async fn take(&self, bytes: u32) -> OwnedSemaphorePermit {
        let bytes = u64::from(bytes).min(self.bytes) as u32;
        Arc::clone(&self.semaphore)
            .acquire_many_owned(bytes)
            .await
            .expect("the semaphore is never closed")
    }

    /// Bytes of the whole pool.
    pub(crate) fn total(&self) -> u64 {
        self.bytes
    }

    /// Bytes taken now.
    pub(crate) fn used(&self) -> u64 {
        self.bytes - self.semaphore.available_permits() as u64
    }
}
