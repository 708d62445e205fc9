//! What mounts may cache, and until when: leases on names and on attributes.
//!
//! A lease lapses by itself; a conflicting change has to recall it earlier, and while it does, the
//! object is marked and nobody gets a new lease on it. Attributes are leased per inode. Names are
//! leased one by one, or all of a directory to one session alone, which may then change them ahead
//! of the server. Such an exclusive lease ends when it is recalled or its session does; the others
//! lapse. Nothing here knows whether a session still exists.
//!
//! Memory: an object is remembered while someone holds a lease on it, and taken out by the queue
//! of due times, a few steps with every grant. Beyond so many objects, or holders and names of them,
//! nothing more is leased.

mod attributes;
mod marks;
mod names;
mod tally;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use pocket_proto::{InodeId, SessionId};
use tokio::time::Instant;

use self::attributes::AttributeLeases;
use self::marks::Marks;
use self::names::NameLeases;
use crate::limits::{DIRECTORY_ATTRIBUTES_LEASE, LEASED_OBJECTS_MAX, LEASES_MAX};

pub(crate) use marks::Object;

/// Longer than anyone waits for a recall.
const FOR_GOOD: Duration = Duration::from_secs(24 * 3600);
/// Due objects looked at with every grant: more than one, so that the queue shrinks.
const SWEPT_PER_GRANT: usize = 2;

/// Who is given a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grantee {
    pub(crate) session: SessionId,
    /// Recalls sent to it so far: the lease is newer than all of them.
    pub(crate) recalls: u64,
    /// It counts on the lease already, however many there are.
    pub(crate) regardless: bool,
}

/// A lease that stands in the way of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) session: SessionId,
    pub(crate) expires: Instant,
}

impl Holder {
    /// A session that holds what does not lapse.
    pub(crate) fn for_good(session: SessionId) -> Self {
        let expires = Instant::now() + FOR_GOOD;
        Holder { session, expires }
    }
}

/// All leases of a job.
#[derive(Debug)]
pub(crate) struct Leases {
    lease: Duration,
    travel: Duration,
    attributes: AttributeLeases,
    names: NameLeases,
    marks: Marks,
    due: VecDeque<Due>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    what: Kept,
}

#[derive(Clone, Copy, Debug)]
enum Kept {
    Attributes(InodeId),
    Names(InodeId),
}

impl Leases {
    /// None yet; none longer than `lease`, of which replies may travel for `travel`: mounts are
    /// told so much less than what is remembered here.
    pub(crate) fn new(lease: Duration, travel: Duration) -> Self {
        Leases {
            lease,
            travel,
            attributes: AttributeLeases::default(),
            names: NameLeases::default(),
            marks: Marks::default(),
            due: VecDeque::new(),
        }
    }

    /// What a mount is told of the length of a lease, in milliseconds.
    pub(crate) fn told_ms(&self) -> u32 {
        u32::try_from((self.lease - self.travel).as_millis()).unwrap_or(u32::MAX)
    }

    /// Leases the attributes of an inode. Returns for how long, 0 if they may not be cached.
    pub(crate) fn grant_attributes(
        &mut self,
        inode: InodeId,
        is_directory: bool,
        to: Grantee,
        now: Instant,
    ) -> Duration {
        self.sweep(now, SWEPT_PER_GRANT);
        if self.marks.has_attributes(inode) || (self.is_full() && !to.regardless) {
            return Duration::ZERO;
        }
        let mut length = self.lease - self.travel;
        if is_directory {
            length = length.min(DIRECTORY_ATTRIBUTES_LEASE);
        }
        let expires = now + length + self.travel;
        if self.attributes.grant(inode, to, expires) {
            self.due.push_back(Due {
                at: expires,
                what: Kept::Attributes(inode),
            });
        }
        length
    }

    /// Leases a name, present or absent. Returns for how long, 0 if it may not be cached.
    pub(crate) fn grant_name(
        &mut self,
        directory: InodeId,
        name: &[u8],
        to: Grantee,
        now: Instant,
    ) -> Duration {
        self.sweep(now, SWEPT_PER_GRANT);
        let refused = self.marks.has_name(directory, name)
            || self.names.is_contended(directory, now)
            || (self.is_full() && !to.regardless);
        if refused {
            return Duration::ZERO;
        }
        let expires = now + self.lease;
        if self.names.grant(directory, name, to, now, expires) {
            self.remember_names(directory, expires);
        }
        self.lease - self.travel
    }

    /// Leases the list of a directory's names to whoever reads it. Returns for how long, 0 if it may
    /// not be cached.
    pub(crate) fn grant_listing(
        &mut self,
        directory: InodeId,
        to: Grantee,
        now: Instant,
    ) -> Duration {
        self.sweep(now, SWEPT_PER_GRANT);
        let refused = self.marks.has_any_name(directory)
            || self.names.is_contended(directory, now)
            || self.is_full();
        if refused {
            return Duration::ZERO;
        }
        let expires = now + self.lease;
        let Some(is_new) = self.names.grant_listing(directory, to, now, expires) else {
            return Duration::ZERO;
        };
        if is_new {
            self.remember_names(directory, expires);
        }
        self.lease - self.travel
    }

    /// What a mount's kernel does by itself when it moves a name: the lease on it moves along.
    pub(crate) fn inherit_name(
        &mut self,
        from: InodeId,
        to: (InodeId, &[u8]),
        holder: Grantee,
        now: Instant,
    ) {
        if let Some(expires) = self.names_held_until(from, holder.session, now)
            && self.names.grant(to.0, to.1, holder, now, expires)
        {
            self.remember_names(to.0, expires);
        }
    }

    /// Whether moving a name from `from` to `to` would move a lease of `session` onto a name that
    /// is being recalled.
    pub(crate) fn inherits_onto_mark(
        &self,
        from: InodeId,
        to: (InodeId, &[u8]),
        session: SessionId,
        now: Instant,
    ) -> bool {
        self.marks.has_name(to.0, to.1) && self.names_held_until(from, session, now).is_some()
    }

    /// Leases all names of a directory to one session alone, if it made the directory just now or
    /// is the one that changes it, and nobody else holds any name. True if it has them now.
    pub(crate) fn grant_directory(
        &mut self,
        directory: InodeId,
        is_new: bool,
        session: SessionId,
        now: Instant,
    ) -> bool {
        // One that was made ahead is its maker's whatever else there is.
        if self.marks.has_any_name(directory) || (self.is_full() && !is_new) {
            return false;
        }
        let (granted, remember) = self.names.grant_exclusive(directory, is_new, session, now);
        if remember {
            self.remember_names(directory, now + self.lease);
        }
        granted
    }

    /// Whether the session has the directory to itself, and is not being asked to share it.
    pub(crate) fn holds_directory(&self, directory: InodeId, session: SessionId) -> bool {
        self.names.exclusive_holder(directory) == Some(session)
            && !self.marks.has_any_name(directory)
    }

    /// The session that has the directory to itself.
    pub(crate) fn directory_holder(&self, directory: InodeId) -> Option<SessionId> {
        self.names.exclusive_holder(directory)
    }

    /// The session has the directory to itself no more; its kernel may hold any of the names until
    /// `expires`.
    pub(crate) fn end_directory(
        &mut self,
        directory: InodeId,
        session: SessionId,
        now: Instant,
        expires: Instant,
    ) {
        self.names.end_exclusive(directory, session, now, expires);
    }

    /// Sessions other than `except` that may have the inode's attributes cached.
    pub(crate) fn attribute_holders(
        &self,
        inode: InodeId,
        except: SessionId,
        now: Instant,
    ) -> impl Iterator<Item = Holder> {
        self.attributes.holders(inode, except, now)
    }

    /// Sessions other than `except` that may have the name cached.
    pub(crate) fn name_holders(
        &self,
        directory: InodeId,
        name: &[u8],
        except: SessionId,
        now: Instant,
    ) -> impl Iterator<Item = Holder> {
        self.names.holders(directory, name, except, now)
    }

    /// Notes that `session` changed a name in the directory.
    pub(crate) fn name_changed(&mut self, directory: InodeId, session: SessionId, now: Instant) {
        if self.is_full() {
            return;
        }
        if let Some(due) = self.names.changed(directory, session, now) {
            self.remember_names(directory, due);
        }
    }

    /// No new leases on the object until as many [`Leases::unmark`] as there were marks.
    pub(crate) fn mark(&mut self, object: &Object) {
        self.marks.add(object);
    }

    /// Whether the file is being cut.
    pub(crate) fn is_cut(&self, inode: InodeId) -> bool {
        self.marks.has_length(inode)
    }

    /// Takes a mark back.
    pub(crate) fn unmark(&mut self, object: &Object) {
        self.marks.remove(object);
    }

    /// The session has dropped the attributes, as its recall of number `recall` asked. A lease
    /// that it was given since then stays.
    pub(crate) fn attributes_dropped(&mut self, inode: InodeId, session: SessionId, recall: u64) {
        self.attributes.drop_before(inode, session, recall);
    }

    /// Notes that the session is asked to drop a name. True if it is better asked to drop all of
    /// the directory.
    pub(crate) fn note_name_recall(&mut self, directory: InodeId, session: SessionId) -> bool {
        self.names.note_recall(directory, session)
    }

    /// The session has dropped the list of a directory's names, as its recall of number `recall`
    /// of any name in it asked.
    pub(crate) fn listing_dropped(&mut self, directory: InodeId, session: SessionId, recall: u64) {
        self.names.drop_listing(directory, session, recall);
    }

    /// The session has dropped all names of a directory, as its recall of number `recall` asked.
    pub(crate) fn names_dropped(&mut self, directory: InodeId, session: SessionId, recall: u64) {
        self.names.drop_before(directory, session, recall);
    }

    /// The inode is gone.
    pub(crate) fn forget(&mut self, inode: InodeId) {
        self.attributes.forget(inode);
        self.names.forget(inode);
    }

    /// Takes out what has lapsed, looking at no more than `steps` objects.
    pub(crate) fn sweep(&mut self, now: Instant, steps: usize) {
        for _ in 0..steps {
            let Some(due) = self.due.front().copied().filter(|due| due.at <= now) else {
                return;
            };
            self.due.pop_front();
            let next = match due.what {
                Kept::Attributes(inode) => self.attributes.sweep(inode, now),
                Kept::Names(directory) => self.names.sweep(directory, now),
            };
            if let Some(at) = next {
                self.due.push_back(Due { at, ..due });
            }
        }
    }

    /// Whether anything is being recalled.
    #[cfg(test)]
    pub(crate) fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    fn remember_names(&mut self, directory: InodeId, at: Instant) {
        self.due.push_back(Due {
            at,
            what: Kept::Names(directory),
        });
    }

    /// Who has a directory to itself answers lookups there without a lease on each name.
    fn names_held_until(
        &self,
        directory: InodeId,
        session: SessionId,
        now: Instant,
    ) -> Option<Instant> {
        let alone = self.names.exclusive_holder(directory) == Some(session);
        let held = self.names.held_until(directory, session, now);
        held.max(alone.then_some(now + self.lease))
    }

    /// Objects of which somebody has, or lately had, a lease.
    pub(crate) fn objects(&self) -> usize {
        self.due.len()
    }

    fn is_full(&self) -> bool {
        self.due.len() >= LEASED_OBJECTS_MAX || self.count() >= LEASES_MAX
    }

    /// All that is leased: each holder of an object counts, and each name.
    fn count(&self) -> usize {
        self.attributes.count() + self.names.count()
    }
}
