//! Leases on names, by directory: of some names to many sessions, or of all to one alone.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::time::Duration;

use pocket_proto::{InodeId, SessionId};
use tokio::time::Instant;

use super::tally::{Part, Tally};
use super::{Grantee, Holder};
use crate::limits::{CONTENTION_WINDOW, NAMES_REMEMBERED_MAX};
use crate::namespace::IdHasher;

/// Names recalled from a session that may hold all of a directory before it is asked for all.
const RECALLED_ONE_BY_ONE: u32 = 4;
/// Changes in a row by one session before it is given a directory for itself: recalling it costs
/// whoever comes next a round trip.
const EXCLUSIVE_AFTER: u32 = 4;
/// A directory that one session has to itself is looked at again after this.
const EXCLUSIVE_SWEEP: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct NameLeases {
    /// An entry is there exactly while the queue of due times names it.
    by_directory: HashMap<InodeId, Directory, BuildHasherDefault<IdHasher>>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Directory {
    /// In the order of their sessions: there may be thousands.
    holders: Vec<Lease>,
    /// The session that may change names without asking, and while it does holds all of them.
    exclusive: Option<SessionId>,
    last_change: Option<(SessionId, Instant)>,
    /// Changes in a row by the session of the last one.
    streak: u32,
    /// Not leased to one alone before this.
    shared_until: Option<Instant>,
    contended_until: Option<Instant>,
}

/// Some names of a directory, leased by one session.
#[derive(Debug)]
struct Lease {
    holder: Holder,
    names: Names,
    /// It may list the directory without asking; recalls sent to it before it was told so.
    listing: Option<u64>,
    /// Recalls sent to the holder before its newest name.
    recalls: u64,
    /// Names recalled one by one since all were leased.
    recalled: u32,
    /// One for itself, and one for each name.
    part: Part,
}

impl Directory {
    /// The session's lease, which runs until `expires` at least.
    fn lease(
        &mut self,
        session: SessionId,
        now: Instant,
        expires: Instant,
        tally: &Tally,
    ) -> &mut Lease {
        let of = |lease: &Lease| lease.holder.session;
        let at = match self.holders.binary_search_by_key(&session, of) {
            Ok(at) => at,
            Err(at) => {
                self.holders.insert(at, Lease::new(session, expires, tally));
                at
            }
        };
        let lease = &mut self.holders[at];
        if lease.holder.expires <= now {
            *lease = Lease::new(session, expires, tally);
        }
        lease.holder.expires = lease.holder.expires.max(expires);
        lease
    }
}

impl Lease {
    fn new(session: SessionId, expires: Instant, tally: &Tally) -> Self {
        let mut part = tally.part();
        part.set(1);
        Lease {
            holder: Holder { session, expires },
            names: Names::default(),
            listing: None,
            recalls: 0,
            recalled: 0,
            part,
        }
    }

    fn add(&mut self, name: &[u8]) {
        self.names.add(name);
        self.part.set(1 + self.names.remembered());
    }

    fn hold_all(&mut self) {
        self.names = Names::All;
        self.part.set(1);
    }

    /// Whether its holder has to hear of a change of the name of this hash.
    fn covers(&self, hash: u32) -> bool {
        self.listing.is_some() || self.names.may_have(hash)
    }
}

impl NameLeases {
    /// True if the directory had no entry before.
    pub(super) fn grant(
        &mut self,
        directory: InodeId,
        name: &[u8],
        to: Grantee,
        now: Instant,
        expires: Instant,
    ) -> bool {
        let (entry, is_new, tally) = self.entry(directory);
        let lease = entry.lease(to.session, now, expires, tally);
        lease.recalls = to.recalls;
        lease.add(name);
        is_new
    }

    /// Leases the list of names: that there are no others. Not where another session changed one a
    /// moment ago, which would have it recalled with each change: `None`. Else as
    /// [`NameLeases::grant`].
    pub(super) fn grant_listing(
        &mut self,
        directory: InodeId,
        to: Grantee,
        now: Instant,
        expires: Instant,
    ) -> Option<bool> {
        let (entry, is_new, tally) = self.entry(directory);
        let changing = entry
            .last_change
            .is_some_and(|(session, at)| session != to.session && at + CONTENTION_WINDOW > now);
        if changing {
            return None;
        }
        let lease = entry.lease(to.session, now, expires, tally);
        lease.listing = Some(to.recalls);
        Some(is_new)
    }

    /// The session has dropped the list of names, as its recall of number `recall` asked, unless it
    /// was given another since.
    pub(super) fn drop_listing(&mut self, directory: InodeId, session: SessionId, recall: u64) {
        let Some(entry) = self.by_directory.get_mut(&directory) else {
            return;
        };
        let before = |listing: u64| listing < recall;
        for lease in &mut entry.holders {
            if lease.holder.session == session && lease.listing.is_some_and(before) {
                lease.listing = None;
            }
        }
        entry
            .holders
            .retain(|lease| lease.listing.is_some() || !lease.names.is_empty());
    }

    /// Notes that the session is asked to drop a name. True if it is better asked to drop all: it
    /// may hold any, and was asked for one after the other.
    pub(super) fn note_recall(&mut self, directory: InodeId, session: SessionId) -> bool {
        let holders = self
            .by_directory
            .get_mut(&directory)
            .map(|entry| &mut entry.holders);
        let mut holders = holders.into_iter().flatten();
        let Some(lease) = holders.find(|lease| lease.holder.session == session) else {
            return false;
        };
        lease.recalled += 1;
        matches!(lease.names, Names::All) && lease.recalled > RECALLED_ONE_BY_ONE
    }

    /// The session has dropped all names, as its recall of number `recall` asked, unless it was
    /// given one since.
    pub(super) fn drop_before(&mut self, directory: InodeId, session: SessionId, recall: u64) {
        if let Some(entry) = self.by_directory.get_mut(&directory) {
            let newer = |lease: &Lease| lease.holder.session != session || lease.recalls >= recall;
            entry.holders.retain(newer);
        }
    }

    /// Leases all names to `session` alone if it made the directory or keeps changing it, unless
    /// others hold any, or shared it a moment ago. True, too, if it has them already. The second value is as of
    /// [`NameLeases::grant`].
    pub(super) fn grant_exclusive(
        &mut self,
        directory: InodeId,
        directory_is_new: bool,
        session: SessionId,
        now: Instant,
    ) -> (bool, bool) {
        let (entry, is_new, _) = self.entry(directory);
        let free = match entry.exclusive {
            Some(holder) => holder == session,
            None if !directory_is_new && entry.streak < EXCLUSIVE_AFTER => false,
            None => {
                let others =
                    |lease: &Lease| lease.holder.session != session && lease.holder.expires > now;
                let before = |until: Option<Instant>| until.is_some_and(|until| until > now);
                !entry.holders.iter().any(others)
                    && !before(entry.shared_until)
                    && !before(entry.contended_until)
            }
        };
        if free {
            entry.exclusive = Some(session);
        }
        (free, is_new)
    }

    /// Who has the directory to itself.
    pub(super) fn exclusive_holder(&self, directory: InodeId) -> Option<SessionId> {
        self.by_directory.get(&directory)?.exclusive
    }

    /// The session has the directory to itself no more; it may hold any of the names until
    /// `expires`, and nobody gets the directory alone for a while.
    pub(super) fn end_exclusive(
        &mut self,
        directory: InodeId,
        session: SessionId,
        now: Instant,
        expires: Instant,
    ) {
        let Some(entry) = self.by_directory.get_mut(&directory) else {
            return;
        };
        if entry.exclusive != Some(session) {
            return;
        }
        entry.exclusive = None;
        entry.shared_until = Some(now + CONTENTION_WINDOW);
        let lease = entry.lease(session, now, expires, &self.tally);
        lease.hold_all();
        lease.recalled = 0;
    }

    /// Until when the session holds names of the directory.
    pub(super) fn held_until(
        &self,
        directory: InodeId,
        session: SessionId,
        now: Instant,
    ) -> Option<Instant> {
        let holders = &self.by_directory.get(&directory)?.holders;
        let mut held = holders.iter().map(|lease| lease.holder);
        let held = held.find(|holder| holder.session == session)?;
        Some(held.expires).filter(|&expires| expires > now)
    }

    pub(super) fn holders(
        &self,
        directory: InodeId,
        name: &[u8],
        except: SessionId,
        now: Instant,
    ) -> impl Iterator<Item = Holder> {
        let hash = Names::hash(name);
        let entry = self.by_directory.get(&directory).into_iter();
        entry
            .flat_map(|entry| &entry.holders)
            .filter(move |lease| {
                let holder = lease.holder;
                holder.session != except && holder.expires > now && lease.covers(hash)
            })
            .map(|lease| lease.holder)
    }

    pub(super) fn is_contended(&self, directory: InodeId, now: Instant) -> bool {
        let entry = self.by_directory.get(&directory);
        entry.is_some_and(|entry| entry.contended_until.is_some_and(|until| until > now))
    }

    /// Notes a change by `session`. Returns when the entry is due, if it is a new one.
    pub(super) fn changed(
        &mut self,
        directory: InodeId,
        session: SessionId,
        now: Instant,
    ) -> Option<Instant> {
        let (entry, is_new, _) = self.entry(directory);
        let last = entry.last_change;
        match last.filter(|(_, at)| *at + CONTENTION_WINDOW > now) {
            Some((last, _)) if last == session => entry.streak += 1,
            Some(_) => {
                entry.contended_until = Some(now + CONTENTION_WINDOW);
                entry.streak = 1;
            }
            None => entry.streak = 1,
        }
        entry.last_change = Some((session, now));
        is_new.then(|| now + CONTENTION_WINDOW)
    }

    /// Drops what holders there are; the entry stays until it is due.
    pub(super) fn forget(&mut self, directory: InodeId) {
        if let Some(entry) = self.by_directory.get_mut(&directory) {
            *entry = Directory::default();
        }
    }

    /// Takes the entry out, or says when it is due again.
    pub(super) fn sweep(&mut self, directory: InodeId, now: Instant) -> Option<Instant> {
        let entry = self.by_directory.get_mut(&directory)?;
        entry.holders.retain(|lease| lease.holder.expires > now);
        let held = entry.holders.iter().map(|lease| lease.holder.expires).max();
        let changed = entry.last_change.map(|(_, at)| at + CONTENTION_WINDOW);
        let due = held.max(changed).max(entry.contended_until);
        let due = due.max(entry.shared_until).filter(|&due| due > now);
        if entry.exclusive.is_some() {
            return due.or(Some(now + EXCLUSIVE_SWEEP));
        }
        if due.is_none() {
            self.by_directory.remove(&directory);
        }
        due
    }

    /// How many there are, of all directories: one for each holder, and one for each name.
    pub(super) fn count(&self) -> usize {
        self.tally.get()
    }

    fn entry(&mut self, directory: InodeId) -> (&mut Directory, bool, &Tally) {
        let mut is_new = false;
        let entry = self.by_directory.entry(directory).or_insert_with(|| {
            is_new = true;
            Directory::default()
        });
        (entry, is_new, &self.tally)
    }
}

/// Which names a session may hold, by their hashes: two names of one hash are recalled together.
#[derive(Debug)]
enum Names {
    Some(HashSet<u32, BuildHasherDefault<IdHasher>>),
    All,
}

impl Default for Names {
    fn default() -> Self {
        Names::Some(HashSet::default())
    }
}

impl Names {
    fn hash(name: &[u8]) -> u32 {
        // FNV-1a, folded.
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        (hash ^ (hash >> 32)) as u32
    }

    fn add(&mut self, name: &[u8]) {
        if let Names::Some(hashes) = self {
            if hashes.len() < NAMES_REMEMBERED_MAX {
                hashes.insert(Names::hash(name));
            } else {
                *self = Names::All;
            }
        }
    }

    fn remembered(&self) -> usize {
        match self {
            Names::Some(hashes) => hashes.len(),
            Names::All => 0,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Names::Some(hashes) if hashes.is_empty())
    }

    fn may_have(&self, hash: u32) -> bool {
        match self {
            Names::Some(hashes) => hashes.contains(&hash),
            Names::All => true,
        }
    }
}
