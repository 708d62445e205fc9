//! Paths within a job, for callers without a kernel that walks them.

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{DirectoryEntry, Entry, FileKind};

use crate::operation::{Caller, NewNode, NodeRequest};
use crate::{Errno, FileSystem, HandleId};

impl FileSystem {
    /// The entry at `path`, relative to the job's root; empty components are skipped and symbolic
    /// links are not followed.
    pub async fn walk(self: &Arc<Self>, path: &[u8]) -> Result<Entry, Errno> {
        let mut entry = self.get_attributes(InodeId::ROOT).await?.value;
        for name in components(path) {
            let parent = inode_of(&entry).ok_or(Errno(libc::ENOENT))?;
            entry = self.lookup(parent, name).await?.value;
            inode_of(&entry).ok_or(Errno(libc::ENOENT))?;
        }
        Ok(entry)
    }

    /// The directory that holds the last component of `path`, made (mode 0755) with all above it
    /// if need be, and that component. EINVAL for a path without one.
    pub async fn walk_to_parent<'a>(
        self: &Arc<Self>,
        path: &'a [u8],
        caller: Caller,
    ) -> Result<(InodeId, &'a [u8]), Errno> {
        let names: Vec<_> = components(path).collect();
        let (last, above) = names.split_last().ok_or(Errno(libc::EINVAL))?;
        let mut parent = InodeId::ROOT;
        for name in above {
            let found = self.lookup(parent, name).await?.value;
            parent = match inode_of(&found) {
                Some(inode) if is_directory(&found) => inode,
                Some(_) => return Err(Errno(libc::ENOTDIR)),
                None => self.make_directory(parent, name, caller).await?,
            };
        }
        Ok((parent, last))
    }

    /// Gives the entries of a directory to `take`, in the order of the server, until that answers
    /// false or there are no more. "." and ".." come first.
    pub async fn scan_directory(
        &self,
        inode: InodeId,
        with_attributes: bool,
        mut take: impl FnMut(&DirectoryEntry) -> bool + Send,
    ) -> Result<(), Errno> {
        let handle = self.open_directory(inode);
        let outcome = self.scan(handle, with_attributes, &mut take).await;
        self.release_directory(handle).await;
        outcome
    }

    async fn scan(
        &self,
        handle: HandleId,
        with_attributes: bool,
        take: &mut (impl FnMut(&DirectoryEntry) -> bool + Send),
    ) -> Result<(), Errno> {
        let mut cookie = 0;
        loop {
            let page = self.read_directory(handle, cookie, with_attributes).await?;
            let behind = cookie;
            let more = self.hand_over_page(&page, |entries, _, _| {
                for entry in entries {
                    cookie = entry.cookie;
                    if !take(&entry) {
                        return false;
                    }
                }
                true
            });
            if !more || cookie == behind {
                return Ok(());
            }
        }
    }

    async fn make_directory(
        self: &Arc<Self>,
        parent: InodeId,
        name: &[u8],
        caller: Caller,
    ) -> Result<InodeId, Errno> {
        let node = NodeRequest {
            parent,
            name,
            node: NewNode::Directory,
            mode: 0o777,
            umask: 0o022,
            caller,
        };
        let made = match self.make_node(node).await {
            // Another mount was quicker.
            Err(Errno(libc::EEXIST)) => self.lookup(parent, name).await?,
            made => made?,
        };
        inode_of(&made.value).ok_or(Errno(libc::ENOENT))
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

fn inode_of(entry: &Entry) -> Option<InodeId> {
    entry
        .attributes
        .as_ref()
        .map(|attributes| InodeId(attributes.inode))
}

fn is_directory(entry: &Entry) -> bool {
    entry
        .attributes
        .as_ref()
        .is_some_and(|attributes| attributes.kind() == FileKind::Directory)
}
