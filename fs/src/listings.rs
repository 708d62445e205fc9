//! Listings of directories that this mount may answer from.
//!
//! The metadata server leases what it lists: as long as the lease runs, no name comes or goes
//! without a recall of it ([`Listings::forget`]), nor without this mount's own doing
//! ([`Listings::forget`] again). Names only: attributes come from the inode cache.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;
use pocket_proto::InodeId;
use pocket_proto::session::DirectoryEntry;

/// Directories at once; the one not listed for longest goes first.
const DIRECTORIES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Entries held, of all directories: some 8 MB.
const ENTRIES_MAX: usize = 65_536;

/// Entries of a directory behind a cookie, in the directory's order.
pub(crate) struct Page {
    /// The cookie behind which the page begins.
    pub(crate) behind: u64,
    pub(crate) with_attributes: bool,
    pub(crate) entries: Vec<DirectoryEntry>,
    /// There is nothing behind these.
    pub(crate) end: bool,
    /// The lease on it, from when it was asked for; 0: not to be cached.
    pub(crate) valid_ms: u32,
}

impl Page {
    /// Index of the first entry behind `cookie`, if the page has one or knows that there is none.
    pub(crate) fn position(&self, cookie: u64) -> Option<usize> {
        let index = if cookie == self.behind {
            0
        } else {
            let at = self
                .entries
                .iter()
                .position(|entry| entry.cookie == cookie)?;
            at + 1
        };
        (index < self.entries.len() || self.end).then_some(index)
    }

    /// The cookie behind which the next page begins.
    fn next(&self) -> u64 {
        let last = self.entries.last();
        last.map_or(self.behind, |entry| entry.cookie)
    }

    /// Whether each of the names may be cached for as long as the list of them.
    fn has_leased_names(&self) -> bool {
        let mut entries = self.entries.iter().filter(|listed| !is_dot(listed));
        entries.all(|listed| {
            let entry = listed.entry.as_ref();
            entry.is_some_and(|entry| entry.name_valid_ms >= self.valid_ms)
        })
    }

    fn without_attributes(&self) -> Page {
        let entries = self.entries.iter().map(|listed| DirectoryEntry {
            entry: None,
            ..listed.clone()
        });
        Page {
            behind: self.behind,
            with_attributes: false,
            entries: entries.collect(),
            ..*self
        }
    }
}

/// Whether this is the directory itself or the one above it.
pub(crate) fn is_dot(listed: &DirectoryEntry) -> bool {
    matches!(&*listed.name, b"." | b"..")
}

/// A page found, without attributes.
pub(crate) struct Found {
    pub(crate) page: Arc<Page>,
    /// Index of the first entry behind the cookie asked for.
    pub(crate) from: usize,
    /// For how long it is leased.
    pub(crate) left: Duration,
    /// Each of its names is leased, too.
    pub(crate) has_leased_names: bool,
}

/// See the module.
pub(crate) struct Listings {
    inner: Mutex<Inner>,
}

struct Inner {
    directories: LruCache<InodeId, Listing>,
    entries: usize,
}

/// The pages of a directory from its start on, without a gap.
struct Listing {
    pages: Vec<KeptPage>,
    valid_until: Instant,
}

struct KeptPage {
    page: Arc<Page>,
    has_leased_names: bool,
}

impl Listings {
    pub(crate) fn new() -> Self {
        Listings {
            inner: Mutex::new(Inner {
                directories: LruCache::new(DIRECTORIES_MAX),
                entries: 0,
            }),
        }
    }

    /// Keeps a page whose lease runs for `left`, unless `is_late`: this mount has changed something
    /// since it asked.
    pub(crate) fn keep(
        &self,
        directory: InodeId,
        page: &Arc<Page>,
        left: Duration,
        is_late: impl FnOnce() -> bool,
    ) {
        if left.is_zero() {
            return;
        }
        let valid_until = Instant::now() + left;
        let mut inner = self.inner.lock();
        // Looked at under the lock: a change is noted before the listing is forgotten.
        if is_late() {
            return;
        }
        let kept = KeptPage {
            page: match page.with_attributes {
                true => Arc::new(page.without_attributes()),
                false => Arc::clone(page),
            },
            has_leased_names: page.has_leased_names(),
        };
        if page.behind == 0 {
            inner.forget(directory);
            let listing = Listing {
                pages: vec![],
                valid_until,
            };
            if let Some((_, evicted)) = inner.directories.push(directory, listing) {
                inner.entries -= evicted.entries();
            }
        }
        let Some(listing) = inner.directories.get_mut(&directory) else {
            return;
        };
        let last = listing.pages.last();
        if last.map_or(0, |last| last.page.next()) != page.behind {
            return;
        }
        listing.valid_until = listing.valid_until.min(valid_until);
        listing.pages.push(kept);
        inner.entries += page.entries.len();
        inner.shrink();
    }

    /// The entries behind a cookie, if they are known.
    pub(crate) fn find(&self, directory: InodeId, cookie: u64) -> Option<Found> {
        let mut inner = self.inner.lock();
        let listing = inner.directories.get(&directory)?;
        let left = listing
            .valid_until
            .saturating_duration_since(Instant::now());
        if left.is_zero() {
            inner.forget(directory);
            return None;
        }
        let behind = listing
            .pages
            .partition_point(|kept| kept.page.behind <= cookie);
        let kept = listing.pages.get(behind.checked_sub(1)?)?;
        Some(Found {
            page: Arc::clone(&kept.page),
            from: kept.page.position(cookie)?,
            left,
            has_leased_names: kept.has_leased_names,
        })
    }

    /// A name of the directory changed, or is about to.
    pub(crate) fn forget(&self, directory: InodeId) {
        self.inner.lock().forget(directory);
    }

    /// Every lease is gone.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.directories.clear();
        inner.entries = 0;
    }
}

impl Inner {
    fn forget(&mut self, directory: InodeId) {
        if let Some(listing) = self.directories.pop(&directory) {
            self.entries -= listing.entries();
        }
    }

    fn shrink(&mut self) {
        while self.entries > ENTRIES_MAX {
            let Some((_, evicted)) = self.directories.pop_lru() else {
                return;
            };
            self.entries -= evicted.entries();
        }
    }
}

impl Listing {
    fn entries(&self) -> usize {
        self.pages.iter().map(|kept| kept.page.entries.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::session::Entry;

    use super::*;

    const DIRECTORY: InodeId = InodeId(7);
    const LEASE: Duration = Duration::from_secs(60);

    fn page(behind: u64, cookies: std::ops::RangeInclusive<u64>, end: bool) -> Arc<Page> {
        let entries = cookies.map(|cookie| DirectoryEntry {
            name: format!("f{cookie}").into(),
            cookie,
            ..DirectoryEntry::default()
        });
        Arc::new(Page {
            behind,
            with_attributes: false,
            entries: entries.collect(),
            end,
            valid_ms: 60_000,
        })
    }

    fn keep(listings: &Listings, page: &Arc<Page>) {
        listings.keep(DIRECTORY, page, LEASE, || false);
    }

    fn first_behind(listings: &Listings, cookie: u64) -> Option<u64> {
        let found = listings.find(DIRECTORY, cookie)?;
        let entry = found.page.entries.get(found.from);
        Some(entry.map_or(0, |entry| entry.cookie))
    }

    #[test]
    fn pages_follow_one_another() {
        let listings = Listings::new();
        keep(&listings, &page(0, 1..=5, false));
        assert_eq!(first_behind(&listings, 5), None);
        keep(&listings, &page(5, 6..=9, true));
        for cookie in 0..9 {
            assert_eq!(first_behind(&listings, cookie), Some(cookie + 1));
        }
        // The end is known, too.
        assert_eq!(first_behind(&listings, 9), Some(0));
        assert_eq!(first_behind(&listings, 10), None);
    }

    #[test]
    fn page_behind_a_gap_is_not_kept() {
        let listings = Listings::new();
        keep(&listings, &page(5, 6..=9, true));
        assert_eq!(first_behind(&listings, 5), None);
        keep(&listings, &page(0, 1..=3, false));
        keep(&listings, &page(5, 6..=9, true));
        assert_eq!(first_behind(&listings, 5), None);
        assert_eq!(first_behind(&listings, 2), Some(3));
    }

    #[test]
    fn what_changed_or_lapsed_is_not_known() {
        let listings = Listings::new();
        keep(&listings, &page(0, 1..=3, true));
        listings.forget(DIRECTORY);
        assert_eq!(first_behind(&listings, 0), None);
        listings.keep(DIRECTORY, &page(0, 1..=3, true), LEASE, || true);
        assert_eq!(first_behind(&listings, 0), None);
        let no_more = Duration::from_nanos(1);
        listings.keep(DIRECTORY, &page(0, 1..=3, true), no_more, || false);
        assert_eq!(first_behind(&listings, 0), None);
        assert_eq!(listings.inner.lock().entries, 0);
    }

    #[test]
    fn names_are_leased_if_each_of_them_is() {
        for (shortest, has_leased_names) in [(60_000, true), (59_999, false)] {
            let listings = Listings::new();
            let mut listed = page(0, 1..=3, true);
            let named = Arc::get_mut(&mut listed).unwrap();
            named.with_attributes = true;
            for (entry, valid_ms) in named.entries.iter_mut().zip([70_000, shortest, 60_000]) {
                entry.entry = Some(Entry {
                    name_valid_ms: valid_ms,
                    ..Entry::default()
                });
            }
            keep(&listings, &listed);
            let found = listings.find(DIRECTORY, 0).unwrap();
            assert_eq!(found.has_leased_names, has_leased_names);
            assert!(found.page.entries.iter().all(|entry| entry.entry.is_none()));
        }
        let listings = Listings::new();
        keep(&listings, &page(0, 1..=3, true));
        assert!(!listings.find(DIRECTORY, 0).unwrap().has_leased_names);
    }

    #[test]
    fn no_more_entries_are_held_than_the_bound_allows() {
        let listings = Listings::new();
        for directory in 0..5 {
            let listed = page(0, 1..=ENTRIES_MAX as u64 / 2, true);
            listings.keep(InodeId(directory), &listed, LEASE, || false);
            assert!(listings.inner.lock().entries <= ENTRIES_MAX);
        }
        assert!(listings.find(InodeId(0), 0).is_none());
        assert!(listings.find(InodeId(4), 0).is_some());
    }
}
