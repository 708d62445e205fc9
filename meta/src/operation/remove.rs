//! unlink and rmdir.

use pocket_proto::session::Remove;
use pocket_proto::{Failure, InodeId};

use super::{Context, Step, done};
use crate::job::Touches;

/// The inode lives on while someone has it open; see [`crate::job::JobState::drop_if_unused`].
pub(super) fn remove(context: &mut Context<'_>, request: &Remove) -> Result<Step, Failure> {
    let (parent, name) = (InodeId(request.parent), &*request.name);
    // A directory that goes has to be empty for everyone.
    let victim = context.state.namespace.lookup(parent, name).ok().flatten();
    let victim = victim.filter(|_| request.directory);
    if let Some(awaited) = context.share_before_change(&[(parent, name)], victim.as_slice()) {
        return Ok(Step::Recall(awaited));
    }
    let namespace = &context.state.namespace;
    let plan = namespace.plan_remove(parent, name, request.directory)?;
    let touches = Touches {
        names: &[(parent, name)],
        attributes: &[plan.inode],
        ..Touches::default()
    };
    if let Some(awaited) = context.recall(touches) {
        return Ok(Step::Recall(awaited));
    }
    context.state.namespace.remove(&plan, context.now.wall);
    if request.directory {
        context.state.forget_directory(plan.inode);
    }
    context.name_changed(parent);
    context.state.drop_if_unused(plan.inode);
    context.show_changed(plan.inode);
    Ok(done())
}
