//! An inode: what a name leads to.

use std::collections::BTreeMap;

use bytes::Bytes;
use pocket_proto::session::{Attributes, BlockException, FileKind};
use pocket_proto::{BlockIndex, Epoch, InodeId, ServerId};

use super::directory::Directory;
use super::links::Links;
use super::xattr::Xattrs;
use crate::now::Timestamp;

/// The permission bits of a mode.
pub(super) const MODE_BITS: u32 = 0o7777;
const SET_USER_ID: u32 = 0o4000;
pub(super) const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;
/// What a directory says its size is; it means nothing, but programs expect more than 0.
const DIRECTORY_BYTES: u64 = 4096;

/// A file of any kind.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) mode: u32,
    pub(crate) link_count: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) accessed: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) changed: Timestamp,
    pub(crate) created: Timestamp,
    pub(crate) xattrs: Xattrs,
    pub(super) links: Links,
    pub(crate) content: Content,
}

/// What an inode is, and what it holds.
#[derive(Debug)]
pub(crate) enum Content {
    File(File),
    Directory(Box<Directory>),
    Symlink(Bytes),
    /// A fifo, socket or device; `number` is the device's.
    Special {
        kind: FileKind,
        number: u32,
    },
}

/// A regular file.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    /// Length as of the last commit.
    pub(crate) size_bytes: u64,
    /// Bytes of its blocks on storage servers, as of the last commit.
    pub(crate) allocated_bytes: u64,
    /// End of the room reserved for appends; 0 or beyond the size.
    pub(crate) reserved_end: u64,
    /// The weight map that places its blocks.
    pub(crate) epoch: Epoch,
    /// Blocks that are elsewhere.
    pub(crate) exceptions: BTreeMap<BlockIndex, ServerId>,
    /// A writer was lost before it committed: there may be blocks that the figures above do not
    /// know of.
    pub(crate) uncertain: bool,
    /// Space was allocated behind the size (FALLOC_FL_KEEP_SIZE) and not cut off since.
    pub(crate) allocated_behind: bool,
    /// It was made without a name and may be given one, once.
    pub(crate) linkable: bool,
    /// It was read to the end since it was last changed, and goes when it is closed.
    pub(crate) used_up: bool,
}

impl Inode {
    pub(super) fn new(content: Content, now: Timestamp) -> Self {
        Inode {
            mode: 0,
            link_count: 1,
            uid: 0,
            gid: 0,
            accessed: now,
            modified: now,
            changed: now,
            created: now,
            xattrs: Xattrs::default(),
            links: Links::default(),
            content,
        }
    }

    pub(crate) fn kind(&self) -> FileKind {
        match &self.content {
            Content::File(_) => FileKind::Regular,
            Content::Directory(_) => FileKind::Directory,
            Content::Symlink(_) => FileKind::Symlink,
            Content::Special { kind, .. } => *kind,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory(_))
    }

    /// The regular file, if it is one.
    pub(crate) fn file(&self) -> Option<&File> {
        match &self.content {
            Content::File(file) => Some(file),
            _ => None,
        }
    }

    /// The attributes for the wire.
    pub(crate) fn attributes(&self, id: InodeId) -> Attributes {
        let (size_bytes, allocated_bytes, device) = match &self.content {
            Content::File(file) => (file.size_bytes, file.allocated_bytes, 0),
            Content::Directory(_) => (DIRECTORY_BYTES, 0, 0),
            Content::Symlink(target) => (target.len() as u64, 0, 0),
            Content::Special { number, .. } => (0, 0, *number),
        };
        Attributes {
            inode: id.0,
            kind: self.kind().into(),
            mode: self.mode,
            link_count: self.link_count,
            uid: self.uid,
            gid: self.gid,
            device,
            size_bytes,
            allocated_bytes,
            allocated_behind: self.file().is_some_and(|file| file.allocated_behind),
            accessed: Some(self.accessed.write()),
            modified: Some(self.modified.write()),
            changed: Some(self.changed.write()),
            created: Some(self.created.write()),
        }
    }

    /// What a change by someone without privilege does to the mode: set-user-id goes, and so does
    /// set-group-id where it means that (the group may execute).
    pub(super) fn clear_set_id(&mut self) {
        self.mode &= !SET_USER_ID;
        if self.mode & GROUP_EXECUTE != 0 {
            self.mode &= !SET_GROUP_ID;
        }
    }
}

impl File {
    /// Whether no server has blocks of it. One of some size that is said to hold nothing may have
    /// some: a write that was repeated tells of too little.
    pub(crate) fn is_empty(&self) -> bool {
        self.size_bytes == 0 && self.allocated_bytes == 0 && !self.has_blocks_behind()
    }

    /// Whether there may be blocks behind the size.
    pub(crate) fn has_blocks_behind(&self) -> bool {
        self.uncertain || self.allocated_behind
    }

    /// The blocks that are elsewhere, for the wire.
    pub(crate) fn exceptions(&self) -> Vec<BlockException> {
        self.exceptions
            .iter()
            .map(|(block, server)| BlockException {
                block: block.0,
                server: server.0,
            })
            .collect()
    }
}
