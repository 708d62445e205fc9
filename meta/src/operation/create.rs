//! open with O_CREAT: a new file, or the one that is there.

use pocket_proto::session::{Create, OpenMode, Opened, Owner, reply};
use pocket_proto::{Failure, InodeId, Status};

use super::open::Opening;
use super::{Context, Step, done};
use crate::job::Touches;
use crate::namespace::{Content, File, NewInode};

pub(super) fn create(context: &mut Context<'_>, request: &Create) -> Result<Step, Failure> {
    let (parent, name) = (InodeId(request.parent), &*request.name);
    let opening = |inode| Opening {
        inode,
        write: request.write,
        truncate: request.truncate,
        clear_set_id: request.clear_set_id,
        name: Some((parent, name)),
    };
    // An open that is counted goes on, whatever the name leads to by now.
    if let Some(opened) = context.progress.opened {
        return context.open(opening(opened.inode));
    }
    if let Some(awaited) = context.share_before_change(&[(parent, name)], &[]) {
        return Ok(Step::Recall(awaited));
    }
    match context.state.namespace.lookup(parent, name)? {
        Some(_) if request.exclusive || context.ahead.is_some() => Err(Status::Exists.into()),
        Some(inode) => match context.state.namespace.inode(inode)?.content {
            Content::File(_) => context.open(opening(inode)),
            Content::Directory(_) => Err(Status::IsDirectory.into()),
            // The caller knows what to do about it once it looks the name up again.
            _ => Err(Status::Stale.into()),
        },
        None => create_new(context, request),
    }
}

fn create_new(context: &mut Context<'_>, request: &Create) -> Result<Step, Failure> {
    let (parent, name) = (InodeId(request.parent), &*request.name);
    let permissions = (request.mode, request.umask);
    let new = context.new_file(permissions, request.owner, File::default())?;
    let granted = context.granted_inode();
    let plan = context
        .state
        .namespace
        .plan_make(parent, name, &new, granted)?;
    context.check_open_limit()?;
    context.use_granted_inode()?;
    let touches = Touches {
        names: &[(parent, name)],
        ..Touches::default()
    };
    if let Some(awaited) = context.recall(touches) {
        return Ok(Step::Recall(awaited));
    }
    let inode = context.state.namespace.make(&plan, new, context.now.wall);
    context.name_changed(parent);
    context.count_open(inode, request.write);
    if context.ahead.is_some() {
        context.lease_made(parent, name, inode);
        return Ok(done());
    }
    let entry = context.named_entry(parent, name, inode)?;
    Ok(Step::Done(reply::Result::Opened(Opened {
        entry: Some(entry),
        mode: OpenMode::Cached.into(),
    })))
}

impl Context<'_> {
    /// A file that is to be made, of the newest epoch; `permissions` are its mode and the umask.
    pub(super) fn new_file(
        &self,
        (mode, umask): (u32, u32),
        owner: Option<Owner>,
        file: File,
    ) -> Result<NewInode, Failure> {
        let owner = owner.unwrap_or_default();
        let epoch = self.epoch_of_new()?;
        Ok(NewInode {
            mode,
            umask,
            uid: owner.uid,
            gid: owner.gid,
            content: Content::File(File { epoch, ..file }),
        })
    }
}
