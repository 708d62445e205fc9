//! open with O_TMPFILE: a new file without a name, which lives as long as it is open.

use pocket_proto::session::{CreateTemporary, OpenMode, Opened, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};
use crate::namespace::{Content, File, NewInode};

/// Nobody else can know of it, so that nobody is asked; the session's open keeps it.
pub(super) fn create_temporary(
    context: &mut Context<'_>,
    request: &CreateTemporary,
) -> Result<Step, Failure> {
    let parent = InodeId(request.parent);
    let owner = request.owner.unwrap_or_default();
    let new = NewInode {
        mode: request.mode,
        umask: request.umask,
        uid: owner.uid,
        gid: owner.gid,
        content: Content::File(File {
            epoch: context.epoch_of_new()?,
            linkable: request.linkable,
            ..File::default()
        }),
    };
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
