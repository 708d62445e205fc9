//! chmod, chown, utimensat, truncate.

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, SetAttributes, Time, request};

use crate::{Errno, FileSystem, Leased};

/// Largest size of a file, bytes (2^63 - 1, as off_t has it).
pub(crate) const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// How a time is to be changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimeChange {
    /// To the server's clock.
    Now,
    /// To this time.
    To(Time),
}

/// What to change; absent stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributesRequest {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size_bytes: Option<u64>,
    /// Access time.
    pub accessed: Option<TimeChange>,
    /// Modification time.
    pub modified: Option<TimeChange>,
    /// The caller may not keep set-id bits over a change of size.
    pub clear_set_id: bool,
}

impl FileSystem {
    /// Changes attributes; answers them as they are then.
    ///
    /// A change of size drops or zeroes what lies beyond before it answers. EFBIG for a size no
    /// file can have.
    pub async fn set_attributes(
        self: &Arc<Self>,
        inode: InodeId,
        change: SetAttributesRequest,
    ) -> Result<Leased<Entry>, Errno> {
        self.refuse_if_read_only()?;
        if change.size_bytes.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(Errno(libc::EFBIG));
        }
        let open = self.files.get(inode);
        if let Some(file) = &open {
            if change.size_bytes.is_some() {
                // Buffered data go first: the servers cut what they have.
                self.flush_file(file).await?;
                self.drop_kept(file);
            } else if change.modified.is_some() {
                // A later flush must not replace the time that is set here.
                file.forget_modified();
            }
        }
        let request = self.request(inode, &change);
        self.inodes.forget(inode);
        let answer = self
            .call_entry(request::Operation::SetAttributes(request))
            .await;
        self.inodes.forget(inode);
        let answer = answer?;
        if let Some(file) = &open {
            if let Some(size) = change.size_bytes {
                file.with(|state| state.resized(size));
                self.drop_kept(file);
            }
            file.refresh(&answer.value);
        }
        Ok(self.shown(Leased {
            since: self.inodes.tick(),
            ..answer
        }))
    }

    fn request(&self, inode: InodeId, change: &SetAttributesRequest) -> SetAttributes {
        let to = |time: Option<TimeChange>| match time {
            Some(TimeChange::To(time)) => Some(time),
            _ => None,
        };
        SetAttributes {
            inode: inode.0,
            mode: change.mode,
            uid: change.uid,
            gid: change.gid,
            size_bytes: change.size_bytes,
            accessed: to(change.accessed),
            modified: to(change.modified),
            accessed_now: change.accessed == Some(TimeChange::Now),
            modified_now: change.modified == Some(TimeChange::Now),
            clear_set_id: change.clear_set_id,
            changed: None,
        }
    }
}
