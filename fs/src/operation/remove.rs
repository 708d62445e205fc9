//! unlink(2) and rmdir(2).

use pocket_proto::InodeId;
use pocket_proto::session::{Remove, request};

use crate::{Errno, FileSystem};

impl FileSystem {
    /// Removes a name that is not a directory. The inode goes with its last name and last open.
    pub async fn unlink(&self, parent: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, false).await
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: InodeId, name: &[u8]) -> Result<(), Errno> {
        self.remove(parent, name, true).await
    }

    async fn remove(&self, parent: InodeId, name: &[u8], directory: bool) -> Result<(), Errno> {
        self.refuse_if_read_only()?;
        let request = Remove {
            parent: parent.0,
            name: name.to_vec().into(),
            directory,
        };
        let done = self.call_done(request::Operation::Remove(request)).await;
        self.name_changed(parent, name);
        Ok(done?)
    }
}
