//! mkdir, mknod, symlink.

use std::sync::Arc;

use pocket_proto::InodeId;
use pocket_proto::session::{Ahead, Entry, FileKind, MakeNode, request};

use super::Caller;
use crate::ahead::New;
use crate::{Errno, FileSystem, Leased};

/// Bytes of a symbolic link's target (PATH_MAX without its NUL).
const TARGET_BYTES_MAX: usize = 4095;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub enum NewNode<'a> {
    /// A directory.
    Directory,
    /// A symbolic link to these bytes.
    Symlink(&'a [u8]),
    /// Any other kind, as mknod(2) makes them; device numbers as the kernel encodes them.
    Other(FileKind, u32),
}

/// Where and how to make it.
#[derive(Clone, Copy, Debug)]
pub struct NodeRequest<'a> {
    /// The directory.
    pub parent: InodeId,
    /// The name in it.
    pub name: &'a [u8],
    /// What to make.
    pub node: NewNode<'a>,
    /// Permission bits as asked for.
    pub mode: u32,
    /// Taken off the mode, unless the directory has a default ACL. Does not count for symlinks.
    pub umask: u32,
    /// The owner.
    pub caller: Caller,
}

impl FileSystem {
    /// Makes an inode and names it.
    pub async fn make_node(
        self: &Arc<Self>,
        node: NodeRequest<'_>,
    ) -> Result<Leased<Entry>, Errno> {
        self.refuse_if_read_only()?;
        self.refuse_to_make(node.parent, node.name)?;
        if let Some(made) = self.make_node_ahead(&node) {
            return Ok(made);
        }
        self.exclusive.doubt(node.parent, node.name);
        let request = node.request(None);
        let made = self.call_shown(request::Operation::MakeNode(request)).await;
        self.name_asked(node.parent, node.name, &made);
        Ok(made?)
    }

    /// Makes an inode whose name is known to be free, in a directory that is this mount's alone.
    fn make_node_ahead(self: &Arc<Self>, node: &NodeRequest<'_>) -> Option<Leased<Entry>> {
        let new = node.described();
        let bad_target =
            new.kind == FileKind::Symlink && !(1..=TARGET_BYTES_MAX).contains(&new.target.len());
        if bad_target || !self.is_in_touch() {
            return None;
        }
        let made = self.coherence.stamped(|stamp, session| {
            let heritage = self.exclusive.heritage(node.parent, node.name)?;
            let describe = |ahead| request::Operation::MakeNode(node.request(Some(ahead)));
            let (entry, inode) = self.make_ahead(&heritage, &new, describe)?;
            let since = self.show_made(node.parent, node.name, &entry, heritage.owned);
            if new.kind == FileKind::Directory {
                self.exclusive.made(inode, &entry);
            }
            Some(self.answered_here(entry, since, (stamp, session)))
        });
        self.refill_numbers();
        made
    }
}

impl NodeRequest<'_> {
    fn described(&self) -> New<'_> {
        let (kind, target, device) = match self.node {
            NewNode::Directory => (FileKind::Directory, &[][..], 0),
            NewNode::Symlink(target) => (FileKind::Symlink, target, 0),
            NewNode::Other(kind, device) => (kind, &[][..], device),
        };
        New {
            kind,
            mode: self.mode,
            umask: self.umask,
            caller: self.caller,
            device,
            target,
        }
    }

    fn request(&self, ahead: Option<Ahead>) -> MakeNode {
        let new = self.described();
        MakeNode {
            parent: self.parent.0,
            name: self.name.to_vec().into(),
            kind: new.kind.into(),
            mode: self.mode & 0o7777,
            umask: self.umask,
            owner: Some(self.caller.owner()),
            device: new.device,
            target: new.target.to_vec().into(),
            ahead,
        }
    }
}
