//! `.pocket`: a directory at the mount's root that tells of the mount itself.
//!
//! It is found by its name and listed nowhere, as `.zfs` and `.snapshot` are elsewhere, so that
//! whoever walks the tree sees the job's files alone. Its files cannot be changed. What is read
//! through a handle is what there was to tell when that was opened; like those of /proc the files
//! say that their size is 0, since nobody knows it before. The metadata server has never heard of any
//! of it.

mod files;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use pocket_metrics::Page;
use pocket_proto::InodeId;

use crate::{Errno, FileSystem, HandleId};

pub(crate) use files::is_control;

/// The directory's name in the root.
pub const CONTROL_DIRECTORY: &[u8] = b".pocket";
/// Handles that may be open at once: a page of text is held for each.
const OPEN_MAX: usize = 1024;
/// Numbers of handles have this bit, and those of the job's files do not get so far.
const HANDLE_BIT: u64 = 1 << 63;

/// What a mount can say of itself that the file system does not know.
#[async_trait]
pub trait ControlSource: Send + Sync {
    /// The settings of the mount, as lines of text.
    fn config(&self) -> String;

    /// The job: its hints, its allocation, what it costs. Asks others if that is needed, but waits
    /// for none for long.
    async fn job(&self) -> String;
}

/// Adds what somebody counts.
type AddToPage = dyn Fn(&mut Page) + Send + Sync;

/// What is behind the directory.
#[derive(Default)]
pub(crate) struct Control {
    source: OnceLock<Arc<dyn ControlSource>>,
    kernel_page: OnceLock<Box<AddToPage>>,
    opened: Mutex<HashMap<u64, Bytes>>,
    handles: AtomicU64,
}

impl Control {
    /// Adds what the kernel's side of the mount counts.
    pub(crate) fn add_kernel_page(&self, page: &mut Page) {
        if let Some(add) = self.kernel_page.get() {
            add(page);
        }
    }

    fn insert(&self, text: String) -> Result<HandleId, Errno> {
        let mut opened = self.opened.lock();
        if opened.len() >= OPEN_MAX {
            return Err(Errno(libc::ENFILE));
        }
        let id = HANDLE_BIT | self.handles.fetch_add(1, Ordering::Relaxed);
        opened.insert(id, text.into());
        Ok(HandleId(id))
    }

    /// The text behind a handle; none if it is not one of this directory.
    pub(crate) fn text(&self, handle: HandleId) -> Option<Bytes> {
        if handle.0 & HANDLE_BIT == 0 {
            return None;
        }
        self.opened.lock().get(&handle.0).cloned()
    }

    /// Gives a handle back; false if it is not one of this directory.
    pub(crate) fn release(&self, handle: HandleId) -> bool {
        handle.0 & HANDLE_BIT != 0 && self.opened.lock().remove(&handle.0).is_some()
    }
}

impl FileSystem {
    /// From now on `.pocket` tells what `source` says. Once.
    pub fn attach_control(&self, source: Arc<dyn ControlSource>) {
        let _ = self.control.source.set(source);
    }

    /// From now on the mount's metrics have what `add` adds. Once.
    pub fn attach_page(&self, add: impl Fn(&mut Page) + Send + Sync + 'static) {
        let _ = self.control.kernel_page.set(Box::new(add));
    }

    /// Refuses to make a name that is this directory's, with EEXIST, or that would be in it, with
    /// EPERM.
    pub(crate) fn refuse_to_make(&self, parent: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.refuse_to_change(parent)?;
        match parent == InodeId::ROOT && name == CONTROL_DIRECTORY {
            true => Err(Errno(libc::EEXIST)),
            false => Ok(()),
        }
    }

    /// Refuses with EPERM to remove or to move a name that is this directory's, or is in it.
    pub(crate) fn refuse_to_move(&self, parent: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.refuse_to_make(parent, name)
            .map_err(|_| Errno(libc::EPERM))
    }

    /// Refuses with EPERM to change this directory or what is in it.
    pub(crate) fn refuse_to_change(&self, inode: InodeId) -> Result<(), Errno> {
        match is_control(inode) {
            true => Err(Errno(libc::EPERM)),
            false => Ok(()),
        }
    }
}
