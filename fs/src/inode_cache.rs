//! Entries this mount holds a lease on: what lets a file be opened for reading without asking.
//!
//! The kernel caches names and attributes itself; this cache is for the layout and the size that
//! an open needs. A local change sets a newer entry or a tombstone, and an older reply that comes
//! late never replaces a newer one.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use pocket_proto::InodeId;
use pocket_proto::session::Entry;

/// Entries per shard; 16 shards hold 65,536 entries of about 300 bytes.
const ENTRIES_PER_SHARD_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
const SHARDS: usize = 16;

/// When something happened, in the order in which this mount saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

struct Cached {
    /// None: a tombstone of a local change.
    entry: Option<Entry>,
    valid_until: Instant,
    since: Tick,
}

/// See the module.
pub(crate) struct InodeCache {
    shards: [Mutex<LruCache<InodeId, Cached>>; SHARDS],
    clock: AtomicU64,
    /// When this mount last changed anything.
    last_change: AtomicU64,
}

impl InodeCache {
    pub(crate) fn new() -> Self {
        InodeCache {
            shards: std::array::from_fn(|_| Mutex::new(LruCache::new(ENTRIES_PER_SHARD_MAX))),
            clock: AtomicU64::new(1),
            last_change: AtomicU64::new(0),
        }
    }

    fn shard(&self, inode: InodeId) -> &Mutex<LruCache<InodeId, Cached>> {
        &self.shards[inode.0 as usize % SHARDS]
    }

    /// To be taken before a request goes out.
    pub(crate) fn tick(&self) -> Tick {
        Tick(self.clock.fetch_add(1, Ordering::Relaxed))
    }

    /// Keeps what a request begun at `since` brought, unless something newer is known.
    pub(crate) fn keep(&self, inode: InodeId, entry: &Entry, validity: Duration, since: Tick) {
        if validity.is_zero() {
            return;
        }
        let mut shard = self.shard(inode).lock();
        if shard
            .peek(&inode)
            .is_some_and(|cached| cached.since > since)
        {
            return;
        }
        let valid_until = Instant::now() + validity;
        shard.put(
            inode,
            Cached {
                entry: Some(entry.clone()),
                valid_until,
                since,
            },
        );
    }

    /// Whether this mount has changed anything since a request that went out at `since`.
    pub(crate) fn changed_since(&self, since: Tick) -> bool {
        self.last_change.load(Ordering::Acquire) > since.0
    }

    /// This mount changed names: pages of directories read before are out of date.
    pub(crate) fn names_changed(&self) {
        let now = self.tick();
        self.last_change.fetch_max(now.0, Ordering::AcqRel);
    }

    /// This mount changed the inode: replies to requests begun earlier are out of date.
    pub(crate) fn forget(&self, inode: InodeId) {
        let since = self.tick();
        self.last_change.fetch_max(since.0, Ordering::AcqRel);
        let cached = Cached {
            entry: None,
            valid_until: Instant::now(),
            since,
        };
        self.shard(inode).lock().put(inode, cached);
    }

    /// Whether this mount has changed the inode, or learned something newer of it, since a request
    /// that went out at `since`.
    pub(crate) fn is_newer(&self, inode: InodeId, since: Tick) -> bool {
        let shard = self.shard(inode).lock();
        shard
            .peek(&inode)
            .is_some_and(|cached| cached.since > since)
    }

    /// The entry, if the lease on it still runs.
    pub(crate) fn get(&self, inode: InodeId) -> Option<(Entry, Tick)> {
        let mut shard = self.shard(inode).lock();
        let cached = shard.get(&inode)?;
        let entry = cached.entry.as_ref()?;
        (cached.valid_until > Instant::now()).then(|| (entry.clone(), cached.since))
    }

    /// Every lease is gone.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            shard.lock().clear();
        }
    }
}
