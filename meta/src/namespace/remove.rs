//! Taking a name away: unlink and rmdir.

use pocket_proto::{InodeId, Status};

use super::links::Link;
use super::{Content, Namespace, check_name};
use crate::now::Timestamp;

/// A name that can go.
#[derive(Debug)]
pub(crate) struct RemovePlan<'a> {
    /// What it leads to.
    pub(crate) inode: InodeId,
    parent: InodeId,
    name: &'a [u8],
    directory: bool,
}

impl Namespace {
    /// Checks that `name` can be removed; `directory` tells rmdir from unlink.
    pub(crate) fn plan_remove<'a>(
        &self,
        parent: InodeId,
        name: &'a [u8],
        directory: bool,
    ) -> Result<RemovePlan<'a>, Status> {
        check_name(name)?;
        let inode = self.directory(parent)?.get(name).ok_or(Status::NotFound)?;
        match (&self.inode(inode)?.content, directory) {
            (Content::Directory(removed), true) if !removed.is_empty() => Err(Status::NotEmpty),
            (Content::Directory(_), false) => Err(Status::IsDirectory),
            (Content::Directory(_), true) => Ok(()),
            (_, true) => Err(Status::NotDirectory),
            (_, false) => Ok(()),
        }?;
        Ok(RemovePlan {
            inode,
            parent,
            name,
            directory,
        })
    }

    /// Removes the name. The inode stays, without names perhaps: see [`Namespace::forget`].
    pub(crate) fn remove(&mut self, plan: &RemovePlan<'_>, now: Timestamp) {
        let (directory, links) = self.changed_directory(plan.parent, now);
        let cookie = directory.remove(plan.name);
        if plan.directory {
            // One that was closed has none left.
            *links = links.saturating_sub(1);
        }
        let link = Link {
            directory: plan.parent,
            cookie,
        };
        self.lose_name(plan.inode, link, now);
    }

    /// What losing a name does to the inode that had it.
    pub(super) fn lose_name(&mut self, id: InodeId, link: Link, now: Timestamp) {
        let inode = self.planned(id);
        inode.links.remove(link);
        inode.link_count = match inode.content {
            Content::Directory(_) => 0,
            _ => inode.link_count - 1,
        };
        inode.changed = now;
    }
}
