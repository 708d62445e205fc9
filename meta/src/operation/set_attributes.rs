//! chmod, chown, truncate, utimens.

use pocket_proto::session::{SetAttributes, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step, done, malformed};
use crate::job::Touches;
use crate::namespace::AttributeChange;
use crate::now::{Now, Timestamp};

pub(super) fn set_attributes(
    context: &mut Context<'_>,
    request: &SetAttributes,
) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    if context.end_truncation()? {
        return answer(context, inode);
    }
    let change = change(request, context.now)?;
    let changes = context
        .state
        .namespace
        .plan_set_attributes(inode, &change)?;
    if !changes {
        return answer(context, inode);
    }
    if context.ahead.is_some() && change.size_bytes.is_some() {
        return Err(malformed("a size is not set ahead"));
    }
    if change.size_bytes.is_some() && context.is_cut_elsewhere(inode) {
        return Ok(Step::AwaitCut(inode));
    }
    let touches = Touches {
        attributes: &[inode],
        // What is made in a directory depends on its mode and group.
        directories: &[inode],
        // Whoever has the file open believes that its size is its own affair.
        through: change.size_bytes.map(|_| inode),
        cut: change.size_bytes.map(|_| inode),
        ..Touches::default()
    };
    if let Some(awaited) = context.recall(touches) {
        return Ok(Step::Recall(awaited));
    }
    if change.size_bytes.is_some() && context.state.is_moving(inode) {
        return Ok(context.await_moves());
    }
    match context.apply(inode, &change)? {
        Some(truncation) => Ok(context.begin_truncation(truncation)),
        None => answer(context, inode),
    }
}

fn answer(context: &mut Context<'_>, inode: InodeId) -> Result<Step, Failure> {
    if context.ahead.is_some() {
        context.lease_changed(inode);
        return Ok(done());
    }
    Ok(Step::Done(reply::Result::Entry(context.entry(inode)?)))
}

fn change(request: &SetAttributes, now: Now) -> Result<AttributeChange, Failure> {
    let time = |given, is_now| match Timestamp::read_optional(given)? {
        None if is_now => Ok(Some(now.wall)),
        given => Ok::<_, Failure>(given),
    };
    Ok(AttributeChange {
        mode: request.mode,
        uid: request.uid,
        gid: request.gid,
        size_bytes: request.size_bytes,
        accessed: time(request.accessed.as_ref(), request.accessed_now)?,
        modified: time(request.modified.as_ref(), request.modified_now)?,
        changed: Timestamp::read_optional(request.changed.as_ref())?,
        clear_set_id: request.clear_set_id,
    })
}
