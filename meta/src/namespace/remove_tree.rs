//! Taking a directory away with all that is in it.

use bytes::Bytes;
use pocket_proto::{InodeId, Status};

use super::links::Link;
use super::{Content, Namespace, check_name};
use crate::now::Timestamp;

impl Namespace {
    /// Checks that `name` is a directory that can go as it is. Returns it.
    pub(crate) fn plan_detach(&self, parent: InodeId, name: &[u8]) -> Result<InodeId, Status> {
        check_name(name)?;
        let id = self.directory(parent)?.get(name).ok_or(Status::NotFound)?;
        self.directory(id).map(|_| id)
    }

    /// Takes the name of a directory away, whatever is in it. No names are put into it any more; it
    /// stays until it is empty and forgotten.
    pub(crate) fn detach(&mut self, parent: InodeId, name: &[u8], id: InodeId, now: Timestamp) {
        let (directory, links) = self.changed_directory(parent, now);
        let cookie = directory.remove(name);
        *links = links.saturating_sub(1);
        let link = Link {
            directory: parent,
            cookie,
        };
        self.lose_name(id, link, now);
    }

    /// Has no names put into a directory any more.
    pub(crate) fn close_directory(&mut self, id: InodeId) {
        if let Some(inode) = self.inodes.get_mut(&id)
            && inode.is_directory()
        {
            inode.link_count = 0;
        }
    }

    /// The first names of a directory, `count` at most; none of what is no directory.
    pub(crate) fn first_names(&self, id: InodeId, count: usize) -> Vec<(Bytes, InodeId)> {
        let Ok(inode) = self.inode(id) else {
            return Vec::new();
        };
        match &inode.content {
            Content::Directory(directory) => directory
                .behind(0)
                .take(count)
                .map(|(_, name, inode)| (name.clone(), inode))
                .collect(),
            _ => Vec::new(),
        }
    }
}
