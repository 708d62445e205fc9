//! Names read ahead: where a program looks up one name after another in a directory, the rest of
//! them is fetched in pages, so that most lookups are answered without asking.
//!
//! The kernel caches the names it has asked for itself; this cache holds those it will ask for
//! next. Names come with leases, as they do for a listing with attributes: a recall takes them out
//! ([`NameCache::forget`]), and so does every change that this mount makes itself
//! ([`NameCache::changed`]). Attributes are not kept here but in the inode cache.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use pocket_proto::InodeId;

/// Directories watched for lookups; the one not used for longest goes first.
const DIRECTORIES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Names held, of all directories; about 10 MB.
const NAMES_MAX: usize = 65_536;
/// Names looked up in a directory before its first page is read.
const LOOKUPS_TO_BEGIN: u32 = 8;
/// Names looked up for each further page: a page that nobody wants costs less than half of them.
const LOOKUPS_PER_PAGE: u32 = 32;
/// Doublings of these numbers where pages come too late again and again: 8192 lookups per page.
const LOST_MAX: u32 = 8;
/// A directory that was read to its end is read anew after this: by then leases have lapsed.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(4);

/// See the module.
pub(crate) struct NameCache {
    inner: Mutex<Inner>,
}

struct Inner {
    directories: LruCache<InodeId, Directory>,
    names: usize,
    /// Numbers the states of directories: an old page must not be taken for a new one.
    versions: u64,
}

struct Directory {
    names: HashMap<Box<[u8]>, Name>,
    /// Changes when this mount changes a name.
    version: u64,
    /// Lookups since the last page was asked for.
    lookups: u32,
    reading: bool,
    /// Pages in a row that came too late to be kept: each doubles the lookups before the next.
    lost: u32,
    /// Where the next page begins; none at the end.
    cookie: Option<u64>,
    began: Instant,
}

struct Name {
    inode: InodeId,
    valid_until: Instant,
}

/// A page that should be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedPage {
    /// Of this directory.
    pub(crate) directory: InodeId,
    /// Behind this cookie.
    pub(crate) cookie: u64,
    version: u64,
}

/// A name of a page.
pub(crate) struct ReadName<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) inode: InodeId,
    pub(crate) validity: Duration,
}

impl NameCache {
    pub(crate) fn new() -> Self {
        NameCache {
            inner: Mutex::new(Inner {
                directories: LruCache::new(DIRECTORIES_MAX),
                names: 0,
                versions: 0,
            }),
        }
    }

    /// Where a name leads, and for how long that is certain.
    pub(crate) fn find(&self, directory: InodeId, name: &[u8]) -> Option<(InodeId, Duration)> {
        let mut inner = self.inner.lock();
        let found = inner.directories.get(&directory)?.names.get(name)?;
        let left = found.valid_until.checked_duration_since(Instant::now())?;
        Some((found.inode, left))
    }

    /// Notes that a name that exists was looked up; answers the page to be read now, if any.
    /// Exactly one of [`NameCache::learn`] and [`NameCache::give_up`] is to follow.
    pub(crate) fn looked_up(&self, directory: InodeId) -> Option<WantedPage> {
        let mut inner = self.inner.lock();
        let Inner { versions, .. } = &mut *inner;
        *versions += 1;
        let version = *versions;
        let watched = inner.watch(directory, version);
        watched.lookups += 1;
        if watched.reading {
            return None;
        }
        let cookie = match watched.cookie {
            Some(cookie) => cookie,
            None if watched.began.elapsed() < READ_AGAIN_AFTER => return None,
            None => 0,
        };
        let wanted = if cookie == 0 {
            LOOKUPS_TO_BEGIN
        } else {
            LOOKUPS_PER_PAGE
        };
        if watched.lookups < wanted << watched.lost {
            return None;
        }
        if cookie == 0 {
            watched.began = Instant::now();
        }
        (watched.lookups, watched.reading) = (0, true);
        Some(WantedPage {
            directory,
            cookie,
            version: watched.version,
        })
    }

    /// Keeps the names of a page; `next` is the last one's cookie, none at the directory's end.
    /// A page from before a change of this mount is of no use.
    pub(crate) fn learn<'a>(
        &self,
        page: WantedPage,
        names: impl Iterator<Item = ReadName<'a>>,
        next: Option<u64>,
    ) {
        let mut inner = self.inner.lock();
        let Some(watched) = inner.directories.peek_mut(&page.directory) else {
            return;
        };
        watched.reading = false;
        if watched.version != page.version {
            watched.lost = (watched.lost + 1).min(LOST_MAX);
            return;
        }
        (watched.cookie, watched.lost) = (next, 0);
        let now = Instant::now();
        let before = watched.names.len();
        for read in names.filter(|read| !read.validity.is_zero()) {
            let name = Name {
                inode: read.inode,
                valid_until: now + read.validity,
            };
            watched.names.insert(read.name.into(), name);
        }
        inner.names += inner
            .directories
            .peek(&page.directory)
            .map_or(0, |watched| watched.names.len() - before);
        inner.shrink();
    }

    /// The page could not be read.
    pub(crate) fn give_up(&self, page: WantedPage) {
        if let Some(watched) = self.inner.lock().directories.peek_mut(&page.directory) {
            watched.reading = false;
        }
    }

    /// This mount has changed a name, or may have.
    pub(crate) fn changed(&self, directory: InodeId, name: &[u8]) {
        let mut inner = self.inner.lock();
        inner.versions += 1;
        let version = inner.versions;
        if let Some(watched) = inner.directories.peek_mut(&directory) {
            watched.version = version;
            let removed = watched.names.remove(name).is_some();
            inner.names -= usize::from(removed);
        }
    }

    /// The lease on a name is recalled.
    pub(crate) fn forget(&self, directory: InodeId, name: &[u8]) {
        self.changed(directory, name);
    }

    /// The leases on all names of a directory are recalled.
    pub(crate) fn forget_all(&self, directory: InodeId) {
        let mut inner = self.inner.lock();
        if let Some(evicted) = inner.directories.pop(&directory) {
            inner.names -= evicted.names.len();
        }
    }

    /// Every lease is gone.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.directories.clear();
        inner.names = 0;
    }
}

impl Inner {
    fn watch(&mut self, directory: InodeId, version: u64) -> &mut Directory {
        if !self.directories.contains(&directory) {
            let watched = Directory {
                names: HashMap::new(),
                version,
                lookups: 0,
                reading: false,
                lost: 0,
                cookie: Some(0),
                began: Instant::now(),
            };
            if let Some((_, evicted)) = self.directories.push(directory, watched) {
                self.names -= evicted.names.len();
            }
        }
        self.directories
            .get_mut(&directory)
            .expect("it is there by now")
    }

    fn shrink(&mut self) {
        while self.names > NAMES_MAX {
            let Some((_, evicted)) = self.directories.pop_lru() else {
                return;
            };
            self.names -= evicted.names.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: InodeId = InodeId(7);
    const LEASE: Duration = Duration::from_secs(60);

    fn look_up(cache: &NameCache, times: u32) -> Option<WantedPage> {
        let mut pages = (0..times).filter_map(|_| cache.looked_up(DIRECTORY));
        let page = pages.next();
        assert_eq!(pages.next(), None);
        page
    }

    fn learn(cache: &NameCache, page: WantedPage, names: &[&'static [u8]], next: Option<u64>) {
        let read = names.iter().map(|&name| ReadName {
            name,
            inode: InodeId(u64::from(name[0])),
            validity: LEASE,
        });
        cache.learn(page, read, next);
    }

    fn knows(cache: &NameCache, name: &[u8]) -> bool {
        cache.find(DIRECTORY, name).is_some()
    }

    #[test]
    fn pages_are_read_one_at_a_time_and_only_while_names_are_looked_up() {
        let cache = NameCache::new();
        assert_eq!(look_up(&cache, LOOKUPS_TO_BEGIN - 1), None);
        let page = look_up(&cache, 1).unwrap();
        assert_eq!(page.cookie, 0);
        assert_eq!(look_up(&cache, 3 * LOOKUPS_PER_PAGE), None);
        learn(&cache, page, &[b"a", b"b"], Some(5));
        let page = look_up(&cache, 1).unwrap();
        assert_eq!(page.cookie, 5);
        learn(&cache, page, &[b"c"], None);
        assert_eq!(look_up(&cache, 3 * LOOKUPS_PER_PAGE), None);
        let (inode, left) = cache.find(DIRECTORY, b"c").unwrap();
        assert_eq!(inode, InodeId(u64::from(b'c')));
        assert!(left <= LEASE);
        assert!(knows(&cache, b"a") && !knows(&cache, b"d"));
    }

    #[test]
    fn changed_and_recalled_names_are_not_known() {
        let cache = NameCache::new();
        let page = look_up(&cache, LOOKUPS_TO_BEGIN).unwrap();
        learn(&cache, page, &[b"a", b"b", b"c"], None);
        cache.changed(DIRECTORY, b"a");
        cache.forget(DIRECTORY, b"b");
        assert!(!knows(&cache, b"a") && !knows(&cache, b"b") && knows(&cache, b"c"));
    }

    #[test]
    fn page_from_before_a_change_is_not_kept() {
        let cache = NameCache::new();
        let page = look_up(&cache, LOOKUPS_TO_BEGIN).unwrap();
        cache.changed(DIRECTORY, b"other");
        learn(&cache, page, &[b"a"], None);
        assert!(!knows(&cache, b"a"));
        // It is asked for again.
        assert_eq!(look_up(&cache, 2 * LOOKUPS_TO_BEGIN - 1), None);
        let again = look_up(&cache, 1).unwrap();
        learn(&cache, again, &[b"a"], None);
        assert!(knows(&cache, b"a"));
    }

    #[test]
    fn page_that_could_not_be_read_is_asked_for_again() {
        let cache = NameCache::new();
        let page = look_up(&cache, LOOKUPS_TO_BEGIN).unwrap();
        cache.give_up(page);
        let again = look_up(&cache, LOOKUPS_TO_BEGIN).unwrap();
        assert_eq!(again.cookie, 0);
    }

    #[test]
    fn names_without_a_lease_are_not_kept() {
        let cache = NameCache::new();
        let page = look_up(&cache, LOOKUPS_TO_BEGIN).unwrap();
        let unleased = ReadName {
            name: b"a",
            inode: InodeId(1),
            validity: Duration::ZERO,
        };
        cache.learn(page, std::iter::once(unleased), None);
        assert!(!knows(&cache, b"a"));
    }

    #[test]
    fn no_more_names_are_held_than_the_bound_allows() {
        let cache = NameCache::new();
        for directory in 0..5 {
            let directory = InodeId(directory);
            let wanted = (0..LOOKUPS_TO_BEGIN).filter_map(|_| cache.looked_up(directory));
            let page = wanted.last().unwrap();
            let names: Vec<_> = (0..NAMES_MAX / 2).map(|at| at.to_string()).collect();
            let read = names.iter().map(|name| ReadName {
                name: name.as_bytes(),
                inode: InodeId(1),
                validity: LEASE,
            });
            cache.learn(page, read, None);
            assert!(cache.inner.lock().names <= NAMES_MAX);
        }
        assert!(cache.find(InodeId(0), b"1").is_none());
        assert!(cache.find(InodeId(4), b"1").is_some());
    }
}
