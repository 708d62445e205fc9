//! Listings that the kernel keeps, in pages of directories (FOPEN_CACHE_DIR).
//!
//! Through handles that were opened for it, the kernel keeps the names that it is told, and once it is
//! told where they end it answers from them: for all such handles, and without a limit of time. Changes
//! made through this mount it minds itself, others it does not hear of. So
//!
//! - the end is told as such only where every answer to every such handle was leased, without a break;
//! - when the lease is over, the pages are dropped: before its recall is acknowledged, and before it
//!   lapses.
//!
//! An answer may be on its way into the pages while these are dropped. So handles that were open when a
//! lease ended count as *distrusted*: as long as there are any, no end is told and no other handle is
//! opened for keeping; when the last of them is closed, the pages are dropped once more.
//!
//! Called while no recall can begin, or from within one; locks nothing else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pocket_proto::InodeId;

use crate::DirectoryEnd;

/// Directories at once; the kernel keeps no others. Some 5 MB.
const DIRECTORIES_MAX: usize = 65_536;
/// Where a listing was not leased, the kernel is not asked to keep it before one was, or so much time
/// has passed: as long as the metadata server leases none after a change by another mount.
const UNLEASED_FOR: Duration = Duration::from_secs(3);

/// A name that is kept does not bring its attributes. Where the kernel looks up so many names through
/// [`KernelListings::looked_up`], its programs want them, and it is better told both at once.
const LOOKUPS_MAX: u32 = 64;
/// For so long, then.
const LOOKED_UP_FOR: Duration = Duration::from_secs(60);

/// How many leases of a directory had ended when a handle was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Era(u64);

/// See the module.
#[derive(Default)]
pub(crate) struct KernelListings {
    directories: Mutex<HashMap<InodeId, Directory>>,
}

#[derive(Default)]
struct Directory {
    /// Leases that have ended.
    era: u64,
    leased_until: Option<Instant>,
    /// When it was last found to be without a lease.
    unleased: Option<Instant>,
    /// Open handles of this era, through which the kernel keeps what it is told.
    trusted: usize,
    /// The same, of earlier eras.
    distrusted: usize,
    /// Drops of its pages that are under way.
    dropping: usize,
    /// A drop of its pages is due.
    stale: bool,
    /// Names looked up since it was last opened for keeping.
    lookups: u32,
    /// Since when its names are better told with attributes.
    looked_up: Option<Instant>,
}

impl KernelListings {
    /// A directory is opened. Answers whether the kernel is to keep its names; what it answers is then
    /// to be handed to [`KernelListings::release`].
    pub(crate) fn open(&self, directory: InodeId) -> Option<Era> {
        let mut directories = self.directories.lock();
        if directories.len() >= DIRECTORIES_MAX && !directories.contains_key(&directory) {
            return None;
        }
        let opened = directories.entry(directory).or_default();
        let now = Instant::now();
        if opened.lookups >= LOOKUPS_MAX {
            opened.looked_up = Some(now);
        }
        opened.lookups = 0;
        let known = match opened.leased_until {
            Some(until) => until > now,
            None => opened.unleased.is_none(),
        };
        if !known || !opened.is_clean() || opened.is_looked_up(now) {
            return None;
        }
        opened.trusted += 1;
        Some(Era(opened.era))
    }

    /// The kernel is about to be told names through a handle of this era, if it keeps them, which are
    /// leased for `left`. Answers what it is to be told if there are none.
    pub(crate) fn told(
        &self,
        directory: InodeId,
        era: Option<Era>,
        left: Duration,
    ) -> DirectoryEnd {
        let mut directories = self.directories.lock();
        let Some(told) = directories.get_mut(&directory) else {
            return DirectoryEnd::Certain;
        };
        let now = Instant::now();
        let lapsed = told.leased_until.is_some_and(|until| until <= now);
        if !lapsed && !left.is_zero() && told.is_clean() {
            told.leased_until = told.leased_until.max(Some(now + left));
        }
        if left.is_zero() && era == Some(Era(told.era)) {
            told.stale |= told.leased_until.is_some();
            told.end(now);
        }
        match era {
            Some(era) if lapsed || era != Era(told.era) => DirectoryEnd::Passing,
            _ => DirectoryEnd::Certain,
        }
    }

    /// The kernel looked up a name.
    pub(crate) fn looked_up(&self, directory: InodeId) {
        if let Some(held) = self.directories.lock().get_mut(&directory) {
            held.lookups = held.lookups.saturating_add(1);
        }
    }

    /// The lease on a directory's names is over. True if the kernel may have pages of it: these are to
    /// be dropped, and [`KernelListings::dropped`] is to follow.
    #[must_use]
    pub(crate) fn end(&self, directory: InodeId) -> bool {
        let mut directories = self.directories.lock();
        match directories.get_mut(&directory) {
            Some(ended) if !ended.is_idle() => {
                ended.end(Instant::now());
                ended.begin_drop();
                true
            }
            _ => false,
        }
    }

    /// Every lease is over. Answers the directories of which pages are to be dropped; see
    /// [`KernelListings::end`].
    #[must_use]
    pub(crate) fn end_all(&self) -> Vec<InodeId> {
        self.end_those(Directory::may_be_kept)
    }

    /// As [`KernelListings::end_all`], where the lease lapses within `margin`, or ended without a word.
    /// To be called more often than that.
    #[must_use]
    pub(crate) fn end_lapsing(&self, margin: Duration) -> Vec<InodeId> {
        let now = Instant::now();
        let ending = self.end_those(|held| {
            let until = held.leased_until;
            held.stale || until.is_some_and(|until| until <= now + margin)
        });
        self.directories.lock().retain(|_, held| {
            let unleased = held.unleased;
            let is_unleased = unleased.is_some_and(|since| now < since + UNLEASED_FOR);
            !held.is_idle() || is_unleased || held.is_looked_up(now)
        });
        ending
    }

    /// The kernel's pages of it are gone.
    pub(crate) fn dropped(&self, directory: InodeId) {
        if let Some(held) = self.directories.lock().get_mut(&directory) {
            held.dropping = held.dropping.saturating_sub(1);
        }
    }

    /// A handle of this era was closed. True as of [`KernelListings::end`].
    #[must_use]
    pub(crate) fn release(&self, directory: InodeId, era: Era) -> bool {
        let mut directories = self.directories.lock();
        let Some(held) = directories.get_mut(&directory) else {
            return false;
        };
        if era == Era(held.era) {
            held.trusted = held.trusted.saturating_sub(1);
            if held.is_idle() && held.unleased.is_none() && held.looked_up.is_none() {
                directories.remove(&directory);
            }
            return false;
        }
        held.distrusted = held.distrusted.saturating_sub(1);
        let last = held.distrusted == 0;
        if last {
            held.begin_drop();
        }
        last
    }

    fn end_those(&self, fits: impl Fn(&Directory) -> bool) -> Vec<InodeId> {
        let now = Instant::now();
        let mut directories = self.directories.lock();
        let ending = directories.iter_mut().filter(|(_, held)| fits(held));
        let ending = ending.map(|(directory, held)| {
            held.end(now);
            held.begin_drop();
            *directory
        });
        ending.collect()
    }
}

impl Directory {
    fn end(&mut self, now: Instant) {
        self.era += 1;
        self.distrusted += std::mem::take(&mut self.trusted);
        self.leased_until = None;
        self.unleased = Some(now);
    }

    fn begin_drop(&mut self) {
        self.dropping += 1;
        self.stale = false;
    }

    /// What the kernel has in its pages is of this era.
    fn is_clean(&self) -> bool {
        self.distrusted == 0 && self.dropping == 0 && !self.stale
    }

    fn is_looked_up(&self, now: Instant) -> bool {
        self.looked_up
            .is_some_and(|since| now < since + LOOKED_UP_FOR)
    }

    /// The kernel may have pages of it that nobody is about to drop.
    fn may_be_kept(&self) -> bool {
        self.stale || self.trusted > 0 || self.leased_until.is_some()
    }

    /// The kernel has nothing of it, and gets nothing.
    fn is_idle(&self) -> bool {
        self.is_clean() && self.trusted == 0 && self.leased_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: InodeId = InodeId(7);
    const LEASE: Duration = Duration::from_secs(60);
    const NO_LEASE: Duration = Duration::ZERO;

    #[test]
    fn a_leased_listing_is_kept_and_opened_for_keeping_again() {
        let listings = KernelListings::default();
        let first = listings.open(DIRECTORY);
        assert!(first.is_some());
        assert_eq!(
            listings.told(DIRECTORY, first, LEASE),
            DirectoryEnd::Certain
        );
        let second = listings.open(DIRECTORY);
        assert_eq!(second, first);
        assert!(!listings.release(DIRECTORY, first.unwrap()));
        assert!(!listings.release(DIRECTORY, second.unwrap()));
        assert_eq!(listings.open(DIRECTORY), first);
    }

    #[test]
    fn what_is_not_leased_has_no_end_and_is_not_kept_until_it_is() {
        let listings = KernelListings::default();
        let kept = listings.open(DIRECTORY);
        assert_eq!(
            listings.told(DIRECTORY, kept, NO_LEASE),
            DirectoryEnd::Passing
        );
        // Its first answer may be in the kernel's pages.
        assert_eq!(listings.told(DIRECTORY, kept, LEASE), DirectoryEnd::Passing);
        assert_eq!(listings.open(DIRECTORY), None);
        assert_eq!(listings.told(DIRECTORY, None, LEASE), DirectoryEnd::Certain);
        assert_eq!(listings.open(DIRECTORY), None);
        assert!(listings.release(DIRECTORY, kept.unwrap()));
        // Until its pages are dropped, and a listing was leased.
        assert_eq!(listings.told(DIRECTORY, None, LEASE), DirectoryEnd::Certain);
        listings.dropped(DIRECTORY);
        assert_eq!(listings.open(DIRECTORY), None);
        assert_eq!(listings.told(DIRECTORY, None, LEASE), DirectoryEnd::Certain);
        let again = listings.open(DIRECTORY);
        assert!(again.is_some() && again != kept);
        assert_eq!(
            listings.told(DIRECTORY, again, LEASE),
            DirectoryEnd::Certain
        );
    }

    #[test]
    fn handles_from_before_the_end_of_a_lease_are_distrusted_until_the_last_is_closed() {
        let listings = KernelListings::default();
        let (one, other) = (listings.open(DIRECTORY), listings.open(DIRECTORY));
        assert_eq!(listings.told(DIRECTORY, one, LEASE), DirectoryEnd::Certain);
        assert!(listings.end(DIRECTORY));
        listings.dropped(DIRECTORY);
        for handle in [one, other] {
            assert_eq!(listings.open(DIRECTORY), None);
            assert_eq!(
                listings.told(DIRECTORY, handle, LEASE),
                DirectoryEnd::Passing
            );
        }
        assert!(!listings.release(DIRECTORY, one.unwrap()));
        assert!(listings.release(DIRECTORY, other.unwrap()));
    }

    #[test]
    fn pages_are_dropped_before_a_lease_lapses() {
        let listings = KernelListings::default();
        let kept = listings.open(DIRECTORY);
        assert_eq!(listings.told(DIRECTORY, kept, LEASE), DirectoryEnd::Certain);
        assert_eq!(listings.end_lapsing(LEASE / 2), []);
        assert_eq!(listings.end_lapsing(LEASE * 2), [DIRECTORY]);
        assert_eq!(listings.end_lapsing(LEASE * 2), []);
    }

    #[test]
    fn a_directory_in_which_many_names_are_looked_up_is_not_kept() {
        let listings = KernelListings::default();
        let look_up = |times| (0..times).for_each(|_| listings.looked_up(DIRECTORY));
        let kept = listings.open(DIRECTORY);
        assert_eq!(listings.told(DIRECTORY, kept, LEASE), DirectoryEnd::Certain);
        look_up(LOOKUPS_MAX - 1);
        assert_eq!(listings.open(DIRECTORY), kept);
        look_up(LOOKUPS_MAX);
        assert_eq!(listings.open(DIRECTORY), None);
        assert_eq!(listings.open(DIRECTORY), None);
    }

    #[test]
    fn nothing_is_remembered_of_what_is_not_kept() {
        let listings = KernelListings::default();
        let unread = listings.open(DIRECTORY).unwrap();
        assert!(!listings.release(DIRECTORY, unread));
        assert!(!listings.end(DIRECTORY));
        for number in 0..DIRECTORIES_MAX as u64 {
            assert!(listings.open(InodeId(number)).is_some());
        }
        assert_eq!(listings.open(InodeId(u64::MAX)), None);
    }
}
