//! write(2).

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::session::{ReserveAppend, SetAttributes, reply, request};
use pocket_proto::{Failure, Status};

use super::set_attributes::FILE_BYTES_MAX;
use crate::file::{Buffered, File, Sharing, Touched, pieces};
use crate::filesystem::unexpected;
use crate::handle::FileHandle;
use crate::{Errno, FileSystem, HandleId};

/// Buffered data of a file are sent in the background when so much of the write budget is used.
const PRESSURE: f64 = 0.5;

impl FileSystem {
    /// Tries to take a write without waiting for anything. None: [`FileSystem::write`] must do it.
    pub fn try_write(
        self: &Arc<Self>,
        handle: HandleId,
        offset: u64,
        data: &[u8],
    ) -> Option<Result<u32, Errno>> {
        let handle = self.handles.file(handle)?;
        let file = &handle.file;
        if handle.append || handle.synchronous || self.config.read_only || data.is_empty() {
            return None;
        }
        let length = u32::try_from(data.len()).ok()?;
        if offset > FILE_BYTES_MAX - u64::from(length) {
            return None;
        }
        if file.with(|state| state.dead.is_some() || state.sharing == Sharing::Through) {
            return None;
        }
        let permit = self.write_budget.try_take(length)?;
        let space = file.space_needed(offset, length);
        if !self.space.try_take(space) {
            return None;
        }
        match file.buffer(offset, data, space, permit) {
            Buffered::Done(touched) => {
                self.after_buffering(file, touched);
                Some(Ok(length))
            }
            Buffered::NeedsSpace | Buffered::GoesThrough => {
                self.space.give_back(space as i64);
                None
            }
        }
    }

    /// Writes `data` at `offset`, or at the end of the file if it was opened to append.
    ///
    /// EDQUOT or ENOSPC when there is no room, EFBIG past the largest size; the file is then as
    /// before. `clear_set_id`: the writer may not keep set-id bits.
    pub async fn write(
        self: &Arc<Self>,
        handle: HandleId,
        offset: u64,
        data: Bytes,
        clear_set_id: bool,
    ) -> Result<u32, Errno> {
        self.refuse_if_read_only()?;
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        let file = &handle.file;
        if let Some(status) = file.with(|state| state.dead) {
            return Err(status.into());
        }
        if clear_set_id && file.has_set_id() {
            self.clear_set_id(file).await?;
        }
        let length = u32::try_from(data.len()).map_err(|_| Errno(libc::EINVAL))?;
        if length == 0 {
            return Ok(0);
        }
        if !handle.append && offset > FILE_BYTES_MAX - u64::from(length) {
            return Err(Errno(libc::EFBIG));
        }
        self.place(&handle, offset, data).await?;
        if handle.synchronous {
            self.flush_file(file).await?;
        }
        Ok(length)
    }

    /// Buffers the write, or takes it through.
    async fn place(
        self: &Arc<Self>,
        handle: &FileHandle,
        offset: u64,
        data: Bytes,
    ) -> Result<(), Failure> {
        let file = &handle.file;
        let length = data.len() as u32;
        loop {
            let (through, end) = file.with(|state| (state.sharing == Sharing::Through, state.size));
            let offset = if handle.append { end } else { offset };
            if offset > FILE_BYTES_MAX - u64::from(length) {
                return Err(Status::TooLarge.into());
            }
            if through {
                return self.write_through(handle, offset, data).await;
            }
            let space = file.space_needed(offset, length);
            self.space.take(space).await?;
            let permit = self.write_permit(length).await;
            match file.buffer(offset, &data, space, permit) {
                Buffered::Done(touched) => {
                    self.after_buffering(file, touched);
                    return Ok(());
                }
                // Others wrote to the file meanwhile; look again.
                Buffered::NeedsSpace | Buffered::GoesThrough => {
                    self.space.give_back(space as i64);
                }
            }
        }
    }

    /// Waits for room in the write budget; what idle files hold is sent to make some.
    async fn write_permit(self: &Arc<Self>, length: u32) -> tokio::sync::OwnedSemaphorePermit {
        if let Some(permit) = self.write_budget.try_take(length) {
            return permit;
        }
        for file in self.files.all() {
            self.start_write_back_all(&file);
        }
        self.write_budget.take(length).await
    }

    fn after_buffering(self: &Arc<Self>, file: &Arc<File>, touched: Touched) {
        if !touched.stale.is_empty() {
            self.drop_blocks(file.inode, touched.stale);
        }
        for block in touched.full {
            self.start_write_back(file, block);
        }
        if self.write_budget.used() as f64 > PRESSURE * self.write_budget.total() as f64 {
            self.start_write_back_all(file);
        }
    }

    /// Writes to the servers and commits before it returns.
    async fn write_through(
        self: &Arc<Self>,
        handle: &FileHandle,
        offset: u64,
        data: Bytes,
    ) -> Result<(), Failure> {
        let file = &handle.file;
        let offset = if handle.append {
            self.reserve_append(file, data.len()).await?
        } else {
            offset
        };
        let length = data.len() as u32;
        let space = file.space_needed(offset, length);
        self.space.take(space).await?;
        let _permit = self.write_permit(length).await;
        let outcome = self.store_through(file, offset, data, space).await;
        let committed = self.commit_file(file).await;
        outcome.and(committed)
    }

    /// Stores every piece; what was stored is noted even if another piece failed.
    async fn store_through(
        &self,
        file: &File,
        offset: u64,
        data: Bytes,
        space: u64,
    ) -> Result<(), Failure> {
        file.with(|state| state.reserved_bytes += space as i64);
        let mut at = 0;
        for (block, start, length) in pieces(file.block_bytes, offset, data.len() as u32) {
            let piece = data.slice(at..at + length as usize);
            let allocated = self.store(file, block, start, piece).await?;
            at += length as usize;
            file.with(|state| state.stored(offset + at as u64, allocated));
        }
        Ok(())
    }

    async fn reserve_append(&self, file: &File, length: usize) -> Result<u64, Failure> {
        let request = ReserveAppend {
            inode: file.inode.0,
            length_bytes: length as u64,
        };
        match self
            .call(request::Operation::ReserveAppend(request))
            .await?
            .value
        {
            reply::Result::ReserveAppend(reserved) => Ok(reserved.offset_bytes),
            _ => Err(unexpected()),
        }
    }

    async fn clear_set_id(&self, file: &File) -> Result<(), Failure> {
        let request = SetAttributes {
            inode: file.inode.0,
            clear_set_id: true,
            ..SetAttributes::default()
        };
        self.inodes.forget(file.inode);
        let answer = self
            .call_entry(request::Operation::SetAttributes(request))
            .await?;
        file.refresh(&answer.value);
        self.inodes.forget(file.inode);
        self.kernel().drop_attributes(file.inode);
        Ok(())
    }
}
