//! link(2).

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, Link, request};

use crate::{Errno, FileSystem, Leased};

impl FileSystem {
    /// Gives an inode one more name.
    pub async fn link(
        &self,
        inode: InodeId,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Leased<Entry>, Errno> {
        self.refuse_if_read_only()?;
        let request = Link {
            inode: inode.0,
            parent: parent.0,
            name: name.to_vec().into(),
        };
        self.inodes.forget(inode);
        self.inodes.disown(inode);
        self.exclusive.doubt(parent, name);
        let linked = self.call_shown(request::Operation::Link(request)).await;
        self.name_asked(parent, name, &linked);
        Ok(linked?)
    }
}
