//! Directories of which names may have been lost: until somebody is told, who syncs them.
//!
//! In a directory of its own a mount makes, removes and renames names ahead of the metadata server,
//! which it tells; a session that ends takes with it what the server had not heard of by then.

use lru::LruCache;
use parking_lot::Mutex;
use pocket_proto::InodeId;

/// More are forgotten, the oldest first: nobody syncs them.
const DIRECTORIES_MAX: usize = 1 << 16;

/// See the module.
pub(crate) struct LostNames(Mutex<LruCache<InodeId, ()>>);

impl LostNames {
    pub(crate) fn new() -> Self {
        // Grows with what is in it: nearly always nothing.
        LostNames(Mutex::new(LruCache::unbounded()))
    }

    /// Names in these may be lost.
    pub(crate) fn note(&self, directories: impl IntoIterator<Item = InodeId>) {
        let mut lost = self.0.lock();
        for directory in directories {
            lost.put(directory, ());
            if lost.len() > DIRECTORIES_MAX {
                lost.pop_lru();
            }
        }
    }

    /// Whether names in the directory may be lost and nobody was told; tells it once.
    pub(crate) fn tell(&self, directory: InodeId) -> bool {
        self.0.lock().pop(&directory).is_some()
    }
}
