//! Directories that this mount has to itself, and their names, present and absent, as it knows them.
//!
//! While the metadata server leases a directory to this mount alone, nobody else changes names in
//! it, so what is known of them stays true until this mount changes it or the server recalls the
//! lease ([`ExclusiveDirectories::give_back`]). That lets the mount answer lookups without asking,
//! and change names ahead of the server. Each lease has an era; what was made under one is known to
//! nobody else as long as it lasts ([`Owned`]).
//!
//! Everything here is called while no recall can begin (`Coherence::steady`).

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use pocket_proto::InodeId;
use pocket_proto::session::{Acls, Attributes, Entry, Time};

use crate::inode_cache::Tick;

/// Directories at once; one that is dropped is still this mount's for the server, and is used as
/// any other here.
const DIRECTORIES_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// Of more directories at a time it is not known whether the server has heard of what was done there.
const GIVEN_BACK_MAX: usize = 65_536;
/// Names held, of all directories: some 25 MB.
const NAMES_MAX: usize = 262_144;
/// Names looked up in vain in a directory before all of its names are read.
const MISSES_TO_READ: u32 = 4;
/// Directories with more names are not read whole.
const READ_NAMES_MAX: u64 = 16_384;
/// Bytes of a name (NAME_MAX).
pub(crate) const NAME_BYTES_MAX: usize = 255;
const SET_GROUP_ID: u32 = 0o2000;

/// What was made in a directory while this mount had it to itself: as long as that lasts, and no
/// name leads there from elsewhere, nobody else knows the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) directory: InodeId,
    era: u64,
}

/// What a new inode takes from its directory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heritage {
    pub(crate) owned: Owned,
    /// The group, where the directory hands its own on.
    pub(crate) group: Option<u32>,
    /// The directory's, of which the default one is handed on.
    pub(crate) acls: Acls,
    /// What is made goes once it was read.
    pub(crate) read_once: bool,
}

/// A name in a directory that this mount has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnedName {
    pub(crate) known: Known,
    pub(crate) owned: Owned,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Present(InodeId),
    Absent,
    /// An operation that was asked of the server may have changed it.
    Unknown,
}

/// What this mount did in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The directory's time of change from now on.
    pub(crate) time: Time,
    /// By how many directories its own number changed.
    pub(crate) links: i32,
    /// When, in this mount's own order.
    pub(crate) at: Tick,
}

/// A directory as a request to the server finds it: see [`ExclusiveDirectories::learn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    era: u64,
    changes: u64,
}

/// See the module.
pub(crate) struct ExclusiveDirectories {
    inner: Mutex<Inner>,
}

struct Inner {
    directories: LruCache<InodeId, Directory>,
    names: usize,
    eras: u64,
    evicted: Vec<InodeId>,
    /// Directories that this mount had changed when it gave them back: the server may not have heard of
    /// all of it yet.
    given_back: HashSet<InodeId>,
    /// When the server was last told of such: what it said to earlier requests may be older. While
    /// it is being told, the end of time.
    returned: Tick,
}

struct Directory {
    era: u64,
    /// Its attributes, if they are known; what this mount does in it changes their times.
    entry: Entry,
    /// When this mount last changed it, or a name in it.
    last_change: Option<Tick>,
    names: HashMap<Box<[u8]>, Known>,
    /// What is not among the names is absent.
    complete: bool,
    reading: bool,
    misses: u32,
    /// Counts changes of names.
    changes: u64,
    /// How many names the server said there are.
    names_said: u64,
}

impl ExclusiveDirectories {
    pub(crate) fn new() -> Self {
        ExclusiveDirectories {
            inner: Mutex::new(Inner {
                directories: LruCache::new(DIRECTORIES_MAX),
                names: 0,
                eras: 0,
                evicted: Vec::new(),
                given_back: HashSet::new(),
                returned: Tick(0),
            }),
        }
    }

    /// The server says, to a request that went out at `since`, that the directory is this mount's
    /// alone. `is_late`: this mount has changed something since, so that there may be more names.
    pub(crate) fn granted(&self, directory: InodeId, entry: &Entry, since: Tick, is_late: bool) {
        let mut inner = self.inner.lock();
        let said = Entry {
            exclusive: false,
            ..entry.clone()
        };
        let is_older = since <= inner.returned;
        match inner.directories.get_mut(&directory) {
            Some(held) => held.refresh(said, since),
            None if is_older => {}
            None => {
                let names = if is_late { u64::MAX } else { entry.names };
                inner.add(directory, said, names);
            }
        }
    }

    /// The lease is recalled.
    pub(crate) fn give_back(&self, directory: InodeId) {
        self.inner.lock().forget(directory);
    }

    /// If the server has heard of all that was done by now, which `is_settled` says, nothing of it is
    /// lost with the session any more where the lease was given back.
    pub(crate) fn settle(&self, is_settled: impl FnOnce() -> bool) {
        let mut inner = self.inner.lock();
        // What was done there was told before it was given back, and it is asked only now.
        if !inner.given_back.is_empty() && is_settled() {
            inner.given_back.clear();
        }
    }

    /// Every lease is gone. Answers the directories that this mount has changed under them, and may
    /// have.
    pub(crate) fn clear(&self) -> Vec<InodeId> {
        let mut inner = self.inner.lock();
        let mut changed: Vec<_> = inner.given_back.drain().collect();
        inner.evicted.clear();
        let held = inner.directories.iter();
        let held = held.filter(|(_, directory)| directory.last_change.is_some());
        changed.extend(held.map(|(id, _)| *id));
        inner.directories.clear();
        inner.names = 0;
        changed
    }

    /// What is known of a name; none if that is nothing.
    pub(crate) fn find(&self, directory: InodeId, name: &[u8]) -> Option<Known> {
        let mut inner = self.inner.lock();
        let held = inner.directories.get(&directory)?;
        match held.names.get(name) {
            Some(Known::Unknown) => None,
            Some(known) => Some(*known),
            None => held.complete.then_some(Known::Absent),
        }
    }

    /// The directory's own attributes.
    pub(crate) fn attributes(&self, directory: InodeId) -> Option<Entry> {
        let mut inner = self.inner.lock();
        let entry = &inner.directories.get(&directory)?.entry;
        entry.attributes.is_some().then(|| entry.clone())
    }

    /// Whether the directory is known to have no names.
    pub(crate) fn is_empty(&self, directory: InodeId) -> bool {
        let inner = self.inner.lock();
        let held = inner.directories.peek(&directory);
        held.is_some_and(|held| held.complete && held.names.is_empty())
    }

    /// Whether what was made under a lease is still known to nobody else.
    pub(crate) fn is_owned(&self, owned: Owned) -> bool {
        let inner = self.inner.lock();
        let held = inner.directories.peek(&owned.directory);
        held.is_some_and(|held| held.era == owned.era)
    }

    /// What is known of a name that may be given, and what would be owned by leading there.
    pub(crate) fn owned_name(&self, directory: InodeId, name: &[u8]) -> Option<OwnedName> {
        if !is_name(name) {
            return None;
        }
        let known = self.find(directory, name)?;
        let inner = self.inner.lock();
        let era = inner.directories.peek(&directory)?.era;
        Some(OwnedName {
            known,
            owned: Owned { directory, era },
        })
    }

    /// What an inode made at a name would inherit, if that name is free and may be given.
    pub(crate) fn heritage(&self, directory: InodeId, name: &[u8]) -> Option<Heritage> {
        if !is_name(name) || self.find(directory, name)? != Known::Absent {
            return None;
        }
        let inner = self.inner.lock();
        let held = inner.directories.peek(&directory)?;
        let attributes = held.entry.attributes.as_ref()?;
        Some(Heritage {
            owned: Owned {
                directory,
                era: held.era,
            },
            group: (attributes.mode & SET_GROUP_ID != 0).then_some(attributes.gid),
            acls: held.entry.acls.as_deref().cloned().unwrap_or_default(),
            read_once: held.entry.read_once,
        })
    }

    /// This mount let a name lead somewhere, or nowhere.
    pub(crate) fn changed(&self, directory: InodeId, name: &[u8], known: Known, change: Change) {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.directories.get_mut(&directory) {
            held.last_change = held.last_change.max(Some(change.at));
            if let Some(attributes) = &mut held.entry.attributes {
                touch(attributes, change.time);
                attributes.link_count = attributes.link_count.saturating_add_signed(change.links);
            }
        }
        inner.set(directory, name, known);
    }

    /// The directory's own attributes change in a way that is not told: they are asked for, and
    /// what was asked for before `at` says nothing.
    pub(crate) fn forget_attributes(&self, directory: InodeId, at: Tick) {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.directories.get_mut(&directory) {
            held.last_change = held.last_change.max(Some(at));
            held.entry.attributes = None;
        }
    }

    /// Something in the directory, it is not known what, may become known to others.
    pub(crate) fn disown_all(&self, directory: InodeId) {
        let mut inner = self.inner.lock();
        let Inner {
            directories, eras, ..
        } = &mut *inner;
        if let Some(held) = directories.get_mut(&directory) {
            *eras += 1;
            held.era = *eras;
        }
    }

    /// Directories that were dropped for others since the last call. Where there are any, the server
    /// is to be told, and then [`ExclusiveDirectories::returned`] to be called.
    pub(crate) fn take_evicted(&self) -> Vec<InodeId> {
        let mut inner = self.inner.lock();
        if !inner.evicted.is_empty() {
            inner.returned = Tick(u64::MAX);
        }
        std::mem::take(&mut inner.evicted)
    }

    /// The server has been told, before `now`, of what was evicted.
    pub(crate) fn returned(&self, now: Tick) {
        self.inner.lock().returned = now;
    }

    /// The server is asked to change a name, or has answered: what is known of it says nothing.
    pub(crate) fn doubt(&self, directory: InodeId, name: &[u8]) {
        self.inner.lock().set(directory, name, Known::Unknown);
    }

    /// A directory of this mount's own making is there.
    pub(crate) fn made(&self, directory: InodeId, entry: &Entry) {
        self.inner.lock().add(directory, entry.clone(), 0);
    }

    /// How the directory is now: to be taken before the server is asked about a name in it.
    pub(crate) fn glance(&self, directory: InodeId) -> Option<Glance> {
        let inner = self.inner.lock();
        let held = inner.directories.peek(&directory)?;
        Some(Glance {
            era: held.era,
            changes: held.changes,
        })
    }

    /// The server has told what a name leads to; nothing is learned if names were changed since
    /// the glance. True if all names should be read now: exactly one [`ExclusiveDirectories::read`]
    /// is to follow.
    pub(crate) fn learn(
        &self,
        directory: InodeId,
        glance: Glance,
        name: &[u8],
        known: Known,
    ) -> bool {
        let mut inner = self.inner.lock();
        let Some(held) = inner.directories.get_mut(&directory) else {
            return false;
        };
        let doubted = held.names.get(name) == Some(&Known::Unknown);
        if held.era != glance.era || (held.complete && !doubted) {
            return false;
        }
        let unchanged = held.changes == glance.changes;
        held.misses += u32::from(known == Known::Absent);
        let read = held.misses >= MISSES_TO_READ
            && !held.complete
            && !held.reading
            && held.names_said <= READ_NAMES_MAX;
        held.reading |= read;
        if unchanged {
            inner.set(directory, name, known);
        }
        read
    }

    /// All names of a directory were read, or could not be. What is known of names otherwise is
    /// kept up to date by every change, so it is right where the two differ.
    pub(crate) fn read(
        &self,
        directory: InodeId,
        glance: Glance,
        listed: Option<Vec<(Box<[u8]>, InodeId)>>,
    ) {
        let mut inner = self.inner.lock();
        let Some(held) = inner.directories.get_mut(&directory) else {
            return;
        };
        if held.era != glance.era || !std::mem::take(&mut held.reading) {
            return;
        }
        held.misses = 0;
        let Some(listed) = listed else {
            return;
        };
        let before = held.names.len();
        for (name, inode) in listed {
            held.names.entry(name).or_insert(Known::Present(inode));
        }
        held.names.retain(|_, known| *known != Known::Absent);
        held.complete = true;
        let after = held.names.len();
        inner.names = inner.names - before + after;
        inner.shrink(directory);
    }
}

impl Inner {
    fn add(&mut self, directory: InodeId, entry: Entry, names_said: u64) {
        self.forget(directory);
        // It is wanted again, and not given back yet.
        self.evicted.retain(|evicted| *evicted != directory);
        self.eras += 1;
        let held = Directory {
            era: self.eras,
            entry,
            last_change: None,
            names: HashMap::new(),
            complete: names_said == 0,
            reading: false,
            misses: 0,
            changes: 0,
            names_said,
        };
        if let Some((id, evicted)) = self.directories.push(directory, held) {
            self.names -= evicted.names.len();
            self.note_given_back(id, &evicted);
            self.evicted.push(id);
        }
    }

    fn forget(&mut self, directory: InodeId) {
        if let Some(held) = self.directories.pop(&directory) {
            self.names -= held.names.len();
            self.note_given_back(directory, &held);
        }
    }

    fn note_given_back(&mut self, directory: InodeId, held: &Directory) {
        if held.last_change.is_some() && self.given_back.len() < GIVEN_BACK_MAX {
            self.given_back.insert(directory);
        }
    }

    fn set(&mut self, directory: InodeId, name: &[u8], known: Known) {
        let Some(held) = self.directories.get_mut(&directory) else {
            return;
        };
        held.changes += 1;
        let before = held.names.len();
        if held.complete && known == Known::Absent {
            held.names.remove(name);
        } else {
            held.names.insert(name.into(), known);
        }
        let after = held.names.len();
        self.names = self.names - before + after;
        self.shrink(directory);
    }

    /// Forgets names of the directories not used for longest; of `current` only at last.
    fn shrink(&mut self, current: InodeId) {
        while self.names > NAMES_MAX {
            let mut oldest = self.directories.iter_mut().rev();
            let with_names =
                |(id, held): &(&InodeId, &mut Directory)| **id != current && !held.names.is_empty();
            let held = match oldest.find(with_names) {
                Some((_, held)) => Some(held),
                None => self.directories.get_mut(&current),
            };
            let Some(held) = held else { return };
            self.names -= held.names.len();
            held.forget_names();
        }
    }
}

impl Directory {
    /// What is not known is asked for, and what is being read comes too late.
    fn forget_names(&mut self) {
        self.names = HashMap::new();
        self.complete = false;
        self.reading = false;
        self.changes += 1;
        // More names than fit.
        self.names_said = u64::MAX;
    }

    fn refresh(&mut self, entry: Entry, since: Tick) {
        self.entry = entry;
        if self.last_change.is_some_and(|at| at > since) {
            // The answer does not know of that: it is asked again when it matters.
            self.entry.attributes = None;
        }
    }
}

fn touch(attributes: &mut Attributes, time: Time) {
    attributes.modified = Some(time);
    attributes.changed = Some(time);
}

/// Whether the server would take these bytes for a name; if not, it is to say why.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}
