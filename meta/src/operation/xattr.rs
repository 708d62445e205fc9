//! Extended attributes: getxattr, listxattr, setxattr, removexattr.

use bytes::Bytes;
use pocket_proto::session::{GetXattr, ListXattr, RemoveXattr, SetXattr, XattrReply, reply};
use pocket_proto::{ACL_PREFIX, Failure, InodeId, Status};

use super::{Context, Step, done};
use crate::job::Touches;
use crate::namespace::XattrMode;

/// Where a file's blocks are, for people: read only, and in no list, so that copies of a file do not
/// carry it along.
const LAYOUT: &[u8] = b"user.pocket.layout";
/// Of its text: what the kernel takes as a value.
const LAYOUT_BYTES_MAX: usize = 60 << 10;

pub(super) fn get_xattr(context: &mut Context<'_>, request: &GetXattr) -> Result<Step, Failure> {
    let (state, inode) = (&context.state, InodeId(request.inode));
    if request.name == LAYOUT {
        let file = state.namespace.inode(inode)?.file();
        let file = file.ok_or(Status::NoAttribute)?;
        let text = state.layouts.describe(inode, file, LAYOUT_BYTES_MAX);
        return Ok(answer(text.into()));
    }
    Ok(answer(state.namespace.xattr(inode, &request.name)?))
}

pub(super) fn list_xattr(context: &mut Context<'_>, request: &ListXattr) -> Result<Step, Failure> {
    let namespace = &context.state.namespace;
    Ok(answer(namespace.list_xattrs(InodeId(request.inode))?))
}

pub(super) fn set_xattr(context: &mut Context<'_>, request: &SetXattr) -> Result<Step, Failure> {
    if request.name == LAYOUT {
        return Err(Status::NotPermitted.into());
    }
    let inode = InodeId(request.inode);
    if request.name.starts_with(ACL_PREFIX) {
        return set_acl(context, request);
    }
    let mode = match (request.create, request.replace) {
        (false, false) => XattrMode::Set,
        (true, false) => XattrMode::Create,
        (false, true) => XattrMode::Replace,
        (true, true) => XattrMode::CreateAndReplace,
    };
    let namespace = &context.state.namespace;
    namespace.plan_set_xattr(inode, &request.name, &request.value, mode)?;
    if let Some(step) = recall_change_time(context, inode) {
        return Ok(step);
    }
    let namespace = &mut context.state.namespace;
    namespace.set_xattr(inode, &request.name, &request.value, context.now.wall);
    Ok(done())
}

pub(super) fn remove_xattr(
    context: &mut Context<'_>,
    request: &RemoveXattr,
) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    if request.name.starts_with(ACL_PREFIX) {
        // One that is not there is removed all the same, as on Linux.
        let without_entries = SetXattr {
            inode: request.inode,
            name: request.name.clone(),
            ..SetXattr::default()
        };
        return set_acl(context, &without_entries);
    }
    context.state.namespace.xattr(inode, &request.name)?;
    if let Some(step) = recall_change_time(context, inode) {
        return Ok(step);
    }
    let namespace = &mut context.state.namespace;
    namespace.remove_xattr(inode, &request.name, context.now.wall);
    Ok(done())
}

/// Whether the list is there already does not matter to Linux.
fn set_acl(context: &mut Context<'_>, request: &SetXattr) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    let namespace = &context.state.namespace;
    let plan = namespace.plan_set_acl(inode, &request.name, &request.value)?;
    if let Some(step) = recall_change_time(context, inode) {
        return Ok(step);
    }
    let (clear, wall) = (request.clear_set_group_id, context.now.wall);
    let namespace = &mut context.state.namespace;
    namespace.set_acl(inode, &plan, clear, wall);
    Ok(done())
}

fn recall_change_time(context: &mut Context<'_>, inode: InodeId) -> Option<Step> {
    let touches = Touches {
        attributes: &[inode],
        directories: &[inode],
        ..Touches::default()
    };
    context.recall(touches).map(Step::Recall)
}

fn answer(value: Bytes) -> Step {
    Step::Done(reply::Result::Xattr(XattrReply { value }))
}
