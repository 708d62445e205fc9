//! stat: an inode's attributes.

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, GetAttributes, request};

use crate::{Errno, FileSystem, Leased};

impl FileSystem {
    /// The attributes of an inode, with what is buffered on this mount shown in them. The server is
    /// asked where no lease says that they are known: the kernel drops attributes after every
    /// operation that may have changed them, and asks for them with the next one.
    pub async fn get_attributes(&self, inode: InodeId) -> Result<Leased<Entry>, Errno> {
        if let Some(entry) = self.control_entry(inode) {
            return entry;
        }
        if let Some(kept) = self.kept_entry(inode) {
            return Ok(self.shown(kept).await?);
        }
        let request = GetAttributes { inode: inode.0 };
        Ok(self
            .call_shown(request::Operation::GetAttributes(request))
            .await?)
    }
}
