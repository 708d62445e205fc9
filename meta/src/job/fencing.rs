//! Fencing: a session that did not answer ends once no storage server takes changes of it any more.
//!
//! Only then is what it held given to others; until then they wait as for a recall.

use std::sync::Arc;

use pocket_proto::{Fence, SessionId};

use super::{Job, JobState};
use crate::now::Now;

/// How sessions are numbered, and how far fencing is.
pub(super) struct Fencing {
    /// Number of the newest session.
    newest: SessionId,
    /// Fences so far.
    edition: u64,
    /// Somebody is at it, and looks for more when that is done.
    is_under_way: bool,
}

impl Fencing {
    /// Sessions of another life of the job do not have the numbers of this one's.
    pub(super) fn new() -> Self {
        // 63 bits, so that they also fit signed integers of other systems.
        Fencing {
            newest: SessionId(u64::from(rand::random::<u32>() >> 1) << 32),
            edition: 0,
            is_under_way: false,
        }
    }

    /// Number of a new session, above all before.
    pub(super) fn next_session(&mut self) -> SessionId {
        self.newest.0 += 1;
        self.newest
    }
}

impl JobState {
    /// Ends a session that does not answer: it is not heard any more from here on, and over when
    /// it is fenced.
    pub(super) fn fence_session(&mut self, job: &Arc<Job>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut session.is_fenced, true) {
            job.environment.counts.fenced.add(1);
        }
        session.hang_up();
        if std::mem::replace(&mut self.fencing.is_under_way, true) {
            return;
        }
        let (job, stop) = (Arc::clone(job), job.environment.stop.clone());
        job.environment.tasks.clone().spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = job.fence_sessions() => {}
            }
        });
    }

    /// What storage servers are to know of the job's sessions, if one was fenced.
    pub(super) fn fence(&self, job: &Job) -> Option<Fence> {
        let live = self.sessions.values().filter(|session| !session.is_fenced);
        let mut live: Vec<_> = live.map(|session| session.id).collect();
        live.sort_unstable();
        (self.fencing.edition > 0).then(|| Fence {
            issuer: job.environment.vouching.issuer,
            edition: self.fencing.edition,
            newest: self.fencing.newest,
            live,
        })
    }

    /// Those to be ended, and the fence that does it. None: it is done.
    fn next_fence(&mut self, job: &Job) -> Option<(Vec<SessionId>, Fence)> {
        let ending = self.sessions.values().filter(|session| session.is_fenced);
        let ending: Vec<_> = ending.map(|session| session.id).collect();
        if ending.is_empty() {
            self.fencing.is_under_way = false;
            return None;
        }
        self.fencing.edition += 1;
        Some((ending, self.fence(job)?))
    }
}

impl Job {
    /// Fences all sessions that wait for it, and those that come meanwhile.
    async fn fence_sessions(&self) {
        loop {
            let (servers, ending, fence) = {
                let mut state = self.state.lock();
                let Some((ending, fence)) = state.next_fence(self) else {
                    return;
                };
                (state.layouts.all_servers(), ending, fence)
            };
            let vouching = &self.environment.vouching;
            vouching.fence(self.id, &servers, fence).await;
            let mut state = self.state.lock();
            for session in ending {
                state.end_session(session, Now::take());
            }
            state.wake_for_room(self);
        }
    }
}
