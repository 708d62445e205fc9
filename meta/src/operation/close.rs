//! One open less.

use pocket_proto::session::Close;
use pocket_proto::{Failure, InodeId};

use super::{Context, Step, done};

/// Closing what is not open does nothing: the session that had it open may have been another.
pub(super) fn close(context: &mut Context<'_>, request: &Close) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    let state = &mut *context.state;
    state.close(context.session, inode, request.write);
    Ok(done())
}
