//! chmod, chown, utimensat, truncate.

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, SetAttributes, Time, request};

use crate::file::FILE_BYTES_MAX;
use crate::{Errno, FileSystem, Leased};

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
        let _alone = match (&open, change.size_bytes) {
            (Some(file), Some(_)) => {
                let alone = file.length.write().await;
                // Buffered data go first: the servers cut what they have.
                self.flush_file(file).await?;
                Some(alone)
            }
            _ => None,
        };
        if let (Some(file), true) = (&open, change.modified.is_some()) {
            // A later flush must not replace the time that is set here.
            file.forget_modified();
        }
        self.inodes.forget(inode);
        let request = self.request(inode, &change);
        let answer = self
            .call_entry(request::Operation::SetAttributes(request))
            .await;
        let answer = answer.inspect_err(|_| self.inodes.forget(inode))?;
        if let Some(file) = &open {
            file.refresh(&answer.value, answer.since);
            if let Some(size) = change.size_bytes {
                let now = self.inodes.tick();
                file.with(|state| state.resized(size, now));
                self.drop_kept(file);
            }
        }
        Ok(self.shown(answer))
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
