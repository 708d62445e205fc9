//! Blocks held for readers: fetched once, shared by those who wait for them, dropped oldest first.
//!
//! They belong to an open file, not to its inode: what is fetched for one that is being closed is
//! never found by those who open the inode anew.

use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::state::OpenNumber;

/// A block being fetched or held. Empty until the first reader has fetched it; a failed fetch
/// leaves it empty, so that the next reader tries anew.
pub(super) type Slot = Arc<OnceCell<Bytes>>;

/// All blocks that this mount holds for readers, within a bound of bytes.
pub(crate) struct BlockCache {
    inner: Mutex<Inner>,
    bytes_max: u64,
}

struct Inner {
    slots: LruCache<(OpenNumber, u64), (Slot, u32)>,
    bytes: u64,
}

impl Inner {
    fn remove(&mut self, file: OpenNumber, block: u64) {
        if let Some((_, bytes)) = self.slots.pop(&(file, block)) {
            self.bytes -= u64::from(bytes);
        }
    }
}

impl BlockCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        BlockCache {
            inner: Mutex::new(Inner {
                slots: LruCache::unbounded(),
                bytes: 0,
            }),
            bytes_max,
        }
    }

    /// The slot of a block, made if need be; true if it was made. A block is charged its whole
    /// length from the start.
    pub(super) fn slot(&self, file: OpenNumber, block: u64, bytes: u32) -> (Slot, bool) {
        let mut inner = self.inner.lock();
        if let Some((slot, _)) = inner.slots.get(&(file, block)) {
            return (Arc::clone(slot), false);
        }
        while inner.bytes + u64::from(bytes) > self.bytes_max {
            let Some((_, (_, evicted))) = inner.slots.pop_lru() else {
                break;
            };
            inner.bytes -= u64::from(evicted);
        }
        let slot = Slot::default();
        inner.slots.put((file, block), (Arc::clone(&slot), bytes));
        inner.bytes += u64::from(bytes);
        (slot, true)
    }

    /// The slot of a block if there is one.
    pub(super) fn peek(&self, file: OpenNumber, block: u64) -> Option<Slot> {
        self.inner
            .lock()
            .slots
            .get(&(file, block))
            .map(|(slot, _)| Arc::clone(slot))
    }

    /// Drops several blocks of a file.
    pub(super) fn remove_all(&self, file: OpenNumber, blocks: impl IntoIterator<Item = u64>) {
        let mut inner = self.inner.lock();
        for block in blocks {
            inner.remove(file, block);
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.inner.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_blocks_make_room_for_new_ones() {
        let cache = BlockCache::new(100);
        for block in 0..3 {
            assert!(cache.slot(OpenNumber(1), block, 40).1);
        }
        assert!(cache.peek(OpenNumber(1), 0).is_none());
        assert!(cache.peek(OpenNumber(1), 1).is_some());
        assert_eq!(cache.bytes(), 80);
        cache.remove_all(OpenNumber(1), 0..3);
        assert_eq!(cache.bytes(), 0);
    }
}
