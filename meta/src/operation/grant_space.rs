//! Space is granted before it is written.

use pocket_proto::Failure;
use pocket_proto::session::{GrantSpace, GrantSpaceReply, reply};

use super::{Context, Step};
use crate::space::GrantWish;

/// What is given back is taken first: it may be what is asked for.
pub(super) fn grant_space(
    context: &mut Context<'_>,
    request: &GrantSpace,
) -> Result<Step, Failure> {
    let state = &mut *context.state;
    let sessions = state.sessions.len() as u64;
    let Some(session) = state.sessions.get_mut(&context.session) else {
        return Err(pocket_proto::Status::SessionEnded.into());
    };
    let returned = request.returned_bytes.min(session.granted_bytes);
    session.granted_bytes -= returned;
    state.space.give_back(returned);
    let granted_bytes = state.space.grant(GrantWish {
        wanted_bytes: request.wanted_bytes.max(request.needed_bytes),
        needed_bytes: request.needed_bytes,
        sessions,
        allocated_bytes: state.namespace.allocated_bytes(),
    })?;
    session.granted_bytes += granted_bytes;
    let reply = GrantSpaceReply { granted_bytes };
    Ok(Step::Done(reply::Result::GrantSpace(reply)))
}
