//! Removing a directory with all that is in it.
//!
//! The name goes at once, as one step for everyone. What is below it is nobody's to find any more,
//! and is freed in the background (`job/clearing.rs`).

use pocket_proto::session::{GetRemoval, Removal, RemoveTree, reply};
use pocket_proto::{Failure, InodeId, Status};

use super::{Context, Step};
use crate::job::Touches;

pub(super) fn remove_tree(
    context: &mut Context<'_>,
    request: &RemoveTree,
) -> Result<Step, Failure> {
    let (parent, name) = (InodeId(request.parent), &*request.name);
    let victim = context.state.namespace.lookup(parent, name).ok().flatten();
    if let Some(awaited) = context.share_before_change(&[(parent, name)], victim.as_slice()) {
        return Ok(Step::Recall(awaited));
    }
    let tree = context.state.namespace.plan_detach(parent, name)?;
    let touches = Touches {
        names: &[(parent, name)],
        attributes: &[tree],
        ..Touches::default()
    };
    if let Some(awaited) = context.recall(touches) {
        return Ok(Step::Recall(awaited));
    }
    let wall = context.now.wall;
    context.state.namespace.detach(parent, name, tree, wall);
    context.state.forget_directory(tree);
    context.name_changed(parent);
    let removal = context.state.clearings.begin(tree);
    Ok(answer(removal))
}

pub(super) fn get_removal(
    context: &mut Context<'_>,
    request: &GetRemoval,
) -> Result<Step, Failure> {
    let removal = context.state.clearings.find(request.removal);
    let removal = removal.ok_or_else(|| {
        let what = format!("no removal {} is under way or was lately", request.removal);
        Failure::new(Status::NotFound, what)
    })?;
    Ok(answer(removal))
}

fn answer(removal: Removal) -> Step {
    Step::Done(reply::Result::Removal(removal))
}
