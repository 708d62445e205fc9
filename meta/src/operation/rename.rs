//! Moving a name.

use pocket_proto::session::Rename;
use pocket_proto::{Failure, InodeId, Status};

use super::{Context, Step, done};
use crate::job::Touches;
use crate::namespace::{NewInode, RenameMode};

pub(super) fn rename(context: &mut Context<'_>, request: &Rename) -> Result<Step, Failure> {
    let old = (InodeId(request.parent), &*request.name);
    let new = (InodeId(request.new_parent), &*request.new_name);
    let mode = match (request.no_replace, request.exchange) {
        (false, false) => RenameMode::Replace,
        (true, false) => RenameMode::NoReplace,
        (false, true) => RenameMode::Exchange,
        (true, true) => return Err(Status::Invalid.into()),
    };
    if request.whiteout.is_some() {
        if mode == RenameMode::Exchange {
            return Err(Status::Invalid.into());
        }
        context.state.namespace.check_room()?;
    }
    // A directory that is replaced has to be empty for everyone, and the time of change of one that
    // moves is no longer its owner's.
    let namespace = &context.state.namespace;
    let victims = [old, new].map(|(parent, name)| namespace.lookup(parent, name).ok().flatten());
    let victims: Vec<_> = victims.into_iter().flatten().collect();
    if let Some(awaited) = context.share_before_change(&[old, new], &victims) {
        return Ok(Step::Recall(awaited));
    }
    let plan = context.state.namespace.plan_rename(old, new, mode)?;
    if plan.same {
        return Ok(done());
    }
    let inodes = [plan.moved, plan.target.unwrap_or(plan.moved)];
    let replaced = plan.replaced();
    // Listings of a directory that moves say where ".." leads.
    let mut names = vec![old, new];
    if old.0 != new.0 {
        names.extend(inodes.map(|inode| (inode, &b".."[..])));
    }
    let touches = Touches {
        names: &names,
        attributes: &inodes,
        ..Touches::default()
    };
    if let Some(awaited) = context.recall(touches) {
        return Ok(Step::Recall(awaited));
    }
    // The marks that are left are of others.
    if context.ahead.is_none() && context.is_marked(old, new, mode) {
        return Ok(Step::AwaitUnmarked(context.state.unmarked.subscribe()));
    }
    let (namespace, wall) = (&mut context.state.namespace, context.now.wall);
    namespace.rename(&plan, wall);
    if let Some(owner) = request.whiteout {
        namespace.leave_behind(&plan, NewInode::whiteout(owner.uid, owner.gid), wall);
    }
    context.move_leases(old, new, mode);
    if let Some(replaced) = replaced {
        context.state.forget_directory(replaced);
        context.state.drop_if_unused(replaced);
    }
    if context.ahead.is_some() {
        context.lease_changed(plan.moved);
        return Ok(done());
    }
    context.show_changed(plan.moved);
    if let Some(target) = plan.target {
        context.show_changed(target);
    }
    Ok(done())
}

impl Context<'_> {
    /// Whether this session would come to hold a lease on a name that others recall: they have
    /// asked it already, or had no reason to, and would not ask again.
    fn is_marked(&self, old: (InodeId, &[u8]), new: (InodeId, &[u8]), mode: RenameMode) -> bool {
        let (leases, now) = (&self.state.leases, self.now.tick);
        leases.inherits_onto_mark(old.0, new, self.session, now)
            || (mode == RenameMode::Exchange
                && leases.inherits_onto_mark(new.0, old, self.session, now))
    }

    /// This session's kernel moves what it has cached under the old name, with its validity.
    fn move_leases(&mut self, old: (InodeId, &[u8]), new: (InodeId, &[u8]), mode: RenameMode) {
        self.name_changed(old.0);
        if new.0 != old.0 {
            self.name_changed(new.0);
        }
        let now = self.now.tick;
        let Some(session) = self.state.sessions.get(&self.session) else {
            return;
        };
        let (holder, leases) = (session.grantee(), &mut self.state.leases);
        leases.inherit_name(old.0, new, holder, now);
        if mode == RenameMode::Exchange {
            leases.inherit_name(new.0, old, holder, now);
        }
    }
}
