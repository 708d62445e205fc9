//! O_APPEND, atomic over all mounts; and leave to go on after a file was cut.

use pocket_proto::session::{ReserveAppend, ReserveAppendReply, ReturnAppend, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step, done};

/// A reservation lasts until its bytes are committed, or the file's last writer has left. While the
/// file is being cut there is none, as the cut would not see it.
pub(super) fn reserve_append(
    context: &mut Context<'_>,
    request: &ReserveAppend,
) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    if context.is_cut_elsewhere(inode) {
        return Ok(Step::AwaitCut(inode));
    }
    let state = &mut *context.state;
    let offset_bytes = (state.namespace).reserve_append(inode, request.length_bytes)?;
    let session = state.sessions.get(&context.session);
    let recalls = session.map_or(0, |session| session.grantee().recalls);
    state.opens.resume(inode, context.session, recalls);
    let reply = ReserveAppendReply {
        offset_bytes,
        ask_again: false,
        recalls,
    };
    Ok(Step::Done(reply::Result::ReserveAppend(reply)))
}

/// The end of a reservation is not needed: the append failed. What others reserved behind it stays
/// where it is, with a hole before it.
pub(super) fn return_append(
    context: &mut Context<'_>,
    request: &ReturnAppend,
) -> Result<Step, Failure> {
    let (offset, length) = (request.offset_bytes, request.length_bytes);
    let namespace = &mut context.state.namespace;
    namespace.return_append(InodeId(request.inode), offset, length)?;
    Ok(done())
}
