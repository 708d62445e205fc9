//! O_APPEND, atomic over all mounts.

use pocket_proto::session::{ReserveAppend, ReserveAppendReply, reply};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step};

/// A reservation lasts until its bytes are committed, or the file's last writer has left.
pub(super) fn reserve_append(
    context: &mut Context<'_>,
    request: &ReserveAppend,
) -> Result<Step, Failure> {
    let namespace = &mut context.state.namespace;
    let offset_bytes = namespace.reserve_append(InodeId(request.inode), request.length_bytes)?;
    let reply = ReserveAppendReply { offset_bytes };
    Ok(Step::Done(reply::Result::ReserveAppend(reply)))
}
