//! Sessions come, resume, are heard, and end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pocket_proto::session::Session as SessionMessage;
use pocket_proto::{Failure, InodeId, SessionId, Status};
use tracing::{debug, info};

use super::{Job, JobState, job_gone};
use crate::limits::{RECALLS_PENDING_MAX, SESSIONS_MAX};
use crate::now::Now;
use crate::session::{RecallSink, Session};

/// Who speaks: a session, over its connection of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) session: SessionId,
    pub(crate) line: u64,
}

impl Job {
    /// Opens a session.
    pub(crate) fn open_session(
        &self,
        host: String,
        sink: Box<dyn RecallSink>,
        now: Now,
    ) -> Result<(Caller, SessionMessage), Failure> {
        let mut state = self.state.lock();
        if state.gone {
            return Err(job_gone(self.id));
        }
        if state.sessions.len() >= SESSIONS_MAX {
            let what = format!("job {} has {SESSIONS_MAX} mounts, the limit", self.id);
            return Err(Failure::new(Status::LimitReached, what));
        }
        let id = state.fencing.next_session();
        let session = Session::new(id, host, sink, now.tick);
        let caller = Caller {
            session: id,
            line: session.line,
        };
        debug!(job = %self.id, session = %id, host = session.host, "session opened");
        self.environment.counts.opened.add(1);
        state.sessions.insert(id, session);
        state.idle_since = None;
        Ok((caller, self.describe(&state, id)))
    }

    /// Goes on with a session over another connection.
    pub(crate) fn resume_session(
        &self,
        id: SessionId,
        sink: Box<dyn RecallSink>,
        now: Now,
    ) -> Result<(Caller, SessionMessage), Failure> {
        let mut state = self.state.lock();
        if state.gone {
            return Err(job_gone(self.id));
        }
        let session = state
            .sessions
            .get_mut(&id)
            .filter(|session| !session.is_fenced)
            .ok_or_else(|| session_ended(id))?;
        session.resume(sink, now.tick);
        let caller = Caller {
            session: id,
            line: session.line,
        };
        debug!(job = %self.id, session = %id, "session resumed");
        Ok((caller, self.describe(&state, id)))
    }

    /// A connection has ended; its session lives on for the lease time.
    pub(crate) fn disconnected(&self, caller: Caller) {
        let mut state = self.state.lock();
        if let Some(session) = state.sessions.get_mut(&caller.session) {
            session.disconnect(caller.line);
        }
    }

    /// Number of the last recall sent to a session.
    pub(crate) fn recalls_sent(&self, caller: Caller) -> u64 {
        let state = self.state.lock();
        let session = state.sessions.get(&caller.session);
        session.map_or(0, |session| session.grantee().recalls)
    }

    fn describe(&self, state: &JobState, id: SessionId) -> SessionMessage {
        SessionMessage {
            session: id.0,
            lease_ms: u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX),
            root_inode: InodeId::ROOT.0,
            block_bytes: state.layouts.block_bytes(),
            weight_map: Some(state.layouts.newest().clone()),
            job_name: state.order.name.clone(),
            object_lease_ms: state.leases.told_ms(),
            // Whoever has the cluster's key adds it.
            storage_credential: Bytes::new(),
        }
    }
}

impl Job {
    /// For so long this server heard nobody, whatever they said: what waits in its sockets counts as
    /// said in time.
    pub(crate) fn excuse(&self, stood_still: Duration) {
        let now = Now::take().tick;
        for session in self.state.lock().sessions.values_mut() {
            session.excuse(stood_still, now);
        }
    }
}

impl JobState {
    /// Notes a sign of life. Fails if the session has ended or goes on elsewhere.
    pub(super) fn hear(&mut self, job: &Job, caller: Caller, now: Now) -> Result<(), Failure> {
        if self.gone {
            return Err(job_gone(job.id));
        }
        match self.sessions.get_mut(&caller.session) {
            None => Err(session_ended(caller.session)),
            Some(session) if session.is_fenced => Err(session_ended(caller.session)),
            Some(session) if session.line != caller.line => Err(Failure::new(
                Status::Unavailable,
                "the session goes on over another connection",
            )),
            Some(session) => {
                session.heard = now.tick;
                Ok(())
            }
        }
    }

    /// Ends a session: whatever it held is free.
    pub(crate) fn end_session(&mut self, id: SessionId, now: Now) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        session.hang_up();
        self.space.give_back(session.granted_bytes);
        self.namespace.return_inodes(session.unused_inodes());
        for directory in std::mem::take(&mut session.directories) {
            // It is in touch no more, and so is what it cached.
            self.leases.end_directory(directory, id, now.tick, now.tick);
        }
        self.locks.end_session(id);
        self.tell_granted();
        for inode in std::mem::take(&mut session.opens) {
            let closed = self.opens.remove_all(inode, id);
            if closed.was_writing {
                self.namespace.mark_uncertain(inode, now.wall);
            }
            if closed.by_last_writer {
                self.namespace.end_reservations(inode);
            }
            self.drop_if_unused(inode);
        }
        if self.sessions.is_empty() {
            self.idle_since = Some(now.tick);
        }
    }

    /// Fences sessions that were not heard of, or left a recall without an answer, for the lease
    /// time.
    pub(super) fn fence_overdue_sessions(&mut self, job: &Arc<Job>, now: Now) {
        let overdue: Vec<_> = self
            .sessions
            .values()
            .filter(|session| !session.is_fenced)
            .filter_map(|session| Some((session.id, overdue(session, job, now)?)))
            .collect();
        for (id, why) in overdue {
            let host = self.sessions.get(&id).map(|session| session.host.as_str());
            info!(job = %job.id, session = %id, host, "session ended: {why}");
            self.fence_session(job, id);
        }
    }
}

pub(super) fn session_ended(id: SessionId) -> Failure {
    Failure::new(
        Status::SessionEnded,
        format!("session {id} was ended by the metadata server"),
    )
}

fn overdue(session: &Session, job: &Job, now: Now) -> Option<&'static str> {
    let (pending, oldest) = session.pending_recalls();
    if session.heard + job.lease <= now.tick {
        return Some("no sign of life");
    }
    if pending > RECALLS_PENDING_MAX {
        return Some("too many recalls unanswered");
    }
    oldest
        .filter(|&sent| sent + job.lease <= now.tick)
        .map(|_| "a recall was not answered")
}
