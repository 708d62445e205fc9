//! lseek(2) to data and to holes.

use std::collections::BTreeSet;
use std::sync::Arc;

use pocket_proto::Failure;

use crate::file::{File, Gone};
use crate::{Errno, FileSystem, HandleId};

/// Where a block ends in the middle, its last page is data to its end, as elsewhere.
const PAGE_BYTES: u64 = 4096;

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTarget {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE; there is one at the end of every file.
    Hole,
}

impl FileSystem {
    /// The first offset from `offset` on that is data, or a hole.
    ///
    /// What is in this mount's memory is data, and so is what a storage server holds: a whole block
    /// or its beginning. ENXIO at or behind the end of the file, and where no data follow.
    pub async fn seek(
        self: &Arc<Self>,
        handle: HandleId,
        offset: u64,
        target: SeekTarget,
    ) -> Result<u64, Errno> {
        if let Some(found) = self.seek_control(handle, offset, target) {
            return found;
        }
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        handle.refuse_if_locks_lost()?;
        let file = &handle.file;
        if let Some(status) = file.with(|state| state.dead) {
            return Err(status.into());
        }
        let size = self.size_now(file).await?;
        let dense = file.with(|state| state.is_dense());
        if offset >= size {
            return Err(Errno(libc::ENXIO));
        }
        if dense {
            return Ok(match target {
                SeekTarget::Data => offset,
                SeekTarget::Hole => size,
            });
        }
        // What was stored through a mapping is data, even if the kernel alone knows of it.
        let _ = self.drop_pages(file.inode).await;
        let found = match target {
            SeekTarget::Data => self.next_data(file, offset, size).await?,
            SeekTarget::Hole => Some(self.next_hole(file, offset, size).await?),
        };
        found.ok_or(Errno(libc::ENXIO))
    }

    async fn next_data(&self, file: &File, offset: u64, size: u64) -> Result<Option<u64>, Failure> {
        let block_bytes = u64::from(file.block_bytes);
        let (mut block, end) = (offset / block_bytes, (size - 1) / block_bytes + 1);
        // Looked at first: what is sent meanwhile is found on its server.
        let memory = file.with(|state| state.blocks_in_memory(block));
        while block < end {
            let held = self.held_blocks(file, block..end, Gone::Fails).await?;
            let buffered = memory.range(block..held.told_to).next().copied();
            let stored = held.lengths.iter().find(|(block, length)| {
                let data_end = *block * block_bytes + u64::from(**length);
                data_end.next_multiple_of(PAGE_BYTES) > offset
            });
            let stored = stored.map(|(block, _)| *block);
            if let Some(first) = buffered.into_iter().chain(stored).min() {
                return Ok(Some(offset.max(first * block_bytes)));
            }
            block = held.told_to;
        }
        Ok(None)
    }

    async fn next_hole(&self, file: &File, offset: u64, size: u64) -> Result<u64, Failure> {
        let block_bytes = u64::from(file.block_bytes);
        let (mut block, end) = (offset / block_bytes, (size - 1) / block_bytes + 1);
        let memory: BTreeSet<u64> = file.with(|state| state.blocks_in_memory(block));
        while block < end {
            let held = self.held_blocks(file, block..end, Gone::Fails).await?;
            while block < held.told_to {
                let from = block * block_bytes;
                let length = match memory.contains(&block) {
                    true => block_bytes,
                    false => u64::from(held.length(block)).next_multiple_of(PAGE_BYTES),
                };
                if length < block_bytes && from + length < size {
                    return Ok(offset.max(from + length));
                }
                block += 1;
            }
        }
        Ok(size)
    }
}
