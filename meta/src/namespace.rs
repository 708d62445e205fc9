//! The names and inodes of one job: a plain value.
//!
//! No I/O, no clock, no sessions: those who call it say what time it is and who may. Each
//! operation has its file. A mutation comes in two steps, so that its caller can settle with other
//! mounts in between: `plan_...` finds what would change, or why it cannot be, and changes nothing;
//! the plan is then carried out by a function that cannot fail, under the same lock.
//!
//! Invariants: every directory but the root has exactly one name, in its `parent`; an inode's
//! `link_count` is the number of its names (for a directory: 2 and one for each directory in it;
//! 0 once removed); an inode without names stays until [`Namespace::forget`]; its `links` are the
//! places of its names.

mod acl;
mod attributes;
mod commit;
mod directory;
mod expiry;
mod inode;
mod lifetime;
mod link;
mod links;
mod lookup;
mod make;
mod names;
mod read_directory;
mod remove;
mod remove_tree;
mod rename;
mod xattr;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pocket_proto::{InodeId, Status};

pub(crate) use attributes::AttributeChange;
pub(crate) use commit::CommitChange;
use directory::Directory;
use expiry::Expiry;
pub(crate) use inode::{Content, File, Inode};
pub(crate) use lifetime::check_lifetime;
pub(crate) use make::NewInode;
pub(crate) use names::check_name;
pub(crate) use read_directory::Listed;
pub(crate) use rename::RenameMode;
pub(crate) use xattr::XattrMode;

use crate::limits::INODES_MAX;
use crate::now::Timestamp;

/// Mode of a job's root, as /tmp has it.
const ROOT_MODE: u32 = 0o1777;

/// The tree of a job.
#[derive(Debug)]
pub(crate) struct Namespace {
    inodes: HashMap<InodeId, Inode, BuildHasherDefault<IdHasher>>,
    next_inode: u64,
    /// Inode numbers given out for inodes that are not made yet: they count as if they were.
    granted_inodes: u64,
    allocated_bytes: u64,
    inodes_max: u64,
    expiry: Expiry,
}

impl Namespace {
    /// A tree of nothing but its root, owned by root and open to everyone.
    pub(crate) fn new(now: Timestamp) -> Self {
        let mut namespace = Namespace {
            inodes: HashMap::default(),
            next_inode: InodeId::ROOT.0 + 1,
            granted_inodes: 0,
            allocated_bytes: 0,
            inodes_max: INODES_MAX,
            expiry: Expiry::default(),
        };
        let mut root = Inode::new(
            Content::Directory(Box::new(Directory::new(InodeId::ROOT))),
            now,
        );
        root.mode = ROOT_MODE;
        root.link_count = 2;
        namespace.inodes.insert(InodeId::ROOT, root);
        namespace
    }

    /// An inode, or [`Status::Stale`] if it is gone.
    pub(crate) fn inode(&self, id: InodeId) -> Result<&Inode, Status> {
        self.inodes.get(&id).ok_or(Status::Stale)
    }

    /// Inodes there are, the root and those without names included.
    pub(crate) fn inode_count(&self) -> u64 {
        self.inodes.len() as u64
    }

    /// Gives out up to `wanted` inode numbers, never to be given out again: the first, and how many
    /// in a row.
    pub(crate) fn grant_inodes(&mut self, wanted: u64) -> (InodeId, u64) {
        let free = self
            .inodes_max
            .saturating_sub(self.inode_count() + self.granted_inodes);
        let count = wanted.min(free);
        let first = InodeId(self.next_inode);
        self.next_inode += count;
        self.granted_inodes += count;
        (first, count)
    }

    /// Inode numbers given out that nobody will use.
    pub(crate) fn return_inodes(&mut self, count: u64) {
        self.granted_inodes -= count;
    }

    /// How many names a directory holds; none if it is something else.
    pub(crate) fn name_count(&self, id: InodeId) -> u64 {
        self.directory(id).map_or(0, |directory| directory.len())
    }

    /// Bytes of blocks that the inodes hold on storage servers.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.allocated_bytes
    }

    /// Drops an inode that has no names left, and with it what it held. `None` if it still has
    /// names or is gone already.
    pub(crate) fn forget(&mut self, id: InodeId) -> Option<Inode> {
        let inode = self.inodes.get(&id)?;
        if inode.link_count > 0 || !inode.links.is_empty() {
            return None;
        }
        let inode = self.inodes.remove(&id)?;
        self.expiry.forget(id);
        if let Content::File(file) = &inode.content {
            self.allocated_bytes -= file.allocated_bytes;
        }
        Some(inode)
    }

    fn directory(&self, id: InodeId) -> Result<&Directory, Status> {
        match &self.inode(id)?.content {
            Content::Directory(directory) => Ok(directory),
            _ => Err(Status::NotDirectory),
        }
    }

    /// A directory that names can be put into: one that has not been removed.
    fn living_directory(&self, id: InodeId) -> Result<(&Inode, &Directory), Status> {
        let inode = self.inode(id)?;
        match &inode.content {
            Content::Directory(_) if inode.link_count == 0 => Err(Status::NotFound),
            Content::Directory(directory) => Ok((inode, directory)),
            _ => Err(Status::NotDirectory),
        }
    }

    fn file_mut(&mut self, id: InodeId) -> Result<(&mut Inode, &mut u64), Status> {
        let inode = self.inodes.get_mut(&id).ok_or(Status::Stale)?;
        match inode.content {
            Content::File(_) => Ok((inode, &mut self.allocated_bytes)),
            Content::Directory(_) => Err(Status::IsDirectory),
            _ => Err(Status::Invalid),
        }
    }

    /// The directory and the parent's bookkeeping of a change in it, for carrying out a plan.
    fn changed_directory(&mut self, id: InodeId, now: Timestamp) -> (&mut Directory, &mut u32) {
        let inode = self
            .inodes
            .get_mut(&id)
            .expect("a plan's directories exist");
        inode.modified = now;
        inode.changed = now;
        match &mut inode.content {
            Content::Directory(directory) => (directory, &mut inode.link_count),
            _ => unreachable!("a plan's directories are directories"),
        }
    }

    fn planned(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("a plan's inodes exist")
    }
}

/// Spreads inode numbers over a hash table. They are given out by this server, one by one, so that
/// nobody can choose colliding ones.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // 2^64 divided by the golden ratio; the fold brings the mixed high bits to the low ones.
        let mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
