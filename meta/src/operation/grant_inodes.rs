//! Inode numbers for what a mount makes ahead of the server.

use pocket_proto::session::{GrantInodes, GrantInodesReply, reply};
use pocket_proto::{Failure, Status};

use super::{Context, Step};
use crate::limits::INODES_GRANTED_MAX;

/// Grants none where a mount has enough, or the job has no room for more inodes.
pub(super) fn grant_inodes(
    context: &mut Context<'_>,
    request: &GrantInodes,
) -> Result<Step, Failure> {
    let state = &mut *context.state;
    let Some(session) = state.sessions.get_mut(&context.session) else {
        return Err(Status::SessionEnded.into());
    };
    let room = INODES_GRANTED_MAX.saturating_sub(session.unused_inodes());
    let (first, count) = state
        .namespace
        .grant_inodes(u64::from(request.wanted).min(room));
    if count > 0 {
        session.inodes.push_back(first.0..first.0 + count);
    }
    let count = u32::try_from(count).expect("no more than wanted");
    Ok(Step::Done(reply::Result::GrantInodes(GrantInodesReply {
        first: first.0,
        count,
    })))
}
