//! Access control lists that the kernel holds.
//!
//! The kernel keeps a list without a limit of time: until it is told to drop the inode's
//! attributes, or asks for these anew. What the metadata server leases it recalls, but a lease that
//! lapses is not recalled; so before that the kernel is told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pocket_proto::InodeId;

/// Inodes at once; beyond, the kernel drops one's lists earlier. Some 3 MB.
const INODES_MAX: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(crate) struct KernelAcls {
    /// When the kernel is to drop an inode's lists.
    due: Mutex<HashMap<InodeId, Instant>>,
}

impl KernelAcls {
    /// The kernel is given a list that is leased for so long. Answers an inode whose lists the
    /// kernel must drop now.
    pub(crate) fn given(&self, inode: InodeId, validity: Duration) -> Option<InodeId> {
        if validity.is_zero() {
            return Some(inode);
        }
        let mut due = self.due.lock();
        let one_too_many = match due.len() >= INODES_MAX && !due.contains_key(&inode) {
            true => due.keys().next().copied(),
            false => None,
        };
        if let Some(other) = one_too_many {
            due.remove(&other);
        }
        due.insert(inode, Instant::now() + validity);
        one_too_many
    }

    /// Inodes whose lists the kernel holds: it is to drop them all.
    pub(crate) fn take_all(&self) -> Vec<InodeId> {
        self.due.lock().drain().map(|(inode, _)| inode).collect()
    }

    /// Inodes whose lists are not leased for longer than `margin` any more: the kernel is to drop
    /// them.
    pub(crate) fn take_due(&self, margin: Duration) -> Vec<InodeId> {
        let by = Instant::now() + margin;
        let mut due = self.due.lock();
        due.extract_if(|_, when| *when <= by)
            .map(|(inode, _)| inode)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_list_that_is_not_leased_is_dropped_at_once() {
        let acls = KernelAcls::default();
        assert_eq!(acls.given(InodeId(1), Duration::ZERO), Some(InodeId(1)));
        assert_eq!(acls.take_due(LONG), []);
    }

    #[test]
    fn a_list_is_dropped_once_before_its_lease_lapses() {
        let acls = KernelAcls::default();
        assert_eq!(acls.given(InodeId(1), LONG), None);
        assert_eq!(acls.given(InodeId(2), LONG * 3), None);
        assert_eq!(acls.take_due(Duration::ZERO), []);
        assert_eq!(acls.take_due(LONG), [InodeId(1)]);
        assert_eq!(acls.take_due(LONG), []);
    }

    #[test]
    fn no_more_inodes_are_remembered_than_fit() {
        let acls = KernelAcls::default();
        for inode in 0..INODES_MAX as u64 {
            assert_eq!(acls.given(InodeId(inode), LONG), None);
        }
        assert_eq!(acls.given(InodeId(3), LONG), None);
        let dropped = acls.given(InodeId(u64::MAX), LONG);
        assert!(dropped.is_some_and(|dropped| dropped.0 < INODES_MAX as u64));
        assert_eq!(acls.take_due(LONG * 2).len(), INODES_MAX);
    }
}
