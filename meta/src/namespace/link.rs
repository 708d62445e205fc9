//! Another name for a file.

use pocket_proto::{InodeId, Status};

use super::links::Link;
use super::{Content, Namespace, check_name};
use crate::limits::LINK_COUNT_MAX;
use crate::now::Timestamp;

/// A file that may have another name, and a name that is free.
#[derive(Debug)]
pub(crate) struct LinkPlan<'a> {
    inode: InodeId,
    parent: InodeId,
    name: &'a [u8],
}

impl Namespace {
    /// Checks that `inode` can be named `name`. Directories cannot have two names, and a file
    /// whose last name is gone gets no new one; one that never had any may get its first.
    pub(crate) fn plan_link<'a>(
        &self,
        inode: InodeId,
        parent: InodeId,
        name: &'a [u8],
    ) -> Result<LinkPlan<'a>, Status> {
        check_name(name)?;
        let (_, directory) = self.living_directory(parent)?;
        let linked = self.inode(inode)?;
        if linked.is_directory() {
            return Err(Status::NotPermitted);
        }
        if directory.get(name).is_some() {
            return Err(Status::Exists);
        }
        match linked.link_count {
            0 if !linked.file().is_some_and(|file| file.linkable) => Err(Status::NotFound),
            LINK_COUNT_MAX.. => Err(Status::TooManyLinks),
            _ => Ok(LinkPlan {
                inode,
                parent,
                name,
            }),
        }
    }

    /// Gives the name.
    pub(crate) fn link(&mut self, plan: &LinkPlan<'_>, now: Timestamp) {
        let (directory, _) = self.changed_directory(plan.parent, now);
        let cookie = directory.insert(plan.name, plan.inode);
        let linked = self.planned(plan.inode);
        linked.links.add(Link {
            directory: plan.parent,
            cookie,
        });
        linked.link_count += 1;
        linked.changed = now;
        if let Content::File(file) = &mut linked.content {
            file.linkable = false;
        }
        self.await_expiry(plan.inode);
    }
}
