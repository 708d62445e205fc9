//! Handles: what open(2) and opendir(3) gave out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use pocket_proto::InodeId;

use crate::file::{File, ReadAhead};
use crate::kernel_listings::Era;
use crate::operation::{Access, DirectoryStream};
use crate::read_to_end::ReadRanges;

const SHARDS: usize = 16;

/// Names an open file or directory of this mount. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// An open file description.
pub(crate) struct FileHandle {
    pub(crate) file: Arc<File>,
    pub(crate) access: Access,
    /// Failures of write-backs that were told through this handle, or came before it.
    pub(crate) failures_seen: AtomicU64,
    /// The file's era when it was opened: the session that counts it.
    pub(crate) era: u64,
    pub(crate) read_ahead: ReadAhead,
    /// What was read through it, if the file goes once it was read to the end.
    pub(crate) read: Option<ReadRanges>,
}

impl FileHandle {
    /// Notes that `length` bytes were read at `offset`.
    pub(crate) fn note_read(&self, offset: u64, length: u64) {
        if let Some(read) = &self.read {
            read.note(offset, length);
        }
    }
}

/// An open directory.
pub(crate) struct DirectoryHandle {
    pub(crate) inode: InodeId,
    /// The kernel keeps what it is told through this.
    pub(crate) kept: Option<Era>,
    pub(crate) stream: tokio::sync::Mutex<DirectoryStream>,
}

/// The tables of both.
#[derive(Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    count: AtomicUsize,
    files: [RwLock<HashMap<u64, Arc<FileHandle>>>; SHARDS],
    directories: RwLock<HashMap<u64, Arc<DirectoryHandle>>>,
}

impl Handles {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn insert_file(&self, handle: FileHandle) -> HandleId {
        let id = self.next();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.files[id as usize % SHARDS]
            .write()
            .insert(id, Arc::new(handle));
        HandleId(id)
    }

    pub(crate) fn file(&self, id: HandleId) -> Option<Arc<FileHandle>> {
        self.files[id.0 as usize % SHARDS]
            .read()
            .get(&id.0)
            .cloned()
    }

    pub(crate) fn remove_file(&self, id: HandleId) -> Option<Arc<FileHandle>> {
        let removed = self.files[id.0 as usize % SHARDS].write().remove(&id.0);
        self.removed(removed)
    }

    pub(crate) fn insert_directory(&self, handle: DirectoryHandle) -> HandleId {
        let id = self.next();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.directories.write().insert(id, Arc::new(handle));
        HandleId(id)
    }

    pub(crate) fn directory(&self, id: HandleId) -> Option<Arc<DirectoryHandle>> {
        self.directories.read().get(&id.0).cloned()
    }

    pub(crate) fn remove_directory(&self, id: HandleId) -> Option<Arc<DirectoryHandle>> {
        let removed = self.directories.write().remove(&id.0);
        self.removed(removed)
    }

    /// Handles of both kinds.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn removed<T>(&self, handle: Option<T>) -> Option<T> {
        if handle.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        handle
    }
}
