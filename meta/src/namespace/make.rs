//! Making an inode of any kind, and its name.

use pocket_proto::session::FileKind;
use pocket_proto::{InodeId, Status};

use super::directory::Directory;
use super::inode::{MODE_BITS, SET_GROUP_ID};
use super::links::Link;
use super::{Content, Inode, Namespace, check_name};
use crate::limits::TARGET_BYTES_MAX;
use crate::now::Timestamp;

/// What is to be made.
#[derive(Debug)]
pub(crate) struct NewInode {
    pub(crate) mode: u32,
    /// Taken off the mode, unless a default ACL says what it is to be.
    pub(crate) umask: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// What it is; for a directory, see [`NewInode::directory`].
    pub(crate) content: Content,
}

impl NewInode {
    /// What overlayfs takes for the absence of a name (RENAME_WHITEOUT): a character device 0/0
    /// that nobody may open.
    pub(crate) fn whiteout(uid: u32, gid: u32) -> Self {
        NewInode {
            mode: 0,
            umask: 0,
            uid,
            gid,
            content: Content::Special {
                kind: FileKind::CharacterDevice,
                number: 0,
            },
        }
    }

    /// What a new directory holds.
    pub(crate) fn directory() -> Content {
        Content::Directory(Box::new(Directory::new(InodeId::ROOT)))
    }
}

/// A name that is free, in a directory that can take it.
#[derive(Debug)]
pub(crate) struct MakePlan<'a> {
    parent: InodeId,
    name: &'a [u8],
    granted: Option<InodeId>,
}

impl Namespace {
    /// Checks that `name` can be given to a new inode: [`Status::Exists`] if it is taken. The inode
    /// gets the number that was `granted` for it, or the next.
    pub(crate) fn plan_make<'a>(
        &self,
        parent: InodeId,
        name: &'a [u8],
        new: &NewInode,
        granted: Option<InodeId>,
    ) -> Result<MakePlan<'a>, Status> {
        check_name(name)?;
        let (_, directory) = self.living_directory(parent)?;
        if directory.get(name).is_some() {
            return Err(Status::Exists);
        }
        if let Content::Symlink(target) = &new.content {
            match target.len() {
                0 => return Err(Status::NotFound),
                length if length > TARGET_BYTES_MAX => return Err(Status::NameTooLong),
                _ => {}
            }
        }
        if granted.is_none() {
            self.check_room()?;
        }
        Ok(MakePlan {
            parent,
            name,
            granted,
        })
    }

    /// Checks that there may be one more inode, of a number that was not granted before.
    pub(crate) fn check_room(&self) -> Result<(), Status> {
        match self.inode_count() + self.granted_inodes < self.inodes_max {
            true => Ok(()),
            false => Err(Status::NoSpace),
        }
    }

    /// Makes the inode.
    pub(crate) fn make(&mut self, plan: &MakePlan<'_>, new: NewInode, now: Timestamp) -> InodeId {
        let id = self.new_id(plan.granted);
        let mut inode = self.heir(plan.parent, new, now);
        let (directory, links) = self.changed_directory(plan.parent, now);
        let cookie = directory.insert(plan.name, id);
        inode.links.add(Link {
            directory: plan.parent,
            cookie,
        });
        if let Content::Directory(made) = &mut inode.content {
            *links += 1;
            inode.link_count = 2;
            made.set_parent(plan.parent);
        }
        self.inodes.insert(id, inode);
        self.await_expiry(id);
        id
    }

    /// Checks that a file can be made in the directory, but not named.
    pub(crate) fn plan_make_unnamed(&self, parent: InodeId) -> Result<(), Status> {
        self.living_directory(parent)?;
        self.check_room()
    }

    /// Makes an inode without a name. Nothing changes in the directory.
    pub(crate) fn make_unnamed(
        &mut self,
        parent: InodeId,
        new: NewInode,
        now: Timestamp,
    ) -> InodeId {
        let id = self.new_id(None);
        let mut inode = self.heir(parent, new, now);
        inode.link_count = 0;
        self.inodes.insert(id, inode);
        id
    }

    fn new_id(&mut self, granted: Option<InodeId>) -> InodeId {
        match granted {
            Some(id) => {
                self.granted_inodes -= 1;
                id
            }
            None => {
                self.next_inode += 1;
                InodeId(self.next_inode - 1)
            }
        }
    }

    /// What is made in a directory. In a set-group-id directory it gets the directory's group, and a
    /// directory also the bit; of a directory's default ACL it gets its own, and how long things live.
    fn heir(&mut self, parent: InodeId, new: NewInode, now: Timestamp) -> Inode {
        let mut inode = Inode::new(new.content, now);
        let (parent_mode, parent_gid, parent_acls) = {
            let parent = self.planned(parent);
            inode.inherit_lifetime(parent);
            (parent.mode, parent.gid, parent.acls())
        };
        let inherited = parent_acls.hand_on(inode.kind(), new.mode & MODE_BITS, new.umask);
        inode.mode = inherited.mode;
        inode.take_acls(inherited.acls);
        inode.uid = new.uid;
        inode.gid = new.gid;
        if parent_mode & SET_GROUP_ID != 0 {
            inode.gid = parent_gid;
            if inode.is_directory() {
                inode.mode |= SET_GROUP_ID;
            }
        }
        inode
    }
}
