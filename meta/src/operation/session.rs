//! What a session says of itself: that it did as asked, that it leaves.

use pocket_proto::session::{RecallDone, ShareDirectory};
use pocket_proto::{Failure, InodeId};

use super::{Context, Step, done};

pub(super) fn recall_done(
    context: &mut Context<'_>,
    request: &RecallDone,
) -> Result<Step, Failure> {
    let lease = context.job.lease;
    let state = &mut *context.state;
    if let Some(sent) = state.acknowledge(context.session, request.recall, lease) {
        let took = context.now.tick.saturating_duration_since(sent);
        context.job.environment.counts.recalled.observe(took);
    }
    Ok(done())
}

pub(super) fn share_directory(
    context: &mut Context<'_>,
    request: &ShareDirectory,
) -> Result<Step, Failure> {
    let (session, lease) = (context.session, context.job.lease);
    context
        .state
        .share_directory(InodeId(request.inode), session, lease);
    Ok(done())
}

pub(super) fn goodbye(context: &mut Context<'_>) -> Result<Step, Failure> {
    let state = &mut *context.state;
    if let Some(session) = state.sessions.get_mut(&context.session) {
        session.leave();
    }
    state.end_session(context.session, context.now);
    Ok(done())
}
