//! open with O_TMPFILE: a new file without a name, which lives as long as it is open.

use pocket_proto::session::{CreateTemporary, OpenMode, Opened, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};
use crate::namespace::File;

/// Nobody else can know of it, so that nobody is asked; the session's open keeps it.
pub(super) fn create_temporary(
    context: &mut Context<'_>,
    request: &CreateTemporary,
) -> Result<Step, Failure> {
    let parent = InodeId(request.parent);
    let file = File {
        linkable: request.linkable,
        ..File::default()
    };
    let new = context.new_file((request.mode, request.umask), request.owner, file)?;
    context.state.namespace.plan_make_unnamed(parent)?;
    context.check_open_limit()?;
    let wall = context.now.wall;
    let inode = context.state.namespace.make_unnamed(parent, new, wall);
    context.count_open(inode, request.write);
    let entry = context.entry(inode)?;
    Ok(Step::Done(reply::Result::Opened(Opened {
        entry: Some(entry),
        mode: OpenMode::Cached.into(),
    })))
}
