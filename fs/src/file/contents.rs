//! Whole contents of small files that nobody has open, for whoever opens them next.
//!
//! A content is that of a version of its file: the size and the time of change as the server tells
//! them at open. Every commit of data changes that time, so a content is never given out for what
//! another mount has made of the file since.

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use pocket_proto::InodeId;
use pocket_proto::session::Time;

/// Files up to this size are held.
pub(super) const CONTENT_BYTES_MAX: u64 = 128 << 10;
/// What holding a content costs besides its bytes.
const OVERHEAD_BYTES: u64 = 256;

/// What a file was when its content was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Version {
    pub(super) size: u64,
    pub(super) changed: Time,
}

/// See the module. Least recently used contents go first.
pub(crate) struct Contents {
    inner: Mutex<Inner>,
    bytes_max: u64,
}

struct Inner {
    contents: LruCache<InodeId, (Version, Bytes)>,
    bytes: u64,
}

impl Contents {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Contents {
            inner: Mutex::new(Inner {
                contents: LruCache::unbounded(),
                bytes: 0,
            }),
            bytes_max,
        }
    }

    pub(super) fn put(&self, inode: InodeId, version: Version, content: Bytes) {
        if content.len() as u64 != version.size || version.size > CONTENT_BYTES_MAX {
            return;
        }
        let mut inner = self.inner.lock();
        inner.bytes += cost(&content);
        if let Some((_, before)) = inner.contents.put(inode, (version, content)) {
            inner.bytes -= cost(&before);
        }
        while inner.bytes > self.bytes_max {
            let Some((_, (_, evicted))) = inner.contents.pop_lru() else {
                return;
            };
            inner.bytes -= cost(&evicted);
        }
    }

    pub(super) fn get(&self, inode: InodeId, version: Version) -> Option<Bytes> {
        let mut inner = self.inner.lock();
        let (known, content) = inner.contents.get(&inode)?;
        (*known == version).then(|| content.clone())
    }

    /// The inode lost a name, and is most likely gone.
    pub(crate) fn forget(&self, inode: InodeId) {
        let mut inner = self.inner.lock();
        if let Some((_, content)) = inner.contents.pop(&inode) {
            inner.bytes -= cost(&content);
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.inner.lock().bytes
    }
}

fn cost(content: &Bytes) -> u64 {
    content.len() as u64 + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(size: u64, seconds: i64) -> Version {
        let changed = Time {
            seconds,
            nanoseconds: 0,
        };
        Version { size, changed }
    }

    #[test]
    fn content_is_that_of_its_version_alone() {
        let contents = Contents::new(1 << 20);
        contents.put(InodeId(2), version(3, 7), Bytes::from_static(b"abc"));
        let got = |size, seconds| contents.get(InodeId(2), version(size, seconds));
        assert_eq!(got(3, 7), Some(Bytes::from_static(b"abc")));
        assert_eq!((got(3, 8), got(2, 7)), (None, None));
        contents.put(InodeId(2), version(2, 8), Bytes::from_static(b"abc"));
        assert_eq!(got(2, 8), None);
        contents.forget(InodeId(2));
        assert_eq!((got(3, 7), contents.bytes()), (None, 0));
    }

    #[test]
    fn no_more_is_held_than_the_bound_allows() {
        let contents = Contents::new(4 * (1000 + OVERHEAD_BYTES));
        for inode in 0..10 {
            contents.put(InodeId(inode), version(1000, 1), vec![0; 1000].into());
        }
        assert_eq!(contents.bytes(), 4 * (1000 + OVERHEAD_BYTES));
        assert!(contents.get(InodeId(5), version(1000, 1)).is_none());
        assert!(contents.get(InodeId(6), version(1000, 1)).is_some());
    }
}
