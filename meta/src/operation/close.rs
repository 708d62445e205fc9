//! One open less.

use pocket_proto::session::Close;
use pocket_proto::{Failure, InodeId};

use super::{Context, Step, done};

/// Closing what is not open does nothing: the session that had it open may have been another.
pub(super) fn close(context: &mut Context<'_>, request: &Close) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    let state = &mut *context.state;
    if let Some(read_bytes) = request.read_bytes {
        state.namespace.note_read(inode, read_bytes);
    }
    state.close(context.session, inode, request.write);
    Ok(done())
}
