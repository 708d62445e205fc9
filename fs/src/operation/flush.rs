//! close(2), fsync(2), fdatasync(2).

use std::sync::Arc;

use super::Access;
use crate::{Errno, FileSystem, HandleId};

impl FileSystem {
    /// Brings what was written through any handle of the file to the servers and makes it visible
    /// to whoever opens next. Tells a failure of an earlier write, once.
    pub async fn flush(self: &Arc<Self>, handle: HandleId) -> Result<(), Errno> {
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        if let Some(status) = handle.file.with(|state| state.dead)
            && handle.access == Access::Write
        {
            return Err(status.into());
        }
        Ok(self.flush_file(&handle.file).await?)
    }

    /// As [`FileSystem::flush`]: there is no cache on the servers that could be lost alone.
    pub async fn fsync(self: &Arc<Self>, handle: HandleId) -> Result<(), Errno> {
        self.flush(handle).await
    }
}
