//! What each session has to do with locks: how many it holds, where, and what it waits for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pocket_proto::{InodeId, SessionId};

use super::{Lock, Outcome, Owner, Range, Ticket};
use crate::limits::LOCK_PIECES_PUT_BACK_MAX;

/// A request that waits, or may have to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) owner: Owner,
    pub(super) lock: Lock,
}

/// A request with a ticket that was granted, and what it replaced.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) ticket: Ticket,
    pub(super) inode: InodeId,
    pub(super) owner: Owner,
    pub(super) range: Range,
    pub(super) before: Vec<Lock>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<SessionId, SessionLocks>);

#[derive(Debug, Default)]
struct SessionLocks {
    /// Pieces held.
    held: usize,
    /// Where it holds something, or waits.
    inodes: BTreeSet<InodeId>,
    waits: BTreeMap<u64, (InodeId, Wait)>,
    /// What owners were granted last, while they hold it: whoever asked may have given up at that
    /// very moment, and says so at once.
    granted: HashMap<(InodeId, Owner), Granted>,
    /// The same by ticket.
    tickets: HashMap<u64, (InodeId, Owner)>,
}

impl Sessions {
    pub(super) fn held(&self, session: SessionId) -> usize {
        self.0.get(&session).map_or(0, |session| session.held)
    }

    pub(super) fn waits(&self, session: SessionId) -> usize {
        self.0
            .get(&session)
            .map_or(0, |session| session.waits.len())
    }

    /// What an owner waits for; a process may wait in several of its threads.
    pub(super) fn waits_of(&self, owner: Owner) -> impl Iterator<Item = (InodeId, Wait)> {
        let session = self.0.get(&owner.session).into_iter();
        let waits = session.flat_map(|session| session.waits.values().copied());
        waits.filter(move |(_, wait)| wait.owner == owner)
    }

    pub(super) fn inodes(&self, session: SessionId) -> Vec<InodeId> {
        let session = self.0.get(&session).into_iter();
        session
            .flat_map(|session| session.inodes.iter().copied())
            .collect()
    }

    /// What became of a request that was asked before.
    pub(super) fn outcome(&self, ticket: Ticket) -> Option<Outcome> {
        let session = self.0.get(&ticket.session)?;
        if session.waits.contains_key(&ticket.number) {
            return Some(Outcome::Queued);
        }
        let granted = session.tickets.contains_key(&ticket.number);
        granted.then_some(Outcome::Granted)
    }

    pub(super) fn wait(&mut self, ticket: Ticket, inode: InodeId, wait: Wait) {
        let session = self.0.entry(ticket.session).or_default();
        session.waits.insert(ticket.number, (inode, wait));
        session.inodes.insert(inode);
    }

    pub(super) fn stop_waiting(&mut self, ticket: Ticket) -> Option<(InodeId, Wait)> {
        self.0
            .get_mut(&ticket.session)?
            .waits
            .remove(&ticket.number)
    }

    /// Remembers a grant, unless there is too much to remember: then it cannot be taken back.
    pub(super) fn note_granted(&mut self, granted: Granted) {
        if granted.before.len() > LOCK_PIECES_PUT_BACK_MAX {
            return;
        }
        let session = self.0.entry(granted.ticket.session).or_default();
        let place = (granted.inode, granted.owner);
        session.tickets.insert(granted.ticket.number, place);
        session.granted.insert(place, granted);
    }

    pub(super) fn take_granted(&mut self, ticket: Ticket) -> Option<Granted> {
        let session = self.0.get_mut(&ticket.session)?;
        let place = session.tickets.remove(&ticket.number)?;
        session.granted.remove(&place)
    }

    /// An owner goes on with what it was granted.
    pub(super) fn settle(&mut self, inode: InodeId, owner: Owner) {
        if let Some(session) = self.0.get_mut(&owner.session)
            && let Some(granted) = session.granted.remove(&(inode, owner))
        {
            session.tickets.remove(&granted.ticket.number);
        }
    }

    /// The pieces of one owner on one inode have become more or fewer.
    pub(super) fn count(&mut self, session: SessionId, inode: InodeId, before: usize, now: usize) {
        if before == now {
            return;
        }
        let session = self.0.entry(session).or_default();
        session.held = session.held + now - before;
        session.inodes.insert(inode);
    }

    pub(super) fn leave_inode(&mut self, session: SessionId, inode: InodeId) {
        if let Some(session) = self.0.get_mut(&session) {
            session.inodes.remove(&inode);
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        self.0.remove(&session);
    }
}
