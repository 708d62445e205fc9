//! read(2).

use std::sync::Arc;

use crate::file::{Pattern, ReadData};
use crate::handle::FileHandle;
use crate::{Errno, FileSystem, HandleId};

impl FileSystem {
    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file.
    ///
    /// EIO where the data were on a server that is gone; never zeros or older bytes instead.
    pub async fn read(
        self: &Arc<Self>,
        handle: HandleId,
        offset: u64,
        length: u32,
    ) -> Result<ReadData, Errno> {
        if let Some(told) = self.read_control(handle, offset, length) {
            return Ok(told);
        }
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        handle.refuse_if_locks_lost()?;
        let file = &handle.file;
        let window_max = self.config.read_ahead_blocks_max;
        let pattern = handle
            .read_ahead
            .note(offset, length, file.block_bytes, window_max);
        let Pattern::Sequential { ahead } = pattern else {
            let data = self.read_file(file, offset, length, false).await?;
            handle.note_read(offset, data.len() as u64);
            self.vouch_for_locks(&handle).await?;
            self.counts.read_bytes.add(data.len() as u64);
            return Ok(data);
        };
        self.read_ahead(file, ahead);
        let data = self.read_file(file, offset, length, true).await?;
        handle.note_read(offset, data.len() as u64);
        self.drop_behind(file, offset, offset.saturating_add(u64::from(length)));
        self.vouch_for_locks(&handle).await?;
        self.counts.read_bytes.add(data.len() as u64);
        Ok(data)
    }

    /// What was read under a lock was read while the lock was there.
    async fn vouch_for_locks(&self, handle: &FileHandle) -> Result<(), Errno> {
        if self.locks.is_locked(handle.file.inode) {
            self.stay_in_touch().await?;
        }
        handle.refuse_if_locks_lost()
    }
}
