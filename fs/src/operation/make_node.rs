//! mkdir, mknod, symlink.

use pocket_proto::InodeId;
use pocket_proto::session::{Entry, FileKind, MakeNode, request};

use super::Caller;
use crate::{Errno, FileSystem, Leased};

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
    /// Permission bits, the umask already applied.
    pub mode: u32,
    /// The owner.
    pub caller: Caller,
}

impl FileSystem {
    /// Makes an inode and names it.
    pub async fn make_node(&self, node: NodeRequest<'_>) -> Result<Leased<Entry>, Errno> {
        self.refuse_if_read_only()?;
        let (kind, target, device) = match node.node {
            NewNode::Directory => (FileKind::Directory, &[][..], 0),
            NewNode::Symlink(target) => (FileKind::Symlink, target, 0),
            NewNode::Other(kind, device) => (kind, &[][..], device),
        };
        let request = MakeNode {
            parent: node.parent.0,
            name: node.name.to_vec().into(),
            kind: kind.into(),
            mode: node.mode & 0o7777,
            owner: Some(node.caller.owner()),
            device,
            target: target.to_vec().into(),
        };
        let made = self.call_shown(request::Operation::MakeNode(request)).await;
        self.name_changed(node.parent, node.name);
        Ok(made?)
    }
}
