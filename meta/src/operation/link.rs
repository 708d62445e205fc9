//! Another name for a file.

use pocket_proto::session::{Link, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};
use crate::job::Touches;

pub(super) fn link(context: &mut Context<'_>, request: &Link) -> Result<Step, Failure> {
    let (inode, parent) = (InodeId(request.inode), InodeId(request.parent));
    let name = &*request.name;
    if let Some(awaited) = context.share_before_change(&[(parent, name)], &[]) {
        return Ok(Step::Recall(awaited));
    }
    let plan = context.state.namespace.plan_link(inode, parent, name)?;
    let touches = Touches {
        names: &[(parent, name)],
        attributes: &[inode],
        ..Touches::default()
    };
    if let Some(awaited) = context.recall(touches) {
        return Ok(Step::Recall(awaited));
    }
    context.state.namespace.link(&plan, context.now.wall);
    context.name_changed(parent);
    let entry = context.named_entry(parent, name, inode)?;
    Ok(Step::Done(reply::Result::Entry(entry)))
}
