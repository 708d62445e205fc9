//! Space is granted before it is written.

use pocket_proto::session::{GrantSpace, GrantSpaceReply, reply};
use pocket_proto::{Failure, Status};

use super::{Context, Step};
use crate::job::JobState;
use crate::space::GrantWish;

/// What is given back is taken first: it may be what is asked for.
pub(super) fn grant_space(
    context: &mut Context<'_>,
    request: &GrantSpace,
) -> Result<Step, Failure> {
    let state = &mut *context.state;
    let sessions = state.sessions.len() as u64;
    let Some(session) = state.sessions.get_mut(&context.session) else {
        return Err(Status::SessionEnded.into());
    };
    let returned = request.returned_bytes.min(session.granted_bytes);
    session.granted_bytes -= returned;
    state.space.give_back(returned);
    let granted_bytes = match state.grant(request, sessions) {
        // What was deleted a moment ago makes room.
        Err(failure) if failure.status == Status::QuotaExceeded => {
            state.drop_orphans(context.job);
            state.grant(request, sessions)?
        }
        granted => granted?,
    };
    if let Some(session) = state.sessions.get_mut(&context.session) {
        session.granted_bytes += granted_bytes;
    }
    let reply = GrantSpaceReply { granted_bytes };
    Ok(Step::Done(reply::Result::GrantSpace(reply)))
}

impl JobState {
    fn grant(&mut self, request: &GrantSpace, sessions: u64) -> Result<u64, Failure> {
        self.space.grant(GrantWish {
            wanted_bytes: request.wanted_bytes.max(request.needed_bytes),
            needed_bytes: request.needed_bytes,
            sessions,
            allocated_bytes: self.namespace.allocated_bytes(),
        })
    }
}
