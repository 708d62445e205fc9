//! When inodes are looked at for having outlived their time: an ordered queue of those that have one.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use pocket_proto::InodeId;

use super::IdHasher;
use crate::now::Timestamp;

/// The inodes that end by themselves, each with when to look at it next.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    due: BTreeSet<(Timestamp, InodeId)>,
    of: HashMap<InodeId, Timestamp, BuildHasherDefault<IdHasher>>,
}

impl Expiry {
    /// Looks at the inode then, and not when it was to be looked at before.
    pub(super) fn set(&mut self, id: InodeId, at: Timestamp) {
        if let Some(before) = self.of.insert(id, at) {
            self.due.remove(&(before, id));
        }
        self.due.insert((at, id));
    }

    pub(super) fn forget(&mut self, id: InodeId) {
        if let Some(at) = self.of.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    /// Takes out the inode that is due first, if it is by `now`.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<InodeId> {
        let (at, id) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        self.of.remove(&id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_due_once_and_when_it_was_last_said() {
        let at = Timestamp::from_seconds;
        let mut expiry = Expiry::default();
        expiry.set(InodeId(1), at(10));
        expiry.set(InodeId(2), at(20));
        expiry.set(InodeId(1), at(30));
        expiry.set(InodeId(3), at(5));
        expiry.forget(InodeId(3));
        assert_eq!(expiry.take_due(at(19)), None);
        assert_eq!(expiry.take_due(at(40)), Some(InodeId(2)));
        assert_eq!(expiry.take_due(at(40)), Some(InodeId(1)));
        assert_eq!(expiry.take_due(at(40)), None);
    }
}
