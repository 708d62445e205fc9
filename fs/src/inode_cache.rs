//! Entries this mount holds a lease on: what lets a file be opened for reading without asking.
//!
//! The kernel caches names and attributes itself; this cache is for the layout and the size that
//! an open needs. A local change sets a newer entry or a tombstone, and an older reply that comes
//! late never replaces a newer one.

use std::cmp::Ordering;
use std::num::NonZeroUsize;
use std::sync::atomic::{self, AtomicU64};
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use pocket_proto::InodeId;
use pocket_proto::session::{Entry, FileKind};

use crate::exclusive::Owned;

/// Entries per shard; 16 shards hold 65,536 entries of about 300 bytes.
const ENTRIES_PER_SHARD_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
const SHARDS: usize = 16;

/// When something happened, in the order in which this mount saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

struct Cached {
    /// None: a tombstone of a local change.
    entry: Option<Entry>,
    valid_until: Instant,
    since: Tick,
    /// Nobody else knows the inode, as long as this lasts.
    owned: Option<Owned>,
}

/// How an answer of the server compares with what is cached.
enum Answered {
    /// It is what is to be cached from now on.
    Later,
    /// It was given before.
    Earlier,
    /// The order in which the server changed things is not the one in which it was asked.
    Doubtful,
}

impl Cached {
    fn tombstone(since: Tick, owned: Option<Owned>) -> Self {
        Cached {
            entry: None,
            valid_until: Instant::now(),
            since,
            owned,
        }
    }

    /// Compares the answer to a request begun at `since`. The server sets the time of change with
    /// every change, so the later answer of two says a later time, unless its clock was set back.
    fn compare(&self, entry: &Entry, since: Tick) -> Answered {
        let changed = |entry: &Entry| {
            let time = entry.attributes.as_ref()?.changed?;
            Some((time.seconds, time.nanoseconds))
        };
        let asked_earlier = self.since > since;
        match self
            .entry
            .as_ref()
            .map(|known| changed(known).cmp(&changed(entry)))
        {
            Some(Ordering::Greater) if !asked_earlier => Answered::Doubtful,
            Some(Ordering::Less) if asked_earlier => Answered::Doubtful,
            _ if asked_earlier => Answered::Earlier,
            _ => Answered::Later,
        }
    }
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
        Tick(self.clock.fetch_add(1, atomic::Ordering::Relaxed))
    }

    /// Keeps what a request begun at `since` brought, unless something newer is known.
    pub(crate) fn keep(&self, inode: InodeId, entry: &Entry, validity: Duration, since: Tick) {
        if validity.is_zero() {
            return;
        }
        let mut shard = self.shard(inode).lock();
        let known = shard.peek(&inode);
        let owned = known.and_then(|cached| cached.owned);
        let answered = known.map_or(Answered::Later, |cached| cached.compare(entry, since));
        match answered {
            Answered::Later => {}
            Answered::Earlier => return,
            Answered::Doubtful => {
                shard.put(inode, Cached::tombstone(self.tick(), owned));
                return;
            }
        }
        let valid_until = Instant::now() + validity;
        // Said once, and not as often as the entry is found here.
        let entry = Entry {
            exclusive: false,
            ..entry.clone()
        };
        shard.put(
            inode,
            Cached {
                entry: Some(entry),
                valid_until,
                since,
                owned,
            },
        );
    }

    /// Keeps what this mount has made, or made of an inode, ahead of the server.
    pub(crate) fn keep_owned(
        &self,
        inode: InodeId,
        entry: Entry,
        validity: Duration,
        owned: Owned,
    ) -> Tick {
        let since = self.tick();
        self.last_change
            .fetch_max(since.0, atomic::Ordering::AcqRel);
        let cached = Cached {
            entry: Some(entry),
            valid_until: Instant::now() + validity,
            since,
            owned: Some(owned),
        };
        self.shard(inode).lock().put(inode, cached);
        since
    }

    /// Changes the entry of an inode that nobody else knows. `change` is given what it is, and what
    /// that rests on; if it answers none, nothing is changed. One change at a time.
    pub(crate) fn update_owned(
        &self,
        inode: InodeId,
        validity: Duration,
        change: impl FnOnce(&mut Entry, Owned) -> Option<Owned>,
    ) -> Option<(Entry, Tick)> {
        let mut shard = self.shard(inode).lock();
        let cached = shard.get_mut(&inode)?;
        if cached.valid_until <= Instant::now() {
            return None;
        }
        let mut entry = cached.entry.clone()?;
        cached.owned = Some(change(&mut entry, cached.owned?)?);
        cached.since = self.tick();
        cached.valid_until = Instant::now() + validity;
        cached.entry = Some(entry.clone());
        self.last_change
            .fetch_max(cached.since.0, atomic::Ordering::AcqRel);
        Some((entry, cached.since))
    }

    /// What it rests on that nobody else knows the inode.
    pub(crate) fn owned(&self, inode: InodeId) -> Option<Owned> {
        self.shard(inode).lock().peek(&inode)?.owned
    }

    /// Others may come to know the inode.
    pub(crate) fn disown(&self, inode: InodeId) {
        if let Some(cached) = self.shard(inode).lock().peek_mut(&inode) {
            cached.owned = None;
        }
    }

    /// What kind of file it is, if that was ever told: it never changes.
    pub(crate) fn kind(&self, inode: InodeId) -> Option<FileKind> {
        let shard = self.shard(inode).lock();
        let entry = shard.peek(&inode)?.entry.as_ref()?;
        Some(entry.attributes.as_ref()?.kind())
    }

    /// Whether this mount has changed anything since a request that went out at `since`.
    pub(crate) fn changed_since(&self, since: Tick) -> bool {
        self.last_change.load(atomic::Ordering::Acquire) > since.0
    }

    /// This mount changed names: pages of directories read before are out of date.
    pub(crate) fn names_changed(&self) {
        let now = self.tick();
        self.last_change.fetch_max(now.0, atomic::Ordering::AcqRel);
    }

    /// This mount changed the inode: replies to requests begun earlier are out of date.
    pub(crate) fn forget(&self, inode: InodeId) {
        let since = self.tick();
        self.last_change
            .fetch_max(since.0, atomic::Ordering::AcqRel);
        let mut shard = self.shard(inode).lock();
        let owned = shard.peek(&inode).and_then(|cached| cached.owned);
        shard.put(inode, Cached::tombstone(since, owned));
    }

    /// Whether this mount has changed the inode, or learned something newer of it, since a request
    /// that went out at `since`.
    pub(crate) fn is_newer(&self, inode: InodeId, since: Tick) -> bool {
        let shard = self.shard(inode).lock();
        shard
            .peek(&inode)
            .is_some_and(|cached| cached.since > since)
    }

    /// A change of this mount's is done: answers to what was asked until now may be older, whichever
    /// was asked first. What is known stays.
    pub(crate) fn changed(&self, inode: InodeId) {
        let since = self.tick();
        self.last_change
            .fetch_max(since.0, atomic::Ordering::AcqRel);
        let mut shard = self.shard(inode).lock();
        match shard.get_mut(&inode) {
            Some(cached) => cached.since = since,
            None => {
                shard.put(inode, Cached::tombstone(since, None));
            }
        }
    }

    /// From when the newest is that is known of the inode, or that this mount has done to it.
    pub(crate) fn newest(&self, inode: InodeId) -> Option<Tick> {
        let shard = self.shard(inode).lock();
        Some(shard.peek(&inode)?.since)
    }

    /// The entry, and how long the lease on it still runs.
    pub(crate) fn get(&self, inode: InodeId) -> Option<(Entry, Tick, Duration)> {
        let mut shard = self.shard(inode).lock();
        let cached = shard.get(&inode)?;
        let left = cached.valid_until.checked_duration_since(Instant::now())?;
        Some((cached.entry.clone()?, cached.since, left))
    }

    /// Every lease is gone. Answers the inodes that were known.
    pub(crate) fn take_all(&self) -> Vec<InodeId> {
        let mut known = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            known.extend(shard.iter().map(|(inode, _)| *inode));
            shard.clear();
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::session::{Attributes, Time};

    use super::*;

    const INODE: InodeId = InodeId(5);
    const LEASE: Duration = Duration::from_secs(60);

    fn changed_at(seconds: i64) -> Entry {
        let changed = Some(Time {
            seconds,
            nanoseconds: 0,
        });
        let attributes = Some(Attributes {
            changed,
            ..Attributes::default()
        });
        Entry {
            attributes,
            ..Entry::default()
        }
    }

    fn known(cache: &InodeCache) -> Option<Entry> {
        cache.get(INODE).map(|(entry, _, _)| entry)
    }

    #[test]
    fn answer_to_an_earlier_request_does_not_replace_a_later_one() {
        let cache = InodeCache::new();
        let (first, second) = (cache.tick(), cache.tick());
        cache.keep(INODE, &changed_at(2), LEASE, second);
        cache.keep(INODE, &changed_at(1), LEASE, first);
        assert_eq!(known(&cache), Some(changed_at(2)));
    }

    #[test]
    fn nothing_is_known_when_the_server_changed_things_in_another_order() {
        for seconds in [1, 3] {
            let cache = InodeCache::new();
            let (first, second) = (cache.tick(), cache.tick());
            let (sooner, later) = if seconds == 1 {
                (first, second)
            } else {
                (second, first)
            };
            cache.keep(INODE, &changed_at(2), LEASE, sooner);
            cache.keep(INODE, &changed_at(seconds), LEASE, later);
            assert_eq!(known(&cache), None);
        }
    }

    #[test]
    fn answer_to_a_request_before_a_local_change_is_not_kept() {
        let cache = InodeCache::new();
        let before = cache.tick();
        cache.forget(INODE);
        cache.keep(INODE, &changed_at(9), LEASE, before);
        assert_eq!(known(&cache), None);
        cache.keep(INODE, &changed_at(9), LEASE, cache.tick());
        assert_eq!(known(&cache), Some(changed_at(9)));
    }

    #[test]
    fn lease_that_has_run_out_says_nothing() {
        let cache = InodeCache::new();
        cache.keep(INODE, &changed_at(1), Duration::from_nanos(1), cache.tick());
        assert_eq!(known(&cache), None);
    }
}
