//! copy_file_range(2).

use std::sync::Arc;

use bytes::Bytes;
use pocket_proto::Failure;

use super::Access;
use crate::file::{FILE_BYTES_MAX, File, Sharing};
use crate::handle::FileHandle;
use crate::{Errno, FileSystem, HandleId};

/// One call copies no more, so that it ends soon; programs go on where it stopped.
const COPY_BYTES_MAX: u64 = 64 << 20;
/// What goes through the mount goes in pieces of this many bytes.
const PIECE_BYTES_MAX: u64 = 1 << 20;

/// A place in an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// The file.
    pub handle: HandleId,
    /// Bytes from its start.
    pub offset: u64,
}

/// What to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// Where from.
    pub from: FilePlace,
    /// Where to.
    pub to: FilePlace,
    /// Number of bytes.
    pub length: u64,
    /// The caller may not keep set-id bits.
    pub clear_set_id: bool,
}

/// A copy under way.
struct Copy {
    from: Arc<FileHandle>,
    to: Arc<FileHandle>,
    request: CopyRequest,
}

impl FileSystem {
    /// Copies bytes between files of the job, or within one; answers how many, which may be fewer
    /// than asked for, and are 0 at the end of the source.
    ///
    /// Blocks that one server holds are copied there, if both ranges lie alike in their blocks;
    /// everything else goes through this mount's memory. EINVAL where the ranges overlap.
    pub async fn copy_range(self: &Arc<Self>, request: CopyRequest) -> Result<u64, Errno> {
        self.refuse_if_read_only()?;
        let find = |place: FilePlace| self.handles.file(place.handle).ok_or(Errno(libc::EBADF));
        let (from, to) = (find(request.from)?, find(request.to)?);
        from.refuse_if_locks_lost()?;
        if to.access != Access::Write {
            return Err(Errno(libc::EBADF));
        }
        if let Some(status) = to.file.with(|state| state.refuses_writes(to.era)) {
            return Err(status.into());
        }
        let size = self.size_now(&from.file).await?;
        let length = request.length.min(size.saturating_sub(request.from.offset));
        if length == 0 {
            return Ok(0);
        }
        let (start, target) = (request.from.offset, request.to.offset);
        if target > FILE_BYTES_MAX - length.min(FILE_BYTES_MAX) {
            return Err(Errno(libc::EFBIG));
        }
        let overlap = target + length > start && target < start + length;
        if from.file.inode == to.file.inode && overlap {
            return Err(Errno(libc::EINVAL));
        }
        if request.clear_set_id && to.file.has_set_id() {
            self.clear_set_id(&to.file).await?;
        }
        let copy = Copy { from, to, request };
        let (copied, outcome) = self.copy_pieces(&copy, length.min(COPY_BYTES_MAX)).await;
        copy.from.note_read(start, copied);
        // What servers copied is committed here, as nothing is buffered that would be later.
        let committed = match copy.to.file.with(|state| state.has_through()) {
            true => self.commit_file(&copy.to.file).await,
            false => Ok(()),
        };
        match outcome.and(committed) {
            Err(failure) if copied == 0 => Err(failure.into()),
            _ => Ok(copied),
        }
    }

    async fn copy_pieces(self: &Arc<Self>, copy: &Copy, length: u64) -> (u64, Result<(), Failure>) {
        let mut copied = 0;
        while copied < length {
            match self.copy_next(copy, copied, length - copied).await {
                // The source has been cut meanwhile.
                Ok(0) => break,
                Ok(bytes) => copied += bytes,
                Err(failure) => return (copied, Err(failure)),
            }
        }
        (copied, Ok(()))
    }

    /// Copies a piece that begins `at` bytes into the ranges; answers its length.
    async fn copy_next(self: &Arc<Self>, copy: &Copy, at: u64, left: u64) -> Result<u64, Failure> {
        let (start, target) = (copy.request.from.offset + at, copy.request.to.offset + at);
        let block_bytes = u64::from(copy.from.file.block_bytes);
        let alike = copy.to.file.block_bytes == copy.from.file.block_bytes
            && start % block_bytes == target % block_bytes;
        let to_boundary = block_bytes - start % block_bytes;
        if alike {
            let length = left.min(to_boundary) as u32;
            if self
                .copy_on_server((&copy.from.file, start), (&copy.to.file, target), length)
                .await?
            {
                return Ok(u64::from(length));
            }
        }
        let most = if alike { to_boundary } else { PIECE_BYTES_MAX };
        let length = left.min(most).min(PIECE_BYTES_MAX) as u32;
        let data = self.read_for_copy(copy, start, length).await?;
        let mut written = 0;
        for piece in data {
            let bytes = piece.len() as u64;
            self.place(&copy.to.file, Some(target + written), piece)
                .await?;
            written += bytes;
        }
        Ok(written)
    }

    async fn read_for_copy(
        self: &Arc<Self>,
        copy: &Copy,
        offset: u64,
        length: u32,
    ) -> Result<Vec<Bytes>, Failure> {
        let data = self
            .read_file(&copy.from.file, offset, length, true)
            .await?;
        let end = offset + u64::from(length);
        self.drop_behind(&copy.from.file, offset, end);
        Ok(data.pieces().to_vec())
    }

    /// Copies a piece that lies in one block of each file, if one server holds both.
    async fn copy_on_server(
        self: &Arc<Self>,
        from: (&Arc<File>, u64),
        to: (&Arc<File>, u64),
        length: u32,
    ) -> Result<bool, Failure> {
        let through = |file: &File| file.with(|state| state.sharing == Sharing::Through);
        if through(from.0) || through(to.0) || !self.on_one_server(from, to).await? {
            return Ok(false);
        }
        let space = to.0.space_needed(Some(to.1), length);
        self.take_space(space).await?;
        // Nobody writes to the one nor cuts the other; in the order of their numbers, as another
        // copy may go the other way.
        let (source, target) = (from.0, to.0);
        let (_reading, _writing);
        if source.inode < target.inode {
            _reading = Some(source.length.read().await);
            _writing = target.length.write().await;
        } else {
            _writing = target.length.write().await;
            _reading = match source.inode == target.inode {
                true => None,
                false => Some(source.length.read().await),
            };
        }
        let _changing = match self.begin_change(to.0).await {
            Ok(changing) => changing,
            Err(failure) => {
                self.space.give_back(space as i64);
                return Err(failure);
            }
        };
        let size = from.0.with(|state| state.size);
        if size < from.1 + u64::from(length) {
            self.space.give_back(space as i64);
            // It was cut; whatever is left is read.
            return Ok(false);
        }
        to.0.with(|state| state.begin_through(space));
        let session = to.0.with(|state| state.session);
        let copied = self.copy_piece(from, to, length).await;
        let copied = self.stores.outlive(session, copied).await;
        if let Ok(false) = copied {
            to.0.with(|state| state.cancel_through(space));
            self.space.give_back(space as i64);
        } else {
            to.0.with(|state| state.end_through());
        }
        copied
    }
}
