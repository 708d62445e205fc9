//! The locks that programs of this mount have or wait for, as far as the mount must know of them:
//! the metadata server holds them, and knows nothing of handles.
//!
//! Whoever may have a lock is entered before the server is asked, so that closing finds it however
//! the answer travels. Lock order: this table's, then the coherence's.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use pocket_proto::InodeId;
use tokio::sync::oneshot;

use crate::HandleId;

/// Which system call a lock comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// flock(2).
    Flock,
    /// fcntl(2): of a process. A kernel that does not tell them apart has open files' locks here.
    Record,
    /// fcntl(2) with F_OFD_SETLK and its like.
    OpenFile,
}

/// Whose a lock is: the kernel's number of a process or of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockOwner {
    /// Which system call it uses.
    pub kind: LockKind,
    /// The kernel's number.
    pub id: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MountLocks {
    tables: Mutex<Tables>,
    tickets: AtomicU64,
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct Tables {
    files: HashMap<InodeId, HashMap<LockOwner, Holding>>,
    /// Those who wait, by ticket. Dropping one tells it that the session is lost.
    waits: HashMap<u64, oneshot::Sender<()>>,
}

/// What one owner has to do with a file.
#[derive(Debug, Default)]
struct Holding {
    /// Through which it has locked.
    handles: BTreeSet<u64>,
    /// Requests whose answer is not known.
    under_way: usize,
    /// Requests so far.
    begun: u64,
    /// It may have a lock.
    holds: bool,
}

/// What a request of an owner has left it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It has a lock.
    Held,
    /// It has what it had before.
    AsBefore,
    /// What it had is gone.
    Nothing,
}

impl MountLocks {
    /// Whether any program has locked anything through this mount.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether any program of this mount has a lock on the file, or asks for one.
    pub(crate) fn is_locked(&self, inode: InodeId) -> bool {
        self.is_used() && self.tables.lock().files.contains_key(&inode)
    }

    /// A number that no other request has.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// An owner is about to lock.
    pub(crate) fn begin(&self, inode: InodeId, owner: LockOwner, handle: HandleId) {
        self.used.store(true, Ordering::Relaxed);
        let mut tables = self.tables.lock();
        let holding = tables.files.entry(inode).or_default();
        let holding = holding.entry(owner).or_default();
        holding.handles.insert(handle.0);
        holding.under_way += 1;
        holding.begun += 1;
    }

    /// A request is over. False, and without effect on what is held, unless `still` holds: the
    /// session in which it was asked goes on.
    pub(crate) fn end(
        &self,
        inode: InodeId,
        owner: LockOwner,
        ended: Ended,
        still: impl FnOnce() -> bool,
    ) -> bool {
        let mut tables = self.tables.lock();
        let still = still();
        let Some(owners) = tables.files.get_mut(&inode) else {
            return still;
        };
        if let Entry::Occupied(mut entry) = owners.entry(owner) {
            let holding = entry.get_mut();
            holding.under_way = holding.under_way.saturating_sub(1);
            match ended {
                Ended::Held if still => holding.holds = true,
                // Another thread may have locked behind this.
                Ended::Nothing if holding.under_way == 0 => holding.holds = false,
                Ended::Held | Ended::Nothing | Ended::AsBefore => {}
            }
            if holding.under_way == 0 && !holding.holds {
                entry.remove();
            }
        }
        if owners.is_empty() {
            tables.files.remove(&inode);
        }
        still
    }

    /// How many requests an owner has made; `None` if it has no lock on a file, nor may soon.
    pub(crate) fn begun(&self, inode: InodeId, owner: LockOwner) -> Option<u64> {
        let tables = self.tables.lock();
        Some(tables.files.get(&inode)?.get(&owner)?.begun)
    }

    /// An owner has no lock on a file any more, unless it has begun to lock since.
    pub(crate) fn has_unlocked_all(&self, inode: InodeId, owner: LockOwner, begun: u64) {
        let mut tables = self.tables.lock();
        let Some(owners) = tables.files.get_mut(&inode) else {
            return;
        };
        owners.retain(|other, holding| {
            *other != owner || holding.begun != begun || holding.under_way > 0
        });
        if owners.is_empty() {
            tables.files.remove(&inode);
        }
    }

    /// An owner lets go of a file. False if it has no lock there.
    pub(crate) fn let_go(&self, inode: InodeId, owner: LockOwner) -> bool {
        let mut tables = self.tables.lock();
        let Some(owners) = tables.files.get_mut(&inode) else {
            return false;
        };
        let Entry::Occupied(mut entry) = owners.entry(owner) else {
            return false;
        };
        entry.get_mut().holds = false;
        if entry.get().under_way == 0 {
            entry.remove();
        }
        if owners.is_empty() {
            tables.files.remove(&inode);
        }
        true
    }

    /// A handle is closed for the last time: owners that have locked through no other let go.
    ///
    /// An open file has locked through its one handle. A process has told when it closed; it is
    /// found here only where the kernel does not tell of that.
    pub(crate) fn close(&self, inode: InodeId, handle: HandleId) -> Vec<LockOwner> {
        let mut tables = self.tables.lock();
        let Some(owners) = tables.files.get_mut(&inode) else {
            return Vec::new();
        };
        let mut gone = Vec::new();
        owners.retain(|owner, holding| {
            let is_last = holding.handles.remove(&handle.0) && holding.handles.is_empty();
            if is_last {
                gone.push(*owner);
            }
            !is_last
        });
        if owners.is_empty() {
            tables.files.remove(&inode);
        }
        gone
    }

    /// The session is lost, and all locks with it: answers the files that were locked. Who waits
    /// is woken.
    pub(crate) fn lose_session(&self) -> HashSet<InodeId> {
        let mut tables = self.tables.lock();
        tables.waits.clear();
        let mut lost = HashSet::new();
        tables.files.retain(|inode, owners| {
            owners.retain(|_, holding| {
                if std::mem::take(&mut holding.holds) {
                    lost.insert(*inode);
                }
                holding.under_way > 0
            });
            !owners.is_empty()
        });
        lost
    }

    /// Hears of the grant for a ticket; hears nothing if the session is lost.
    pub(crate) fn wait(&self, ticket: u64) -> oneshot::Receiver<()> {
        let (granted, hear) = oneshot::channel();
        self.tables.lock().waits.insert(ticket, granted);
        hear
    }

    /// The server has granted what was waited for. Who has given up meanwhile has said so.
    pub(crate) fn granted(&self, ticket: u64) {
        if let Some(granted) = self.tables.lock().waits.remove(&ticket) {
            let _ = granted.send(());
        }
    }

    /// Nobody waits for it any more.
    pub(crate) fn stop_waiting(&self, ticket: u64) {
        self.tables.lock().waits.remove(&ticket);
    }
}
