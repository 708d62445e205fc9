//! The mount's grant of space: taken from before data are buffered, so that write(2) itself fails.
//!
//! The metadata server grants bytes against the job's allocation; each buffered byte that may need
//! new space is taken from the grant first. What turned out not to be needed goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use pocket_meta_client::Metadata;
use pocket_proto::session::{GrantSpace, reply, request};
use pocket_proto::{Failure, Status};

/// Asked for beyond the need, so that not every write asks.
const GRANT_AHEAD_BYTES: u64 = 16 << 20;

/// Bytes granted and not yet taken.
pub(crate) struct Space {
    metadata: Arc<dyn Metadata>,
    free_bytes: AtomicI64,
    /// Something was taken since the last time unused bytes were returned.
    used: AtomicBool,
    /// One request for more at a time; the others wait and look again.
    refill: tokio::sync::Mutex<()>,
}

impl Space {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Space {
            metadata,
            free_bytes: AtomicI64::new(0),
            used: AtomicBool::new(false),
            refill: tokio::sync::Mutex::new(()),
        }
    }

    /// Takes `bytes` if that many are left.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        self.used.store(true, Ordering::Relaxed);
        let Ok(bytes) = i64::try_from(bytes) else {
            return false;
        };
        self.free_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| {
                (free >= bytes).then(|| free - bytes)
            })
            .is_ok()
    }

    /// Takes `bytes`, asking the metadata server if need be.
    ///
    /// Fails with quota-exceeded or no-space when there is not that much.
    pub(crate) async fn take(&self, bytes: u64) -> Result<(), Failure> {
        if self.try_take(bytes) {
            return Ok(());
        }
        let _one = self.refill.lock().await;
        loop {
            if self.try_take(bytes) {
                return Ok(());
            }
            let free = self.free_bytes.load(Ordering::Acquire);
            let needed = i64::try_from(bytes)
                .unwrap_or(i64::MAX)
                .saturating_sub(free)
                .max(1);
            let needed = needed.unsigned_abs();
            let request = request::Operation::GrantSpace(GrantSpace {
                wanted_bytes: needed.saturating_add(GRANT_AHEAD_BYTES),
                needed_bytes: needed,
                returned_bytes: 0,
            });
            match self.metadata.call(request).await?.result {
                reply::Result::GrantSpace(granted) => {
                    self.give_back(i64::try_from(granted.granted_bytes).unwrap_or(i64::MAX / 2))
                }
                _ => return Err(Failure::new(Status::Internal, "grant: unexpected reply")),
            }
        }
    }

    /// Puts bytes back that were taken and not used; a negative count takes what was used beyond.
    pub(crate) fn give_back(&self, bytes: i64) {
        self.free_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Returns what is left to the job, for others to write, if nothing was taken since the last
    /// call. Where the server cannot be reached the bytes are gone until the session ends: it may
    /// have heard.
    pub(crate) async fn return_unused(&self) -> Result<(), Failure> {
        if self.used.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let free = self.free_bytes.swap(0, Ordering::AcqRel);
        if free <= 0 {
            self.give_back(free);
            return Ok(());
        }
        let request = request::Operation::GrantSpace(GrantSpace {
            wanted_bytes: 0,
            needed_bytes: 0,
            returned_bytes: free.unsigned_abs(),
        });
        self.metadata.call(request).await.map(drop)
    }

    /// The session is another: its grant starts at nothing.
    pub(crate) fn reset(&self) {
        self.free_bytes.store(0, Ordering::Release);
    }

    /// Bytes granted and not taken.
    pub(crate) fn free_bytes(&self) -> i64 {
        self.free_bytes.load(Ordering::Acquire)
    }
}
