//! Whether a wait would never end: those it waits for wait, at last, for who asks.
//!
//! Only record locks are looked through, as on Linux: they belong to processes, and a process that
//! waits does nothing else. (One with several threads may; it is refused all the same, there as
//! here.) The locks of open files may be given back by anyone who shares the file.

use std::collections::HashSet;

use pocket_proto::InodeId;

use super::sessions::Wait;
use super::{Kind, Locks};

impl Locks {
    /// Whether waiting would close a circle.
    pub(super) fn would_deadlock(&self, inode: InodeId, wait: Wait) -> bool {
        if wait.owner.kind != Kind::Record {
            return false;
        }
        let mut seen = HashSet::new();
        let mut ahead = vec![(inode, wait)];
        while let Some((inode, Wait { owner, lock })) = ahead.pop() {
            let list = self.list(inode, owner.kind);
            for blocker in list.blockers(owner, lock.range, lock.mode) {
                if blocker == wait.owner {
                    return true;
                }
                if blocker.kind == Kind::Record && seen.insert(blocker) {
                    ahead.extend(self.sessions.waits_of(blocker));
                }
            }
        }
        false
    }
}
