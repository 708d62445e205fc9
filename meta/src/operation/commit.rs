//! Making written data visible.

use pocket_proto::session::{Commit, reply};
use pocket_proto::{Failure, InodeId, SessionId};

use super::{Context, Step, done};
use crate::job::{JobState, Touches};
use crate::namespace::CommitChange;
use crate::now::Timestamp;

pub(super) fn commit(context: &mut Context<'_>, request: &Commit) -> Result<Step, Failure> {
    let inode = InodeId(request.inode);
    let change = CommitChange {
        size_bytes: request.size_bytes,
        allocated_bytes: request.allocated_bytes,
        modified: Timestamp::read_optional(request.modified.as_ref())?,
        clear_set_id: request.clear_set_id,
        allocated_behind: request.allocated_behind,
    };
    if context.state.namespace.plan_commit(inode, &change)? {
        let touches = Touches {
            attributes: &[inode],
            ..Touches::default()
        };
        if let Some(awaited) = context.recall(touches) {
            return Ok(Step::Recall(awaited));
        }
        let wall = context.now.wall;
        let moved = context.state.namespace.commit(inode, &change, wall)?;
        context.state.move_from_grant(context.session, moved);
    }
    if context.ahead.is_some() {
        context.lease_changed(inode);
        return Ok(done());
    }
    let entry = context.entry(inode)?;
    Ok(Step::Done(reply::Result::Entry(entry)))
}

impl JobState {
    /// Bytes that a file took come out of the session's grant, and those that it gave back go
    /// there. What was written without a grant counts all the same.
    fn move_from_grant(&mut self, session: SessionId, bytes: i64) {
        let Some(session) = self.sessions.get_mut(&session) else {
            return;
        };
        if bytes >= 0 {
            let covered = session.granted_bytes.min(bytes.unsigned_abs());
            session.granted_bytes -= covered;
            self.space.give_back(covered);
        } else {
            session.granted_bytes += bytes.unsigned_abs();
            self.space.take_back(bytes.unsigned_abs());
        }
    }
}
