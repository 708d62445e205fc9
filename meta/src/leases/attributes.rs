//! Leases on attributes: who holds one on which inode.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pocket_proto::{InodeId, SessionId};
use tokio::time::Instant;

use super::{Grantee, Holder};
use crate::namespace::IdHasher;

/// By inode. An entry is there exactly while the queue of due times names it.
#[derive(Debug, Default)]
pub(super) struct AttributeLeases(HashMap<InodeId, Holders, BuildHasherDefault<IdHasher>>);

/// Nearly always one, which needs no memory of its own.
#[derive(Debug)]
struct Holders {
    first: Option<Lease>,
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
        let holders = self.0.entry(inode).or_insert_with(|| {
            is_new = true;
            Holders {
                first: None,
                others: Vec::new(),
            }
        });
        if let Some(own) = holders.of(to.session) {
            *own = lease;
        } else if holders.first.is_none() {
            holders.first = Some(lease);
        } else {
            holders.others.push(lease);
        }
        is_new
    }

    pub(super) fn holders(
        &self,
        inode: InodeId,
        except: SessionId,
        now: Instant,
    ) -> impl Iterator<Item = Holder> {
        let holders = self.0.get(&inode).into_iter();
        holders
            .flat_map(|holders| holders.first.iter().chain(&holders.others))
            .map(|lease| lease.holder)
            .filter(move |holder| holder.session != except && holder.expires > now)
    }

    pub(super) fn drop_before(&mut self, inode: InodeId, session: SessionId, recall: u64) {
        if let Some(holders) = self.0.get_mut(&inode) {
            holders.retain(|lease| lease.holder.session != session || lease.recalls >= recall);
        }
    }

    /// Drops what holders there are; the entry stays until it is due.
    pub(super) fn forget(&mut self, inode: InodeId) {
        if let Some(holders) = self.0.get_mut(&inode) {
            holders.retain(|_| false);
        }
    }

    /// Takes the entry out, or says when it is due again.
    pub(super) fn sweep(&mut self, inode: InodeId, now: Instant) -> Option<Instant> {
        let holders = self.0.get_mut(&inode)?;
        holders.retain(|lease| lease.holder.expires > now);
        let leases = holders.first.iter().chain(&holders.others);
        let due = leases.map(|lease| lease.holder.expires).max();
        if due.is_none() {
            self.0.remove(&inode);
        }
        due
    }
}

impl Holders {
    fn of(&mut self, session: SessionId) -> Option<&mut Lease> {
        let mut leases = self.first.iter_mut().chain(&mut self.others);
        leases.find(|lease| lease.holder.session == session)
    }

    fn retain(&mut self, keep: impl Fn(&Lease) -> bool) {
        self.first = self.first.take().filter(&keep);
        self.others.retain(keep);
    }
}
