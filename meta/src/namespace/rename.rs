//! Moving a name: over nothing, over another name, or in exchange for it.

use pocket_proto::{InodeId, Status};

use super::links::Link;
use super::{Content, Namespace, NewInode, check_name};
use crate::now::Timestamp;

/// What becomes of the new name if it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RenameMode {
    /// It leads to the moved inode from now on.
    Replace,
    /// The rename fails (RENAME_NOREPLACE).
    NoReplace,
    /// It takes the old name's place (RENAME_EXCHANGE); it has to exist.
    Exchange,
}

/// A rename that can be.
#[derive(Debug)]
pub(crate) struct RenamePlan<'a> {
    /// What the old name leads to.
    pub(crate) moved: InodeId,
    /// What the new name leads to, if it is another inode.
    pub(crate) target: Option<InodeId>,
    /// Both names lead to one inode already: there is nothing to do (POSIX rename).
    pub(crate) same: bool,
    parent: InodeId,
    name: &'a [u8],
    new_parent: InodeId,
    new_name: &'a [u8],
    exchange: bool,
}

impl RenamePlan<'_> {
    /// The inode that loses a name, if one does.
    pub(crate) fn replaced(&self) -> Option<InodeId> {
        self.target.filter(|_| !self.exchange)
    }
}

impl Namespace {
    /// Checks that the name can move.
    pub(crate) fn plan_rename<'a>(
        &self,
        (parent, name): (InodeId, &'a [u8]),
        (new_parent, new_name): (InodeId, &'a [u8]),
        mode: RenameMode,
    ) -> Result<RenamePlan<'a>, Status> {
        check_name(name)?;
        check_name(new_name)?;
        let moved = self.directory(parent)?.get(name).ok_or(Status::NotFound)?;
        let target = self.living_directory(new_parent)?.1.get(new_name);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Status::Exists),
            (RenameMode::Exchange, None) => return Err(Status::NotFound),
            _ => {}
        }
        let plan = RenamePlan {
            moved,
            target: target.filter(|&target| target != moved),
            same: target == Some(moved),
            parent,
            name,
            new_parent,
            new_name,
            exchange: mode == RenameMode::Exchange,
        };
        if !plan.same {
            self.check_structure(&plan)?;
        }
        Ok(plan)
    }

    /// No directory below itself, and nothing replaced by what is not of its kind.
    fn check_structure(&self, plan: &RenamePlan<'_>) -> Result<(), Status> {
        let moved = self.inode(plan.moved)?;
        if moved.is_directory() && self.is_below(plan.new_parent, plan.moved)? {
            return Err(Status::Invalid);
        }
        let Some(target) = plan.target else {
            return Ok(());
        };
        let target_inode = self.inode(target)?;
        if plan.exchange {
            let swallowed = target_inode.is_directory() && self.is_below(plan.parent, target)?;
            return if swallowed {
                Err(Status::Invalid)
            } else {
                Ok(())
            };
        }
        match (moved.is_directory(), &target_inode.content) {
            (true, Content::Directory(directory)) if directory.is_empty() => Ok(()),
            (true, Content::Directory(_)) => Err(Status::NotEmpty),
            (true, _) => Err(Status::NotDirectory),
            // A directory on the way to the old name is not empty in any case.
            (false, Content::Directory(_)) => Err(Status::IsDirectory),
            (false, _) => Ok(()),
        }
    }

    /// Moves the name. What it replaced stays, without names perhaps: see [`Namespace::forget`].
    pub(crate) fn rename(&mut self, plan: &RenamePlan<'_>, now: Timestamp) {
        if plan.same {
            return;
        }
        let (old_directory, _) = self.changed_directory(plan.parent, now);
        let cookie = match plan.target {
            Some(target) if plan.exchange => old_directory.replace(plan.name, target),
            _ => old_directory.remove(plan.name),
        };
        let old = Link {
            directory: plan.parent,
            cookie,
        };
        let (new_directory, _) = self.changed_directory(plan.new_parent, now);
        let cookie = match plan.target {
            Some(_) => new_directory.replace(plan.new_name, plan.moved),
            None => new_directory.insert(plan.new_name, plan.moved),
        };
        let new = Link {
            directory: plan.new_parent,
            cookie,
        };
        self.arrive(plan.moved, old, new, now);
        match (plan.target, plan.exchange) {
            (Some(target), true) => self.arrive(target, new, old, now),
            (Some(target), false) => {
                if self.planned(target).is_directory() {
                    self.planned(plan.new_parent).link_count -= 1;
                }
                self.lose_name(target, new, now);
            }
            (None, _) => {}
        }
    }

    /// Behind a rename that was no exchange: the name that moved away leads to a new inode.
    pub(crate) fn leave_behind(&mut self, plan: &RenamePlan<'_>, new: NewInode, now: Timestamp) {
        let id = self.make_unnamed(plan.parent, new, now);
        let (directory, _) = self.changed_directory(plan.parent, now);
        let cookie = directory.insert(plan.name, id);
        let inode = self.planned(id);
        inode.link_count = 1;
        inode.links.add(Link {
            directory: plan.parent,
            cookie,
        });
        self.await_expiry(id);
    }

    /// Bookkeeping for an inode whose name moved from one place to another.
    fn arrive(&mut self, id: InodeId, from: Link, to: Link, now: Timestamp) {
        let inode = self.planned(id);
        inode.changed = now;
        inode.links.remove(from);
        inode.links.add(to);
        if let Content::Directory(directory) = &mut inode.content {
            directory.set_parent(to.directory);
            let from = self.planned(from.directory);
            from.link_count = from.link_count.saturating_sub(1);
            self.planned(to.directory).link_count += 1;
        }
    }
}
