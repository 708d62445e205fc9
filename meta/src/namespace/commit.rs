//! What writing does to a file: its size, its blocks, and where they are.

use pocket_proto::{BlockIndex, InodeId, ServerId, Status};

use super::{Content, File, Inode, Namespace};
use crate::limits::{BLOCK_EXCEPTIONS_MAX, FILE_BYTES_MAX};
use crate::now::Timestamp;

/// Data that storage servers hold now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitChange {
    /// The file is at least so long.
    pub(crate) size_bytes: u64,
    /// Bytes that its blocks grew by.
    pub(crate) allocated_bytes: i64,
    /// When it was written; `None` leaves the times alone.
    pub(crate) modified: Option<Timestamp>,
    pub(crate) clear_set_id: bool,
    /// Some of the bytes may lie behind the size.
    pub(crate) allocated_behind: bool,
}

impl Namespace {
    /// Checks a commit, and says whether anything that others see would change.
    pub(crate) fn plan_commit(&self, id: InodeId, change: &CommitChange) -> Result<bool, Status> {
        let file = match &self.inode(id)?.content {
            Content::File(file) => file,
            Content::Directory(_) => return Err(Status::IsDirectory),
            _ => return Err(Status::Invalid),
        };
        if change.size_bytes > FILE_BYTES_MAX {
            return Err(Status::TooLarge);
        }
        Ok(change.size_bytes > file.size_bytes
            || change.allocated_bytes != 0
            || change.modified.is_some()
            || change.clear_set_id
            || (change.allocated_behind && !file.allocated_behind))
    }

    /// Commits. Returns by how much the file's allocated bytes changed.
    pub(crate) fn commit(
        &mut self,
        id: InodeId,
        change: &CommitChange,
        now: Timestamp,
    ) -> Result<i64, Status> {
        let (inode, total) = self.file_mut(id)?;
        if change.clear_set_id {
            inode.clear_set_id();
        }
        if let Some(modified) = change.modified {
            inode.modified = modified;
            inode.changed = now;
            inode.xattrs.drop_capability();
        }
        let file = file_of(inode);
        file.used_up &= change.modified.is_none() && change.size_bytes <= file.size_bytes;
        file.size_bytes = file.size_bytes.max(change.size_bytes);
        file.allocated_behind |= change.allocated_behind;
        Ok(add_allocated(file, total, change.allocated_bytes))
    }

    /// Sets a size without touching times: what a truncation that failed takes back.
    pub(crate) fn restore_size(&mut self, id: InodeId, size_bytes: u64) {
        if let Ok((inode, _)) = self.file_mut(id) {
            let file = file_of(inode);
            file.size_bytes = file.size_bytes.max(size_bytes);
        }
    }

    /// All blocks behind the size are gone, those allocated there among them; where the size is 0, that is all blocks.
    pub(crate) fn end_truncation(&mut self, id: InodeId) {
        if let Ok((inode, total)) = self.file_mut(id) {
            let file = file_of(inode);
            file.allocated_behind = false;
            if file.size_bytes == 0 {
                *total -= file.allocated_bytes;
                file.allocated_bytes = 0;
                file.uncertain = false;
            }
        }
    }

    /// Corrects the allocated bytes of a file by what storage servers said.
    pub(crate) fn add_allocated(&mut self, id: InodeId, bytes: i64) {
        if let Ok((inode, total)) = self.file_mut(id) {
            add_allocated(file_of(inode), total, bytes);
        }
    }

    /// Reserves room for an append: directly behind the data and what is reserved already.
    /// Returns where.
    pub(crate) fn reserve_append(&mut self, id: InodeId, length: u64) -> Result<u64, Status> {
        let (inode, _) = self.file_mut(id)?;
        let file = file_of(inode);
        let offset = file.size_bytes.max(file.reserved_end);
        let end = offset
            .checked_add(length)
            .filter(|&end| end <= FILE_BYTES_MAX)
            .ok_or(Status::TooLarge)?;
        if length > 0 {
            file.reserved_end = end;
        }
        Ok(offset)
    }

    /// Gives up what was reserved of a file from `offset` on, if it is the last of what is.
    pub(crate) fn return_append(
        &mut self,
        id: InodeId,
        offset: u64,
        length: u64,
    ) -> Result<(), Status> {
        let (inode, _) = self.file_mut(id)?;
        let file = file_of(inode);
        if length > 0 && offset.checked_add(length) == Some(file.reserved_end) {
            file.reserved_end = if offset > file.size_bytes { offset } else { 0 };
        }
        Ok(())
    }

    /// Gives up reservations that nobody can fill any more, as the file's last writer left.
    pub(crate) fn end_reservations(&mut self, id: InodeId) {
        if let Ok((inode, _)) = self.file_mut(id) {
            file_of(inode).reserved_end = 0;
        }
    }

    /// Notes that a writer was lost, whose last blocks nobody counted. What they hold may be new, so
    /// the file is not what it was.
    pub(crate) fn mark_uncertain(&mut self, id: InodeId, now: Timestamp) {
        if let Ok((inode, _)) = self.file_mut(id) {
            inode.changed = now;
            file_of(inode).uncertain = true;
        }
    }

    /// Notes that the first `read_bytes` of the file were read through one handle: if that is all of
    /// a file that is read once, it is used up.
    pub(crate) fn note_read(&mut self, id: InodeId, read_bytes: u64) {
        if let Ok((inode, _)) = self.file_mut(id)
            && inode.is_read_once()
        {
            let file = file_of(inode);
            file.used_up |= read_bytes >= file.size_bytes;
        }
    }

    /// Records that a block is on `server`, whatever the map says.
    pub(crate) fn relocate(
        &mut self,
        id: InodeId,
        block: BlockIndex,
        server: ServerId,
    ) -> Result<&File, Status> {
        let (inode, _) = self.file_mut(id)?;
        let file = file_of(inode);
        let exceptions = &mut file.exceptions;
        if exceptions.len() >= BLOCK_EXCEPTIONS_MAX && !exceptions.contains_key(&block) {
            return Err(Status::LimitReached);
        }
        exceptions.insert(block, server);
        Ok(file)
    }
}

fn file_of(inode: &mut Inode) -> &mut File {
    match &mut inode.content {
        Content::File(file) => file,
        _ => unreachable!("checked to be a file"),
    }
}

/// Returns the change that took place: neither a file nor a job holds less than nothing.
fn add_allocated(file: &mut File, total: &mut u64, bytes: i64) -> i64 {
    if bytes >= 0 {
        // Saturates where a peer makes up figures; real ones are nowhere near.
        let room = (i64::MAX as u64).saturating_sub(*total);
        let added = bytes.unsigned_abs().min(room);
        file.allocated_bytes += added;
        *total += added;
        added as i64
    } else {
        let removed = bytes.unsigned_abs().min(file.allocated_bytes);
        file.allocated_bytes -= removed;
        *total -= removed;
        -(removed as i64)
    }
}
