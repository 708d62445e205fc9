//! A symlink's target.

use pocket_proto::session::{ReadLink, ReadLinkReply, reply};
use pocket_proto::{Failure, InodeId, Status};

use super::{Context, Step};
use crate::namespace::Content;

pub(super) fn read_link(context: &mut Context<'_>, request: &ReadLink) -> Result<Step, Failure> {
    let inode = context.state.namespace.inode(InodeId(request.inode))?;
    match &inode.content {
        Content::Symlink(target) => Ok(Step::Done(reply::Result::ReadLink(ReadLinkReply {
            target: target.clone(),
        }))),
        _ => Err(Status::Invalid.into()),
    }
}
