//! mkdir, mknod, symlink: a new inode and its name.

use bytes::Bytes;
use pocket_proto::session::{FileKind, MakeNode, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step, done, malformed};
use crate::job::Touches;
use crate::namespace::{Content, File, NewInode};

pub(super) fn make_node(context: &mut Context<'_>, request: &MakeNode) -> Result<Step, Failure> {
    let (parent, name) = (InodeId(request.parent), &*request.name);
    if let Some(awaited) = context.share_before_change(&[(parent, name)], &[]) {
        return Ok(Step::Recall(awaited));
    }
    let owner = request.owner.unwrap_or_default();
    let new = NewInode {
        mode: request.mode,
        umask: request.umask,
        uid: owner.uid,
        gid: owner.gid,
        content: content(context, request)?,
    };
    let granted = context.granted_inode();
    let plan = context
        .state
        .namespace
        .plan_make(parent, name, &new, granted)?;
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
    if request.kind() == FileKind::Directory {
        context.lease_directory(inode, true);
    }
    if context.ahead.is_some() {
        context.lease_made(parent, name, inode);
        return Ok(done());
    }
    let entry = context.named_entry(parent, name, inode)?;
    Ok(Step::Done(reply::Result::Entry(entry)))
}

fn content(context: &Context<'_>, request: &MakeNode) -> Result<Content, Failure> {
    Ok(match request.kind() {
        FileKind::Unspecified => return Err(malformed("a node of no kind")),
        FileKind::Regular => Content::File(File {
            epoch: context.epoch_of_new()?,
            ..File::default()
        }),
        FileKind::Directory => NewInode::directory(),
        // Copied: the request may be a piece of a large buffer.
        FileKind::Symlink => Content::Symlink(Bytes::copy_from_slice(&request.target)),
        kind => Content::Special {
            kind,
            number: request.device,
        },
    })
}

impl Context<'_> {
    /// Notes that this session changed a name in the directory.
    pub(super) fn name_changed(&mut self, directory: InodeId) {
        let leases = &mut self.state.leases;
        leases.name_changed(directory, self.session, self.now.tick);
        self.lease_directory(directory, false);
        self.show_changed(directory);
    }

    /// Sends an inode along with the answer, as the operation left it, if it still exists.
    pub(super) fn show_changed(&mut self, inode: InodeId) {
        if self.one_way {
            return;
        }
        if let Ok(entry) = self.entry(inode) {
            self.progress.changed.push(entry);
        }
    }
}
