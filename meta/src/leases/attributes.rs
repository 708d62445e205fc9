//! Leases on attributes: who holds one on which inode.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pocket_proto::{InodeId, SessionId};
use tokio::time::Instant;

use super::{Grantee, Holder};
use crate::namespace::IdHasher;

#[derive(Debug, Default)]
pub(super) struct AttributeLeases {
    /// An entry is there exactly while the queue of due times names it.
    by_inode: HashMap<InodeId, Holders, BuildHasherDefault<IdHasher>>,
    leases: usize,
}

/// Nearly always one, which needs no memory of its own.
#[derive(Debug, Default)]
struct Holders {
    first: Option<Lease>,
    /// In the order of their sessions: there may be thousands.
    others: Vec<Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    holder: Holder,
    /// Recalls sent to the holder before.
    recalls: u64,
}

impl AttributeLeases {
    /// True if the inode had no entry before.
    pub(super) fn grant(&mut self, inode: InodeId, to: Grantee, expires: Instant) -> bool {
        let lease = Lease {
            holder: Holder {
                session: to.session,
                expires,
            },
            recalls: to.recalls,
        };
        let mut is_new = false;
        let holders = self.by_inode.entry(inode).or_insert_with(|| {
            is_new = true;
            Holders::default()
        });
        self.leases += usize::from(holders.put(lease));
        is_new
    }

    /// How many there are, of all inodes.
    pub(super) fn count(&self) -> usize {
        self.leases
    }

    pub(super) fn holders(
        &self,
        inode: InodeId,
        except: SessionId,
        now: Instant,
    ) -> impl Iterator<Item = Holder> {
        let holders = self.by_inode.get(&inode).into_iter();
        holders
            .flat_map(|holders| holders.first.iter().chain(&holders.others))
            .map(|lease| lease.holder)
            .filter(move |holder| holder.session != except && holder.expires > now)
    }

    pub(super) fn drop_before(&mut self, inode: InodeId, session: SessionId, recall: u64) {
        self.retain(inode, |lease| {
            lease.holder.session != session || lease.recalls >= recall
        });
    }

    /// Drops what holders there are; the entry stays until it is due.
    pub(super) fn forget(&mut self, inode: InodeId) {
        self.retain(inode, |_| false);
    }

    /// Takes the entry out, or says when it is due again.
    pub(super) fn sweep(&mut self, inode: InodeId, now: Instant) -> Option<Instant> {
        let holders = self.retain(inode, |lease| lease.holder.expires > now)?;
        let leases = holders.first.iter().chain(&holders.others);
        let due = leases.map(|lease| lease.holder.expires).max();
        if due.is_none() {
            self.by_inode.remove(&inode);
        }
        due
    }

    fn retain(&mut self, inode: InodeId, keep: impl Fn(&Lease) -> bool) -> Option<&Holders> {
        let holders = self.by_inode.get_mut(&inode)?;
        self.leases -= holders.retain(keep);
        Some(holders)
    }
}

impl Holders {
    /// True if the session had none.
    fn put(&mut self, lease: Lease) -> bool {
        let session = lease.holder.session;
        let others = &mut self.others;
        let is_first = |first: &Lease| first.holder.session == session;
        match others.binary_search_by_key(&session, |lease| lease.holder.session) {
            Ok(own) => {
                others[own] = lease;
                false
            }
            Err(at) => match self.first {
                Some(first) if !is_first(&first) => {
                    others.insert(at, lease);
                    true
                }
                _ => self.first.replace(lease).is_none(),
            },
        }
    }

    /// Answers how many are gone.
    fn retain(&mut self, keep: impl Fn(&Lease) -> bool) -> usize {
        let count = |holders: &Self| holders.others.len() + usize::from(holders.first.is_some());
        let before = count(self);
        self.first = self.first.take().filter(&keep);
        self.others.retain(keep);
        before - count(self)
    }
}
