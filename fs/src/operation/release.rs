//! The last close of a handle.

use std::sync::Arc;

use pocket_proto::session::{Close, request};

use super::Access;
use crate::handle::FileHandle;
use crate::read_to_end::ReadRanges;
use crate::{FileSystem, HandleId};

impl FileSystem {
    /// Gives a handle back. What is still buffered is written back first; a failure can only be
    /// logged, as close(2) has returned.
    pub async fn release(self: &Arc<Self>, id: HandleId) {
        if self.control.release(id) {
            return;
        }
        let Some(handle) = self.handles.remove_file(id) else {
            return;
        };
        let file = &handle.file;
        if handle.access == Access::Write
            && let Err(failure) = self.flush_file(file).await
        {
            tracing::warn!(inode = %file.inode, %failure, "data lost after close");
        }
        // Behind the data: who locks next reads them.
        self.release_locks_of(file.inode, id);
        let _one = file.counting.lock().await;
        // Told in the session that counts it, or not at all.
        let last = self.coherence.steady(|| {
            let closed = self.files.close(file, handle.access);
            if closed.counted {
                self.tell_closed(&handle);
            }
            closed.last
        });
        if last {
            self.retire_kept(file);
            let unused = file.with(|state| state.give_up_reservation());
            self.space.give_back(unused);
        }
    }

    fn tell_closed(&self, handle: &FileHandle) {
        let file = &handle.file;
        let close = Close {
            inode: file.inode.0,
            write: handle.access == Access::Write,
            read_bytes: handle.read.as_ref().and_then(ReadRanges::bytes_from_start),
        };
        let is_read_once = handle.read.is_some();
        let close = request::Operation::Close(close);
        let told = match handle.access {
            // It may go now, and its space is needed.
            Access::Read if is_read_once => self.metadata.tell(close),
            Access::Read => self.metadata.tell_soon(close),
            // Nobody else knows it.
            Access::Write if self.is_owned(file.inode) => self.metadata.tell_soon(close),
            // Others may wait for the file to be theirs alone again.
            Access::Write => self.metadata.tell(close),
        };
        if let Err(failure) = told {
            tracing::debug!(inode = %file.inode, %failure, "close not announced");
        }
    }

    /// Gives a directory's handle back.
    pub async fn release_directory(&self, handle: HandleId) {
        let handle = self.handles.remove_directory(handle);
        if let Some(handle) = handle
            && let Some(era) = handle.kept
            && self.kernel_listings.release(handle.inode, era)
        {
            self.drop_listings(vec![handle.inode]).await;
        }
    }
}
