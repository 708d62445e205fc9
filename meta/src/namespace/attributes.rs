//! Changing an inode's attributes, its size among them.

use pocket_proto::{InodeId, Status};

use super::inode::MODE_BITS;
use super::{Content, Namespace};
use crate::limits::FILE_BYTES_MAX;
use crate::now::Timestamp;

/// What is to be set; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AttributeChange {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) accessed: Option<Timestamp>,
    pub(crate) modified: Option<Timestamp>,
    /// The change time, if it is not to be now.
    pub(crate) changed: Option<Timestamp>,
    pub(crate) clear_set_id: bool,
}

impl Namespace {
    /// Checks that the attributes can be set, and says whether any would be.
    pub(crate) fn plan_set_attributes(
        &self,
        id: InodeId,
        change: &AttributeChange,
    ) -> Result<bool, Status> {
        let inode = self.inode(id)?;
        if let Some(size_bytes) = change.size_bytes {
            match inode.content {
                Content::File(_) if size_bytes > FILE_BYTES_MAX => return Err(Status::TooLarge),
                Content::File(_) => {}
                Content::Directory(_) => return Err(Status::IsDirectory),
                _ => return Err(Status::Invalid),
            }
        }
        Ok(*change != AttributeChange::default())
    }

    /// Sets the attributes of a plan that found something to set. A new size takes effect at once:
    /// blocks behind it are the caller's to drop. A new owner clears the set-id bits of anything
    /// but a directory, as chown(2) does.
    pub(crate) fn set_attributes(&mut self, id: InodeId, change: &AttributeChange, now: Timestamp) {
        let inode = self.planned(id);
        let given_away = change.uid.is_some() || change.gid.is_some();
        inode.uid = change.uid.unwrap_or(inode.uid);
        inode.gid = change.gid.unwrap_or(inode.gid);
        if let Some(mode) = change.mode {
            inode.mode = mode & MODE_BITS;
            let mut acls = inode.acls();
            acls.set_mode(mode);
            inode.take_acls(acls);
        } else if change.clear_set_id || (given_away && !inode.is_directory()) {
            inode.clear_set_id();
        }
        if let (Some(size_bytes), Content::File(file)) = (change.size_bytes, &mut inode.content) {
            file.size_bytes = size_bytes;
            file.reserved_end = 0;
            file.used_up = false;
            inode.modified = now;
        }
        inode.accessed = change.accessed.unwrap_or(inode.accessed);
        inode.modified = change.modified.unwrap_or(inode.modified);
        inode.changed = change.changed.unwrap_or(now);
    }
}
