//! link(2).

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, Link, request};

use crate::{Errno, FileSystem, Leased};

impl FileSystem {
    /// Gives an inode one more name, or its first. Whoever finds a file by that name reads what was
    /// written to it through this mount before.
    pub async fn link(
        self: &Arc<Self>,
        inode: InodeId,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Leased<Entry>, Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_change(inode)?;
        self.refuse_to_make(parent, name)?;
        let request = Link {
            inode: inode.0,
            parent: parent.0,
            name: name.to_vec().into(),
        };
        if let Some(file) = self.files.get(inode) {
            self.flush_file(&file).await?;
        }
        self.inodes.forget(inode);
        self.inodes.disown(inode);
        self.exclusive.doubt(parent, name);
        let linked = self.call_shown(request::Operation::Link(request)).await;
        self.name_asked(parent, name, &linked);
        Ok(linked?)
    }
}
