//! The table of open files: one [`File`] per inode, however many handles.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pocket_proto::InodeId;
use pocket_proto::session::Entry;

use super::state::OpenNumber;
use super::{File, Sharing};
use crate::inode_cache::Tick;
use crate::operation::Access;

const SHARDS: usize = 16;

/// See the module.
#[derive(Default)]
pub(crate) struct OpenFiles {
    shards: [Mutex<HashMap<InodeId, Arc<File>>>; SHARDS],
    /// Files opened so far.
    opened: AtomicU64,
}

impl OpenFiles {
    fn shard(&self, inode: InodeId) -> &Mutex<HashMap<InodeId, Arc<File>>> {
        &self.shards[inode.0 as usize % SHARDS]
    }

    /// The file, if it is open.
    pub(crate) fn get(&self, inode: InodeId) -> Option<Arc<File>> {
        self.shard(inode).lock().get(&inode).cloned()
    }

    /// One more handle on `inode`, whose entry and sharing the server has answered in a session to a
    /// request that went out at `since`.
    pub(crate) fn open(
        &self,
        inode: InodeId,
        (entry, sharing): (&Entry, Sharing),
        since: Tick,
        session: u64,
        access: Access,
    ) -> Arc<File> {
        let mut shard = self.shard(inode).lock();
        let alive = |file: &&Arc<File>| file.with(|state| state.dead.is_none());
        let file = match shard.get(&inode).filter(alive) {
            Some(file) => {
                file.refresh(entry, since);
                file.with(|state| {
                    if sharing == Sharing::Through || state.dirty.is_empty() {
                        state.sharing = sharing;
                    }
                });
                Arc::clone(file)
            }
            None => {
                let number = OpenNumber(self.opened.fetch_add(1, Ordering::Relaxed));
                let file = Arc::new(File::new(inode, number, (entry, sharing), session));
                shard.insert(inode, Arc::clone(&file));
                file
            }
        };
        file.count(access);
        file
    }

    /// One more handle on a file that is open already, without asking the server.
    pub(crate) fn open_again(&self, file: &Arc<File>, access: Access) -> Arc<File> {
        let mut shard = self.shard(file.inode).lock();
        // Its last handle may have been closed a moment ago.
        let file = shard.entry(file.inode).or_insert_with(|| Arc::clone(file));
        file.count(access);
        Arc::clone(file)
    }

    /// One handle less. True if it was the last: the file is no longer in the table.
    pub(crate) fn close(&self, file: &Arc<File>, access: Access) -> bool {
        let mut shard = self.shard(file.inode).lock();
        let last = file.with(|state| {
            let count = match access {
                Access::Read => &mut state.readers,
                Access::Write => &mut state.writers,
            };
            *count = count.saturating_sub(1);
            state.opens() == (0, 0)
        });
        let listed = shard.get(&file.inode);
        if last && listed.is_some_and(|listed| Arc::ptr_eq(listed, file)) {
            shard.remove(&file.inode);
        }
        last
    }

    /// Every open file.
    pub(crate) fn all(&self) -> Vec<Arc<File>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect()
    }
}

impl File {
    fn count(&self, access: Access) {
        self.with(|state| match access {
            Access::Read => state.readers += 1,
            Access::Write => state.writers += 1,
        });
    }
}
