//! Leases on names, by directory, and which directories are contended.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pocket_proto::{InodeId, SessionId};
use tokio::time::Instant;

use super::Holder;
use crate::limits::CONTENTION_WINDOW;
use crate::namespace::IdHasher;

/// By directory. An entry is there exactly while the queue of due times names it.
#[derive(Debug, Default)]
pub(super) struct NameLeases(HashMap<InodeId, Directory, BuildHasherDefault<IdHasher>>);

#[derive(Debug, Default)]
struct Directory {
    holders: Vec<Lease>,
    last_change: Option<(SessionId, Instant)>,
    contended_until: Option<Instant>,
}

/// Some names of a directory, leased by one session.
#[derive(Debug)]
struct Lease {
    holder: Holder,
    names: NameFilter,
}

impl NameLeases {
    /// True if the directory had no entry before.
    pub(super) fn grant(
        &mut self,
        directory: InodeId,
        name: &[u8],
        session: SessionId,
        now: Instant,
        expires: Instant,
    ) -> bool {
        let (entry, is_new) = self.entry(directory);
        let mut holders = entry.holders.iter_mut();
        match holders.find(|lease| lease.holder.session == session) {
            Some(lease) => {
                if lease.holder.expires <= now {
                    lease.names = NameFilter::default();
                }
                lease.holder.expires = lease.holder.expires.max(expires);
                lease.names.add(name);
            }
            None => {
                let mut names = NameFilter::default();
                names.add(name);
                let holder = Holder { session, expires };
                entry.holders.push(Lease { holder, names });
            }
        }
        is_new
    }

    /// Until when the session holds names of the directory.
    pub(super) fn held_until(
        &self,
        directory: InodeId,
        session: SessionId,
        now: Instant,
    ) -> Option<Instant> {
        let holders = &self.0.get(&directory)?.holders;
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
        let bit = NameFilter::bit(name);
        let entry = self.0.get(&directory).into_iter();
        entry
            .flat_map(|entry| &entry.holders)
            .filter(move |lease| {
                let holder = lease.holder;
                holder.session != except && holder.expires > now && lease.names.may_have(bit)
            })
            .map(|lease| lease.holder)
    }

    pub(super) fn is_contended(&self, directory: InodeId, now: Instant) -> bool {
        let entry = self.0.get(&directory);
        entry.is_some_and(|entry| entry.contended_until.is_some_and(|until| until > now))
    }

    /// Notes a change by `session`. Returns when the entry is due, if it is a new one.
    pub(super) fn changed(
        &mut self,
        directory: InodeId,
        session: SessionId,
        now: Instant,
    ) -> Option<Instant> {
        let (entry, is_new) = self.entry(directory);
        if let Some((last, at)) = entry.last_change
            && last != session
            && at + CONTENTION_WINDOW > now
        {
            entry.contended_until = Some(now + CONTENTION_WINDOW);
        }
        entry.last_change = Some((session, now));
        is_new.then(|| now + CONTENTION_WINDOW)
    }

    /// Drops what holders there are; the entry stays until it is due.
    pub(super) fn forget(&mut self, directory: InodeId) {
        if let Some(entry) = self.0.get_mut(&directory) {
            *entry = Directory::default();
        }
    }

    /// Takes the entry out, or says when it is due again.
    pub(super) fn sweep(&mut self, directory: InodeId, now: Instant) -> Option<Instant> {
        let entry = self.0.get_mut(&directory)?;
        entry.holders.retain(|lease| lease.holder.expires > now);
        let held = entry.holders.iter().map(|lease| lease.holder.expires).max();
        let changed = entry.last_change.map(|(_, at)| at + CONTENTION_WINDOW);
        let due = held.max(changed).max(entry.contended_until);
        let due = due.filter(|&due| due > now);
        if due.is_none() {
            self.0.remove(&directory);
        }
        due
    }

    fn entry(&mut self, directory: InodeId) -> (&mut Directory, bool) {
        let mut is_new = false;
        let entry = self.0.entry(directory).or_insert_with(|| {
            is_new = true;
            Directory::default()
        });
        (entry, is_new)
    }
}

/// Which names a session may hold: a Bloom filter of one hash. Saves recalls of names that it
/// never asked for; a few hundred names fill it, and then all are recalled.
#[derive(Clone, Copy, Debug, Default)]
struct NameFilter([u64; 4]);

impl NameFilter {
    fn bit(name: &[u8]) -> u8 {
        // FNV-1a, folded to a byte.
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        (hash ^ (hash >> 32)).to_le_bytes()[1]
    }

    fn add(&mut self, name: &[u8]) {
        let bit = NameFilter::bit(name);
        self.0[usize::from(bit >> 6)] |= 1 << (bit & 63);
    }

    fn may_have(&self, bit: u8) -> bool {
        self.0[usize::from(bit >> 6)] & (1 << (bit & 63)) != 0
    }
}
