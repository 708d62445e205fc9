//! readlink(2).

use bytes::Bytes;
use pocket_proto::InodeId;
use pocket_proto::session::{ReadLink, reply, request};

use crate::filesystem::unexpected;
use crate::{Errno, FileSystem};

impl FileSystem {
    /// Where a symbolic link points.
    pub async fn read_link(&self, inode: InodeId) -> Result<Bytes, Errno> {
        let request = request::Operation::ReadLink(ReadLink { inode: inode.0 });
        match self.call(request).await?.value {
            reply::Result::ReadLink(link) => Ok(link.target),
            _ => Err(unexpected().into()),
        }
    }
}
