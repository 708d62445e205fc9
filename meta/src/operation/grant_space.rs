//! Space is granted before it is written.

use pocket_proto::session::{GrantSpace, GrantSpaceReply, reply};
use pocket_proto::{Failure, Status};

use super::{Context, Step};
use crate::job::{Job, JobState};
use crate::now::Now;
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
            match state.grant(request, sessions) {
                Ok(granted) => granted,
                Err(full) => return state.await_more(request, full, context.now),
            }
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
    /// Waits for the controller to give the job more, where that may be; what was given back is not
    /// given back twice.
    fn await_more(
        &mut self,
        request: &GrantSpace,
        full: Failure,
        now: Now,
    ) -> Result<Step, Failure> {
        let held = self.namespace.allocated_bytes() + self.space.granted_bytes();
        let most = self.awaited_bytes_max();
        let fits = held.saturating_add(request.needed_bytes) <= most;
        if !fits || self.space.capacity_bytes() >= most || request.returned_bytes > 0 {
            return Err(full);
        }
        let wanted = request.wanted_bytes.max(request.needed_bytes);
        let wanted = held.saturating_add(wanted).min(most);
        let given = self.growth.want(request.needed_bytes, wanted, now.tick);
        given.map(Step::AwaitGrowth).ok_or(full)
    }

    /// Has writes that wait for room look again where there is some: what was removed makes it at once,
    /// as it does for who does not wait.
    pub(crate) fn wake_for_room(&mut self, job: &Job) {
        if !self.growth.is_awaited() {
            return;
        }
        self.drop_orphans(job);
        let allocated = self.namespace.allocated_bytes();
        self.growth.make_room(self.space.free_bytes(allocated));
    }

    fn grant(&mut self, request: &GrantSpace, sessions: u64) -> Result<u64, Failure> {
        self.space.grant(GrantWish {
            wanted_bytes: request.wanted_bytes.max(request.needed_bytes),
            needed_bytes: request.needed_bytes,
            sessions,
            allocated_bytes: self.namespace.allocated_bytes(),
        })
    }
}
