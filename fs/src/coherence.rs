//! What the kernel may cache, and how a recall takes it back.
//!
//! Replies of the metadata server carry leases; handing one to the kernel and taking a lease back
//! must not cross. So a reply remembers how many recalls had come before it ([`Leased`]); it is
//! handed over under a shared lock and, if a recall has come since, without any validity. A recall
//! takes the lock for writing first and drops what the kernel holds after: whatever was handed
//! over before is there to be dropped, whatever comes later is not cached.

use std::time::{Duration, Instant};

use parking_lot::RwLock;
use pocket_proto::InodeId;

use crate::inode_cache::Tick;

/// The kernel's caches of one mount, as far as recalls reach into them.
///
/// Called from tasks that may block, never from inside an operation.
pub trait KernelCache: Send + Sync {
    /// Drops a name, present or absent. May block while an operation in that directory is under
    /// way.
    fn drop_name(&self, parent: InodeId, name: &[u8]);
    /// Drops an inode's attributes. Does not block.
    fn drop_attributes(&self, inode: InodeId);
    /// Drops an inode's attributes and pages.
    fn drop_data(&self, inode: InodeId);
    /// Drops every name at once. Does not block. False where the kernel cannot do that.
    fn drop_all_names(&self) -> bool;
}

/// For uses without a mount: nothing is cached, nothing to drop.
#[derive(Debug, Default)]
pub struct NoKernelCache;

impl KernelCache for NoKernelCache {
    fn drop_name(&self, _: InodeId, _: &[u8]) {}
    fn drop_attributes(&self, _: InodeId) {}
    fn drop_data(&self, _: InodeId) {}
    fn drop_all_names(&self) -> bool {
        true
    }
}

/// A value with what is needed to tell, when it is handed to the kernel, how long it may stay.
#[derive(Clone, Debug)]
pub struct Leased<T> {
    /// What the server answered.
    pub value: T,
    /// Recalls that had arrived before the answer.
    pub(crate) stamp: u64,
    /// When the request went out: leases run from no later than this.
    pub(crate) asked: Instant,
    /// The same moment in this mount's own order of events.
    pub(crate) since: Tick,
}

impl<T> Leased<T> {
    /// Turns the value into another, or fails.
    pub(crate) fn map<U, E>(self, f: impl FnOnce(T) -> Result<U, E>) -> Result<Leased<U>, E> {
        let Leased {
            value,
            stamp,
            asked,
            since,
        } = self;
        Ok(Leased {
            value: f(value)?,
            stamp,
            asked,
            since,
        })
    }
}

/// How much of a lease is left at the moment of handing over.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    elapsed: Duration,
    recalled: bool,
}

impl Freshness {
    /// For how long the kernel may keep what the server leased for `lease_ms`.
    pub fn validity(&self, lease_ms: u32) -> Duration {
        if self.recalled {
            return Duration::ZERO;
        }
        Duration::from_millis(u64::from(lease_ms)).saturating_sub(self.elapsed)
    }
}

/// Number of the newest recall, and the lock that orders replies and recalls.
#[derive(Debug, Default)]
pub(crate) struct Coherence {
    newest_recall: RwLock<u64>,
}

impl Coherence {
    /// Hands `leased` over: `give` runs while no recall can begin.
    pub(crate) fn hand_over<T, R>(
        &self,
        leased: &Leased<T>,
        give: impl FnOnce(&T, Freshness) -> R,
    ) -> R {
        let newest = self.newest_recall.read();
        let recalled = *newest > leased.stamp;
        give(
            &leased.value,
            Freshness {
                elapsed: leased.asked.elapsed(),
                recalled,
            },
        )
    }

    /// Runs `f` while no recall can begin.
    pub(crate) fn steady<R>(&self, f: impl FnOnce() -> R) -> R {
        let _newest = self.newest_recall.read();
        f()
    }

    /// A recall arrived: nothing older than it is cached from here on.
    pub(crate) fn begin_recall(&self, stamp: u64) {
        let mut newest = self.newest_recall.write();
        *newest = (*newest).max(stamp);
    }

    /// Another session counts its recalls from zero.
    pub(crate) fn restart(&self) {
        *self.newest_recall.write() = 0;
    }
}
