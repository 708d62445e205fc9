//! open_by_handle_at: from an inode's number to the inode, with no name on the way.
//!
//! The kernel asks so for inodes that it has dropped from its caches, by the names "." and "..".

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, ReadDirectory, reply, request};

use crate::filesystem::unexpected;
use crate::{Errno, FileSystem, Leased};

/// The cookie of ".", which ".." follows.
const COOKIE_SELF: u64 = 1;

impl FileSystem {
    /// The entry of an inode that has a name, by which nothing may be remembered. ESTALE if it has
    /// none any more: what is open still cannot be found anew.
    pub(super) async fn find(&self, inode: InodeId) -> Result<Leased<Entry>, Errno> {
        let found = self.get_attributes(inode).await?;
        let links = found
            .value
            .attributes
            .as_ref()
            .map_or(0, |it| it.link_count);
        if links == 0 {
            return Err(Errno(libc::ESTALE));
        }
        let entry = Entry {
            name_valid_ms: 0,
            ..found.value.clone()
        };
        Ok(found.with(entry))
    }

    /// The directory that holds this one.
    pub(super) async fn parent_of(&self, directory: InodeId) -> Result<InodeId, Errno> {
        let request = ReadDirectory {
            inode: directory.0,
            cookie: COOKIE_SELF,
            entries_max: 1,
            with_attributes: false,
        };
        let answer = self
            .call(request::Operation::ReadDirectory(request))
            .await?;
        let parent = match &answer.value {
            reply::Result::ReadDirectory(page) => page.entries.first(),
            _ => return Err(Errno::from(unexpected())),
        };
        let parent = parent.ok_or(Errno(libc::ESTALE))?;
        Ok(InodeId(parent.inode))
    }
}
