//! The locks of one family on one file: pieces held by owner, and those who wait.

use std::collections::{BTreeMap, VecDeque};

use pocket_proto::SessionId;

use super::sessions::Wait;
use super::{Kind, Lock, Mode, Owner, Range, Ticket};

/// See the module.
#[derive(Debug)]
pub(super) struct LockList {
    /// Of each owner: disjoint, in order, and none that could be one with its neighbour.
    held: BTreeMap<Owner, Vec<Lock>>,
    /// In the order in which they came.
    queue: VecDeque<(Ticket, Wait)>,
}

impl Default for LockList {
    fn default() -> Self {
        LockList::new()
    }
}

impl LockList {
    pub(super) const fn new() -> Self {
        LockList {
            held: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.queue.is_empty()
    }

    /// What an owner holds.
    pub(super) fn pieces(&self, owner: Owner) -> &[Lock] {
        self.held.get(&owner).map_or(&[], Vec::as_slice)
    }

    /// Whether an owner holds a whole file just so.
    pub(super) fn holds_as(&self, owner: Owner, mode: Mode) -> bool {
        let mut pieces = self.pieces(owner).iter();
        pieces.any(|lock| lock.mode == mode && lock.range == Range::ALL)
    }

    /// What an owner holds of a range, cut to it.
    pub(super) fn overlapped(&self, owner: Owner, range: Range) -> Vec<Lock> {
        let pieces = self.pieces(owner).iter();
        let pieces = pieces.filter(|lock| lock.range.overlaps(range));
        let cut = |lock: &Lock| Lock {
            range: Range {
                first: lock.range.first.max(range.first),
                last: lock.range.last.min(range.last),
            },
            ..*lock
        };
        pieces.map(cut).collect()
    }

    /// Whether unlocking a range leaves an owner with one piece more.
    pub(super) fn splits(&self, owner: Owner, range: Range) -> bool {
        let mut pieces = self.pieces(owner).iter();
        pieces.any(|lock| lock.range.first < range.first && lock.range.last > range.last)
    }

    /// Sets what an owner holds of a range. True if it held anything there.
    pub(super) fn change(&mut self, owner: Owner, range: Range, lock: Option<Lock>) -> bool {
        let old = self.held.remove(&owner).unwrap_or_default();
        let held_there = old.iter().any(|piece| piece.range.overlaps(range));
        let new = changed(&old, range, lock);
        if !new.is_empty() {
            self.held.insert(owner, new);
        }
        held_there
    }

    /// Owners whose locks are in the way of one.
    pub(super) fn blockers(
        &self,
        owner: Owner,
        range: Range,
        mode: Mode,
    ) -> impl Iterator<Item = Owner> {
        let blocks = move |lock: &&Lock| lock.range.overlaps(range) && lock.mode.excludes(mode);
        let others = self.held.iter().filter(move |(other, _)| **other != owner);
        others
            .filter(move |(_, pieces)| pieces.iter().any(|lock| blocks(&lock)))
            .map(|(other, _)| *other)
    }

    /// The first lock that is in the way of one.
    pub(super) fn conflict(&self, owner: Owner, range: Range, mode: Mode) -> Option<(Owner, Lock)> {
        let first = |other: Owner| {
            let mut pieces = self.pieces(other).iter();
            let blocks = |lock: &&Lock| lock.range.overlaps(range) && lock.mode.excludes(mode);
            Some((other, *pieces.find(blocks)?))
        };
        self.blockers(owner, range, mode)
            .filter_map(first)
            .min_by_key(|(_, lock)| lock.range)
    }

    /// One more waits.
    pub(super) fn queue(&mut self, ticket: Ticket, wait: Wait) {
        self.queue.push_back((ticket, wait));
    }

    /// One waits no more.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.queue.retain(|(waiting, _)| *waiting != ticket);
    }

    /// Takes the first out of the queue that nothing is in the way of any more.
    pub(super) fn next_free(&mut self) -> Option<(Ticket, Wait)> {
        let is_free = |wait: &Wait| {
            let Wait { owner, lock } = *wait;
            self.blockers(owner, lock.range, lock.mode).next().is_none()
        };
        let at = self.queue.iter().position(|(_, wait)| is_free(wait))?;
        self.queue.remove(at)
    }

    /// Whether a session holds anything here, or waits.
    pub(super) fn involves(&self, session: SessionId) -> bool {
        let waits = |(ticket, _): &(Ticket, Wait)| ticket.session == session;
        self.owners_of(session).next().is_some() || self.queue.iter().any(waits)
    }

    /// The owners of a session that hold something.
    pub(super) fn owners(&self, session: SessionId) -> Vec<Owner> {
        self.owners_of(session).collect()
    }

    fn owners_of(&self, session: SessionId) -> impl Iterator<Item = Owner> {
        let from = Owner {
            session,
            kind: Kind::Flock,
            id: 0,
        };
        let held = self.held.range(from..).map(|(owner, _)| *owner);
        held.take_while(move |owner| owner.session == session)
    }

    /// What a session waits for here.
    pub(super) fn tickets(&self, session: SessionId) -> Vec<Ticket> {
        let tickets = self.queue.iter().map(|(ticket, _)| *ticket);
        tickets.filter(|ticket| ticket.session == session).collect()
    }

    /// Every session that has to do with the file.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        let holders = self.held.keys().map(|owner| owner.session);
        holders.chain(self.queue.iter().map(|(ticket, _)| ticket.session))
    }
}

/// What an owner holds after a range was set: pieces are cut where the range begins and ends, and
/// those that touch and are alike become one.
fn changed(old: &[Lock], range: Range, lock: Option<Lock>) -> Vec<Lock> {
    let mut pieces = Vec::with_capacity(old.len() + 2);
    for piece in old {
        let Range { first, last } = piece.range;
        let mut keep = |first, last| {
            let range = Range { first, last };
            pieces.push(Lock { range, ..*piece });
        };
        if !piece.range.overlaps(range) {
            keep(first, last);
            continue;
        }
        if first < range.first {
            keep(first, range.first - 1);
        }
        if last > range.last {
            keep(range.last + 1, last);
        }
    }
    pieces.extend(lock.map(|lock| Lock { range, ..lock }));
    pieces.sort_unstable_by_key(|piece| piece.range);
    pieces.dedup_by(|next, piece| {
        // The last byte there can be is far from the last number, so that this cannot overflow.
        let alike = piece.mode == next.mode && piece.range.last + 1 == next.range.first;
        if alike {
            piece.range.last = next.range.last;
        }
        alike
    });
    pieces
}
