//! Advisory locks of a job: who holds which range of which file, and who waits for one.
//!
//! Plain values: no clock, no I/O. Locks are those of Linux's local file systems. flock's know
//! nothing of the others; a range is split and merged as POSIX has it; what does not conflict with
//! what is held is granted, however many wait; those that wait are looked at in the order in which
//! they came. A record lock that would wait for ever is refused ([`deadlock`]). Whoever is granted
//! what it waited for is told of in [`Locks::take_granted`].

mod deadlock;
mod list;
mod sessions;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use pocket_proto::{InodeId, SessionId, Status};

use self::list::LockList;
use self::sessions::{Granted, Sessions, Wait};
use crate::limits::{LOCK_WAITS_MAX, LOCK_WAITS_PER_SESSION_MAX, LOCKS_MAX, LOCKS_PER_SESSION_MAX};

/// Which system call a lock comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// flock(2): of an open file.
    Flock,
    /// fcntl(2): of a process.
    Record,
    /// fcntl(2) with F_OFD_SETLK and its like: of an open file.
    OpenFile,
}

/// Whose a lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    pub(crate) session: SessionId,
    pub(crate) kind: Kind,
    pub(crate) id: u64,
}

/// How a lock excludes others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// Bytes from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    first: u64,
    last: u64,
}

/// What an owner holds in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) range: Range,
    pub(crate) mode: Mode,
    /// The process that asked, for who wants to know.
    pub(crate) process: u32,
}

/// Names a request that may wait; the session chose the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    pub(crate) session: SessionId,
    pub(crate) number: u64,
}

/// What a request does about a conflict; the number of its ticket names it in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is refused.
    None(u64),
    /// It waits.
    Waits(u64),
}

/// What became of a request that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is held.
    Granted,
    /// It waits.
    Queued,
}

/// The locks of a job.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    inodes: HashMap<InodeId, InodeLocks>,
    sessions: Sessions,
    /// Pieces held and requests waiting, of all sessions.
    held: usize,
    waiting: usize,
    /// Who was granted what it waited for, since that was asked last.
    granted: Vec<Ticket>,
}

/// The locks of a file: the two families do not see each other.
#[derive(Debug, Default)]
struct InodeLocks {
    flock: LockList,
    ranges: LockList,
}

impl Range {
    /// The whole of any file.
    pub(crate) const ALL: Range = Range {
        first: 0,
        last: i64::MAX as u64,
    };

    /// `None` where there is no such range.
    pub(crate) fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last && last <= Range::ALL.last).then_some(Range { first, last })
    }

    pub(crate) fn first(self) -> u64 {
        self.first
    }

    pub(crate) fn last(self) -> u64 {
        self.last
    }

    fn overlaps(self, other: Range) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Mode {
    fn excludes(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive
    }
}

impl Patience {
    fn ticket(self, session: SessionId) -> Ticket {
        let (Patience::None(number) | Patience::Waits(number)) = self;
        Ticket { session, number }
    }
}

impl InodeLocks {
    fn of(&self, kind: Kind) -> &LockList {
        match kind {
            Kind::Flock => &self.flock,
            Kind::Record | Kind::OpenFile => &self.ranges,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut LockList {
        match kind {
            Kind::Flock => &mut self.flock,
            Kind::Record | Kind::OpenFile => &mut self.ranges,
        }
    }

    fn is_empty(&self) -> bool {
        self.flock.is_empty() && self.ranges.is_empty()
    }

    fn involves(&self, session: SessionId) -> bool {
        self.flock.involves(session) || self.ranges.involves(session)
    }
}

impl Locks {
    /// Locks a range, or converts what the owner holds of it. What conflicts is refused with
    /// [`Status::Again`], unless it may wait. Asked again with a ticket that waits or was granted
    /// a moment ago, nothing changes.
    ///
    /// Refuses with [`Status::Deadlock`], and with [`Status::NoLocks`] beyond the limits.
    pub(crate) fn lock(
        &mut self,
        inode: InodeId,
        owner: Owner,
        lock: Lock,
        patience: Patience,
    ) -> Result<Outcome, Status> {
        let ticket = patience.ticket(owner.session);
        if let Some(known) = self.sessions.outcome(ticket) {
            return Ok(known);
        }
        if self.held >= LOCKS_MAX || self.sessions.held(owner.session) >= LOCKS_PER_SESSION_MAX {
            return Err(Status::NoLocks);
        }
        let mut freed = false;
        if owner.kind == Kind::Flock {
            // flock(2): "the existing lock is first removed, and then a new lock is established",
            // and is gone even if that fails. Two who both convert would wait for ever otherwise.
            if self.list(inode, owner.kind).holds_as(owner, lock.mode) {
                return Ok(Outcome::Granted);
            }
            freed = self.change(inode, owner, Range::ALL, None);
        }
        let list = self.list(inode, owner.kind);
        let outcome = if list.conflict(owner, lock.range, lock.mode).is_none() {
            self.grant(inode, Wait { owner, lock }, ticket);
            Ok(Outcome::Granted)
        } else {
            self.queue(inode, Wait { owner, lock }, patience)
        };
        if freed || outcome == Ok(Outcome::Granted) {
            // A conversion may have made room as well.
            self.serve(inode, owner.kind);
        }
        self.tidy(inode, owner.session);
        outcome
    }

    /// Unlocks a range. Refuses with [`Status::NoLocks`] where that leaves more pieces than may be.
    pub(crate) fn unlock(
        &mut self,
        inode: InodeId,
        owner: Owner,
        range: Range,
    ) -> Result<(), Status> {
        let is_full = self.sessions.held(owner.session) >= LOCKS_PER_SESSION_MAX;
        if is_full && self.list(inode, owner.kind).splits(owner, range) {
            return Err(Status::NoLocks);
        }
        if self.change(inode, owner, range, None) {
            self.serve(inode, owner.kind);
        }
        self.tidy(inode, owner.session);
        Ok(())
    }

    /// The first lock of another owner that is in the way of one.
    pub(crate) fn conflict(
        &self,
        inode: InodeId,
        owner: Owner,
        range: Range,
        mode: Mode,
    ) -> Option<(Owner, Lock)> {
        let locks = self.inodes.get(&inode)?;
        locks.of(owner.kind).conflict(owner, range, mode)
    }

    /// Whether an owner holds anything of a file.
    pub(crate) fn holds(&self, inode: InodeId, owner: Owner) -> bool {
        let locks = self.inodes.get(&inode);
        locks.is_some_and(|locks| !locks.of(owner.kind).pieces(owner).is_empty())
    }

    /// Takes a request out of the queue. What it was granted a moment ago is put back to what the
    /// owner held before, as far as others have left room for that.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        if let Some((inode, wait)) = self.sessions.stop_waiting(ticket) {
            self.waiting -= 1;
            let kind = wait.owner.kind;
            self.list_mut(inode, kind).leave(ticket);
            self.tidy(inode, ticket.session);
        } else if let Some(granted) = self.sessions.take_granted(ticket) {
            self.put_back(granted);
        }
    }

    /// Ends a session: its locks are free, and it waits for nothing.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        for inode in self.sessions.inodes(session) {
            self.release_session(inode, session);
        }
        self.sessions.forget(session);
    }

    /// A session has a file open no more: whatever it locked of it is free.
    pub(crate) fn release_session(&mut self, inode: InodeId, session: SessionId) {
        for kind in [Kind::Flock, Kind::Record] {
            let list = self.list_mut(inode, kind);
            let (owners, tickets) = (list.owners(session), list.tickets(session));
            for ticket in tickets {
                self.cancel(ticket);
            }
            for owner in owners {
                self.change(inode, owner, Range::ALL, None);
            }
            self.serve(inode, kind);
        }
        self.tidy(inode, session);
    }

    /// An inode is gone, and its locks with it. It is open nowhere, so nobody waits for one.
    pub(crate) fn forget(&mut self, inode: InodeId) {
        let Some(locks) = self.inodes.get(&inode) else {
            return;
        };
        for session in locks.sessions() {
            self.release_session(inode, session);
        }
    }

    /// Ranges held, and requests that wait.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.held, self.waiting)
    }

    /// Who was granted what it waited for since this was asked last.
    pub(crate) fn take_granted(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.granted)
    }

    /// A lock that has to wait: refused if it will not, or if that would never end.
    fn queue(&mut self, inode: InodeId, wait: Wait, patience: Patience) -> Result<Outcome, Status> {
        if let Patience::None(_) = patience {
            return Err(Status::Again);
        }
        let ticket = patience.ticket(wait.owner.session);
        if self.would_deadlock(inode, wait) {
            return Err(Status::Deadlock);
        }
        let waits = self.sessions.waits(ticket.session);
        if self.waiting >= LOCK_WAITS_MAX || waits >= LOCK_WAITS_PER_SESSION_MAX {
            return Err(Status::NoLocks);
        }
        self.list_mut(inode, wait.owner.kind).queue(ticket, wait);
        self.sessions.wait(ticket, inode, wait);
        self.waiting += 1;
        Ok(Outcome::Queued)
    }

    /// Gives a lock that nothing is in the way of, and remembers how to take it back.
    fn grant(&mut self, inode: InodeId, wait: Wait, ticket: Ticket) {
        let Wait { owner, lock } = wait;
        let before = self.list(inode, owner.kind).overlapped(owner, lock.range);
        self.change(inode, owner, lock.range, Some(lock));
        self.sessions.note_granted(Granted {
            ticket,
            inode,
            owner,
            range: lock.range,
            before,
        });
    }

    /// Looks through those who wait, in the order in which they came, until none can be served.
    fn serve(&mut self, inode: InodeId, kind: Kind) {
        while let Some((ticket, wait)) = self.list_mut(inode, kind).next_free() {
            self.sessions.stop_waiting(ticket);
            self.waiting -= 1;
            self.grant(inode, wait, ticket);
            self.granted.push(ticket);
        }
    }

    fn put_back(&mut self, granted: Granted) {
        let Granted { inode, owner, .. } = granted;
        self.change(inode, owner, granted.range, None);
        for lock in granted.before {
            let weaker = Lock {
                mode: Mode::Shared,
                ..lock
            };
            let list = self.list(inode, owner.kind);
            let is_free = |lock: &Lock| list.conflict(owner, lock.range, lock.mode).is_none();
            if let Some(lock) = [lock, weaker].into_iter().find(is_free) {
                self.change(inode, owner, lock.range, Some(lock));
            }
        }
        self.serve(inode, owner.kind);
        self.tidy(inode, owner.session);
    }

    /// Sets what an owner holds of a range. True if it held anything there.
    fn change(&mut self, inode: InodeId, owner: Owner, range: Range, lock: Option<Lock>) -> bool {
        // From here on there is nothing to go back to.
        self.sessions.settle(inode, owner);
        let list = self.list_mut(inode, owner.kind);
        let held_before = list.pieces(owner).len();
        let held_there = list.change(owner, range, lock);
        let held_now = list.pieces(owner).len();
        self.held = self.held + held_now - held_before;
        self.sessions
            .count(owner.session, inode, held_before, held_now);
        held_there
    }

    fn list(&self, inode: InodeId, kind: Kind) -> &LockList {
        static NONE: LockList = LockList::new();
        let locks = self.inodes.get(&inode);
        locks.map_or(&NONE, |locks| locks.of(kind))
    }

    fn list_mut(&mut self, inode: InodeId, kind: Kind) -> &mut LockList {
        self.inodes.entry(inode).or_default().of_mut(kind)
    }

    /// Forgets that a session, or anyone, has to do with a file, if that is over.
    fn tidy(&mut self, inode: InodeId, session: SessionId) {
        let Some(locks) = self.inodes.get(&inode) else {
            return;
        };
        if !locks.involves(session) {
            self.sessions.leave_inode(session, inode);
        }
        if locks.is_empty() {
            self.inodes.remove(&inode);
        }
    }
}

impl InodeLocks {
    fn sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<_> = [&self.flock, &self.ranges]
            .into_iter()
            .flat_map(LockList::sessions)
            .collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }
}
