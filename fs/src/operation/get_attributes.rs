//! stat: an inode's attributes.

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, GetAttributes, request};

use crate::{Errno, FileSystem, Leased};

impl FileSystem {
    /// The attributes of an inode, with what is buffered on this mount shown in them.
    pub async fn get_attributes(&self, inode: InodeId) -> Result<Leased<Entry>, Errno> {
        let request = GetAttributes { inode: inode.0 };
        Ok(self
            .call_shown(request::Operation::GetAttributes(request))
            .await?)
    }
}
