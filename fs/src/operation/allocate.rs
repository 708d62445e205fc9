//! fallocate(2).

use std::ops::Range;
use std::sync::Arc;

use pocket_proto::{Failure, Fill};

use super::Access;
use crate::file::{FILE_BYTES_MAX, File, Sharing};
use crate::{Errno, FileSystem, HandleId};

/// What is to become of a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateMode {
    /// Its space is there, so that writing it does not fail for want of it.
    Allocate,
    /// It reads as zeros and gives its space back.
    PunchHole,
    /// It reads as zeros, and its space is there.
    ZeroRange,
}

/// How to allocate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateRequest {
    /// What is to be done.
    pub mode: AllocateMode,
    /// The file does not grow, even if the range ends behind it.
    pub keep_size: bool,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// The caller may not keep set-id bits.
    pub clear_set_id: bool,
}

impl AllocateMode {
    /// Reads fallocate(2)'s mode; beside it, whether the size is kept.
    ///
    /// EOPNOTSUPP for what is not offered, and for holes that would change the size.
    pub fn from_flags(flags: i32) -> Result<(Self, bool), Errno> {
        let keep_size = flags & libc::FALLOC_FL_KEEP_SIZE != 0;
        match flags & !libc::FALLOC_FL_KEEP_SIZE {
            0 => Ok((AllocateMode::Allocate, keep_size)),
            libc::FALLOC_FL_PUNCH_HOLE if keep_size => Ok((AllocateMode::PunchHole, true)),
            libc::FALLOC_FL_ZERO_RANGE => Ok((AllocateMode::ZeroRange, keep_size)),
            _ => Err(Errno(libc::EOPNOTSUPP)),
        }
    }
}

impl FileSystem {
    /// Allocates, punches or zeroes a range of a file.
    ///
    /// EDQUOT before anything is done; ENOSPC where servers turn out to be full, what they took
    /// until then stays allocated. EFBIG past the largest size, EINVAL for an empty range.
    pub async fn allocate(
        self: &Arc<Self>,
        handle: HandleId,
        request: AllocateRequest,
    ) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        let handle = self.handles.file(handle).ok_or(Errno(libc::EBADF))?;
        let file = &handle.file;
        if handle.access != Access::Write {
            return Err(Errno(libc::EBADF));
        }
        if request.length == 0 {
            return Err(Errno(libc::EINVAL));
        }
        let end = request.offset.checked_add(request.length);
        let end = end.filter(|end| *end <= FILE_BYTES_MAX);
        let range = request.offset..end.ok_or(Errno(libc::EFBIG))?;
        if let Some(status) = file.with(|state| state.refuses_writes(handle.era)) {
            return Err(status.into());
        }
        if request.clear_set_id && file.has_set_id() {
            self.clear_set_id(file).await?;
        }
        // What is buffered goes first, and nobody writes until it is done.
        let _alone = file.length.write().await;
        let _changing = self.begin_change(file).await?;
        self.flush_file(file).await?;
        if file.with(|state| state.sharing == Sharing::Through) {
            // Others may have moved the end of the file.
            let entry = self.fetch_attributes(file.inode).await?;
            file.refresh(&entry.value, entry.since);
        }
        file.with(|state| state.touch());
        let done = match request.mode {
            AllocateMode::PunchHole => self.punch(file, range).await,
            AllocateMode::Allocate => {
                self.fill(file, range, request.keep_size, Fill::Missing)
                    .await
            }
            AllocateMode::ZeroRange => self.fill(file, range, request.keep_size, Fill::All).await,
        };
        // Whatever came of it: what readers were given before is out of date.
        self.drop_kept(file);
        self.contents.forget(file.inode);
        let committed = self.commit_file(file).await;
        Ok(done.and(committed)?)
    }

    async fn punch(&self, file: &File, range: Range<u64>) -> Result<(), Failure> {
        let session = file.with(|state| state.session);
        let punched = self.punch_range(file, &range).await;
        let punched = self.stores.outlive(session, punched).await;
        file.with(|state| {
            state.punched();
            if punched.is_ok() {
                state.zeroed(file.block_bytes, &range);
            }
        });
        punched
    }

    async fn fill(
        self: &Arc<Self>,
        file: &File,
        range: Range<u64>,
        keep_size: bool,
        fill: Fill,
    ) -> Result<(), Failure> {
        let space = self.space_missing(file, &range).await?;
        self.take_space(space).await?;
        file.with(|state| state.begin_through(space));
        let session = file.with(|state| state.session);
        let allocated = self.allocate_range(file, &range, fill).await;
        let allocated = self.stores.outlive(session, allocated).await;
        file.with(|state| {
            state.end_through();
            let grows = allocated.is_ok() && !keep_size;
            let end = if grows { range.end } else { state.size };
            if fill == Fill::All && allocated.is_ok() {
                state.zeroed(file.block_bytes, &range);
            }
            match &allocated {
                Ok(()) => state.allocated(file.block_bytes, range, end),
                Err(_) => state.allocated_in_part(range),
            }
        });
        allocated
    }
}
