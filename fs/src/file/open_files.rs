//! The table of open files: one [`File`] per inode, however many handles.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pocket_proto::InodeId;
use pocket_proto::session::Entry;
use tokio::sync::RwLock;

use super::state::OpenNumber;
use super::{File, Sharing};
use crate::inode_cache::Tick;
use crate::operation::Access;

const SHARDS: usize = 16;
/// From here on gates that nobody holds are cleared away before another is made.
const GATES_KEPT: usize = 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct OpenFiles {
    shards: [Mutex<HashMap<InodeId, Arc<File>>>; SHARDS],
    /// Files opened so far.
    opened: AtomicU64,
    gates: Mutex<HashMap<InodeId, Weak<RwLock<()>>>>,
}

/// What the close of a handle came to.
pub(crate) struct Closed {
    /// No other handle is open.
    pub(crate) last: bool,
    /// The server counts it, and is to hear of it.
    pub(crate) counted: bool,
}

impl OpenFiles {
    fn shard(&self, inode: InodeId) -> &Mutex<HashMap<InodeId, Arc<File>>> {
        &self.shards[inode.0 as usize % SHARDS]
    }

    /// The file, if it is open.
    pub(crate) fn get(&self, inode: InodeId) -> Option<Arc<File>> {
        self.shard(inode).lock().get(&inode).cloned()
    }

    /// One more handle on `inode`, whose entry and sharing the server has answered to a request that
    /// went out at `since`; the newest that this mount knows of the inode is from `newest`. `session`: the
    /// one that this mount has, and whether that counts the handle.
    pub(crate) fn open(
        &self,
        inode: InodeId,
        (entry, sharing): (&Entry, Sharing),
        (since, newest): (Tick, Option<Tick>),
        (session, counted): (u64, bool),
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
                // Answers from before what was written when it was last open are not taken for newer
                // than that.
                file.with(|state| state.changed = newest);
                shard.insert(inode, Arc::clone(&file));
                file
            }
        };
        file.with(|state| state.counts.open(access, counted));
        file
    }

    /// Of an inode: held for writing by what cuts it, for reading by what opens it to be written, so
    /// that the answer to a cut never meets what was buffered since.
    pub(crate) fn gate(&self, inode: InodeId) -> Arc<RwLock<()>> {
        let mut gates = self.gates.lock();
        if let Some(gate) = gates.get(&inode).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= GATES_KEPT {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::default();
        gates.insert(inode, Arc::downgrade(&gate));
        gate
    }

    /// One more handle on a file that is open already, without asking the server.
    pub(crate) fn open_again(&self, file: &Arc<File>, access: Access) -> Arc<File> {
        let mut shard = self.shard(file.inode).lock();
        // Its last handle may have been closed a moment ago.
        let file = shard.entry(file.inode).or_insert_with(|| Arc::clone(file));
        file.with(|state| state.counts.open(access, true));
        Arc::clone(file)
    }

    /// One handle less. The last one takes the file out of the table.
    pub(crate) fn close(&self, file: &Arc<File>, access: Access) -> Closed {
        let mut shard = self.shard(file.inode).lock();
        let closed = file.with(|state| Closed {
            counted: state.counts.close(access),
            last: state.counts.is_closed(),
        });
        let listed = shard.get(&file.inode);
        if closed.last && listed.is_some_and(|listed| Arc::ptr_eq(listed, file)) {
            shard.remove(&file.inode);
        }
        closed
    }

    /// Every open file.
    pub(crate) fn all(&self) -> Vec<Arc<File>> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>())
            .collect()
    }
}
