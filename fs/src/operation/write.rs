//! write(2).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pocket_proto::session::{ReturnAppend, SetAttributes, request};
use pocket_proto::{Failure, Status};
use tokio::sync::OwnedSemaphorePermit;

use crate::file::{
    Buffered, FILE_BYTES_MAX, File, NewData, Sharing, State, Touched, WriteData, pieces,
};
use crate::{Errno, FileSystem, HandleId};

/// Longer writes are taken in pieces of this many bytes, as the kernel does.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Buffered data of a file are sent in the background when so much of the write budget is used.
const PRESSURE: f64 = 0.5;

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteRequest {
    /// Where, unless `append`.
    pub offset: u64,
    /// At the end of the file, wherever that is (O_APPEND).
    pub append: bool,
    /// On the servers before it returns (O_SYNC, O_DSYNC).
    pub synchronous: bool,
    /// The writer may not keep set-id bits.
    pub clear_set_id: bool,
    /// Whole pages of the kernel's cache, in which a program has stored something.
    pub pages: bool,
}

impl WriteRequest {
    /// Why it cannot be done through a handle of such an era.
    fn refused(&self, state: &State, era: u64) -> Option<Status> {
        let pages = self.pages.then(|| state.refuses_pages()).flatten();
        pages.or(state.refuses_writes(era))
    }
}

impl FileSystem {
    /// Tries to take a write without waiting for anything. None: [`FileSystem::write`] must do it.
    pub fn try_write(
        self: &Arc<Self>,
        handle: HandleId,
        write: WriteRequest,
        data: WriteData<'_>,
    ) -> Option<Result<u32, Errno>> {
        let handle = self.handles.file(handle)?;
        let file = &handle.file;
        let refused = write.synchronous || self.config.read_only || data.is_empty();
        if refused || data.len() > WRITE_BYTES_MAX || (write.clear_set_id && file.has_set_id()) {
            return None;
        }
        let refuses = |state: &mut State| {
            state.sharing == Sharing::Through || write.refused(state, handle.era).is_some()
        };
        if file.with(refuses) {
            return None;
        }
        let _length = file.length.try_read().ok()?;
        let length = data.len() as u32;
        let permit = self.write_budget.try_take(length)?;
        let offset = (!write.append).then_some(write.offset);
        if offset.is_some_and(|offset| offset > FILE_BYTES_MAX - u64::from(length)) {
            return None;
        }
        let space = file.space_needed(offset, length);
        if !self.space.try_take(space) {
            return None;
        }
        let new = NewData {
            offset,
            data,
            space,
            permit,
        };
        match file.buffer(new) {
            Buffered::Done(touched) => {
                self.after_buffering(file, touched);
                self.counts.written_bytes.add(u64::from(length));
                Some(Ok(length))
            }
            Buffered::NeedsSpace | Buffered::GoesThrough | Buffered::TooLarge => {
                self.space.give_back(space as i64);
                None
            }
        }
    }

    /// Writes `data`; answers how much of it was written, which is less only if an error came in
    /// between.
    ///
    /// EDQUOT or ENOSPC when there is no room, EFBIG past the largest size; the file is then as
    /// before.
    pub async fn write(
        self: &Arc<Self>,
        handle: HandleId,
        write: WriteRequest,
        data: Bytes,
    ) -> Result<u32, Errno> {
        self.refuse_if_read_only()?;
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        let file = &handle.file;
        if let Some(status) = file.with(|state| write.refused(state, handle.era)) {
            return Err(status.into());
        }
        u32::try_from(data.len()).map_err(|_| Errno(libc::EINVAL))?;
        if write.clear_set_id && file.has_set_id() {
            self.clear_set_id(file).await?;
        }
        let mut written = 0;
        while written < data.len() {
            let end = data.len().min(written + WRITE_BYTES_MAX);
            let offset = write.offset.checked_add(written as u64);
            let offset = offset.ok_or(Errno(libc::EFBIG))?;
            let offset = (!write.append).then_some(offset);
            match self.place(file, offset, data.slice(written..end)).await {
                Ok(()) => written = end,
                Err(_) if written > 0 => break,
                Err(failure) => return Err(failure.into()),
            }
        }
        self.counts.written_bytes.add(written as u64);
        if write.synchronous {
            self.flush_file(file).await?;
            let seen = handle.failures_seen.load(Ordering::Acquire);
            if let (_, Some(failure)) = file.tell_failure(seen) {
                return Err(failure.into());
            }
            self.sync_names().await?;
        }
        Ok(written as u32)
    }

    /// Buffers the write, or takes it through. `offset`: none for the end of the file.
    pub(super) async fn place(
        self: &Arc<Self>,
        file: &Arc<File>,
        offset: Option<u64>,
        data: Bytes,
    ) -> Result<(), Failure> {
        let length = data.len() as u32;
        if offset.is_some_and(|offset| offset > FILE_BYTES_MAX - u64::from(length)) {
            return Err(Status::TooLarge.into());
        }
        let _length = file.length.read().await;
        loop {
            if file.with(|state| state.sharing == Sharing::Through) {
                return self.write_through(file, offset, data).await;
            }
            let space = file.space_needed(offset, length);
            self.take_space(space).await?;
            let permit = self.write_permit(length).await;
            let new = NewData {
                offset,
                data: WriteData::Shared(&data),
                space,
                permit,
            };
            let outcome = file.buffer(new);
            if let Buffered::Done(touched) = outcome {
                self.after_buffering(file, touched);
                return Ok(());
            }
            self.space.give_back(space as i64);
            if let Buffered::TooLarge = outcome {
                return Err(Status::TooLarge.into());
            }
            // Another write, or a recall, came in between: look again.
        }
    }

    /// Takes space from the grant. When there is none left for the job, what this mount has taken
    /// too much of (the whole of a block in a file with holes) is settled, and asked for once more.
    pub(super) async fn take_space(self: &Arc<Self>, bytes: u64) -> Result<(), Failure> {
        match self.space.take(bytes).await {
            Err(failure) if failure.status == Status::QuotaExceeded => {
                for file in self.files.all() {
                    // A failure of its own is told where it belongs.
                    let _ = self.flush_file(&file).await;
                }
                self.space.take(bytes).await
            }
            taken => taken,
        }
    }

    /// Waits for room in the write budget; what idle files hold is sent to make some.
    async fn write_permit(self: &Arc<Self>, length: u32) -> OwnedSemaphorePermit {
        if let Some(permit) = self.write_budget.try_take(length) {
            return permit;
        }
        // One writer goes round; the others just wait.
        if !self.making_room.swap(true, Ordering::AcqRel) {
            for file in self.files.all() {
                self.start_write_back_all(&file);
            }
            self.making_room.store(false, Ordering::Release);
        }
        self.write_budget.take(length).await
    }

    fn after_buffering(self: &Arc<Self>, file: &Arc<File>, touched: Touched) {
        if !touched.stale.is_empty() {
            self.drop_blocks(file, touched.stale);
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
        file: &Arc<File>,
        offset: Option<u64>,
        data: Bytes,
    ) -> Result<(), Failure> {
        let session = file.with(|state| state.session);
        if let Some(offset) = offset {
            let _changing = self.begin_change(file).await?;
            return self.write_at(file, session, offset, data).await.1;
        }
        let length = data.len() as u32;
        // The server reserves behind what it knows of: what was buffered before the file went
        // through must have been committed.
        self.flush_file(file).await?;
        // A place that cannot be written, with others behind it, reads as zeros: better none is
        // reserved where there is no space.
        let space = file.space_needed(None, length);
        self.take_space(space).await?;
        self.space.give_back(space as i64);
        let (_changing, offset) = self.begin_append(file, length).await?;
        let (stored, written) = self.write_at(file, session, offset, data).await;
        if written.is_err() {
            self.return_append(file, session, (offset + stored, u64::from(length) - stored));
        }
        written
    }

    /// Writes to the servers and commits; answers also how much they have.
    async fn write_at(
        self: &Arc<Self>,
        file: &Arc<File>,
        session: u64,
        offset: u64,
        data: Bytes,
    ) -> (u64, Result<(), Failure>) {
        let length = data.len() as u32;
        let space = file.space_needed(Some(offset), length);
        if let Err(failure) = self.take_space(space).await {
            return (0, Err(failure));
        }
        file.with(|state| state.begin_through(space));
        let _permit = self.write_permit(length).await;
        let (stored, outcome) = self.store_through(file, session, offset, data).await;
        file.with(|state| state.end_through());
        let committed = self.commit_file(file).await;
        (stored, outcome.and(committed))
    }

    /// Stores every piece, until one fails; answers how many bytes were stored. What was buffered of
    /// its block before the file went through goes first, so that it cannot come after.
    async fn store_through(
        self: &Arc<Self>,
        file: &Arc<File>,
        session: u64,
        offset: u64,
        data: Bytes,
    ) -> (u64, Result<(), Failure>) {
        let mut at = 0;
        for (block, start, length) in pieces(file.block_bytes, offset, data.len() as u32) {
            self.write_back_block(file, block).await;
            let piece = data.slice(at..at + length as usize);
            let piece = (start, piece.into());
            let allocated = match self.store(file, session, block, piece).await {
                Ok(allocated) => allocated,
                Err(failure) => return (at as u64, Err(failure)),
            };
            let from = offset + at as u64;
            at += length as usize;
            file.with(|state| state.stored_through(block, from, offset + at as u64, allocated));
            self.drop_blocks(file, [block]);
        }
        (at as u64, Ok(()))
    }

    /// The end of what was reserved in `session` is not needed: `range` is where it begins, and its
    /// length.
    fn return_append(&self, file: &File, session: u64, (offset, length): (u64, u64)) {
        let request = ReturnAppend {
            inode: file.inode.0,
            offset_bytes: offset,
            length_bytes: length,
        };
        self.coherence.stamped(|_, current| {
            // Reservations end with their session.
            if current == session && length > 0 {
                let told = self
                    .metadata
                    .tell(request::Operation::ReturnAppend(request));
                if let Err(failure) = told {
                    tracing::debug!(inode = %file.inode, %failure, "reservation not returned");
                }
            }
        });
    }

    pub(super) async fn clear_set_id(&self, file: &File) -> Result<(), Failure> {
        let request = SetAttributes {
            inode: file.inode.0,
            clear_set_id: true,
            ..SetAttributes::default()
        };
        self.inodes.forget(file.inode);
        let request = request::Operation::SetAttributes(request);
        let answer = self.call_entry(request).await?;
        file.refresh(&answer.value, answer.since);
        self.inodes.forget(file.inode);
        self.kernel().drop_attributes(file.inode);
        Ok(())
    }
}
