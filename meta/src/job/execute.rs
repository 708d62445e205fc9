//! Carries requests out: at once where possible, else in rounds of waiting and trying again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pocket_proto::session::{OpenMode, Reply, Request, reply, request};
use pocket_proto::{Failure, InodeId, Status};
use prost::Message;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::sessions::session_ended;
use super::{Caller, Job, JobState, job_gone};
use crate::limits::RECALL_ROUNDS_MAX;
use crate::now::Now;
use crate::operation::{self, Context, Progress, Step};
use crate::session::{Answer, Repeated};

/// A relocation waits so long for deletions that make room: they take a second at most.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

/// A request that was taken up.
pub(crate) enum Executed {
    /// It is done.
    Now(Answer),
    /// It is worked on. The sender is dropped only if the server stops.
    Later(oneshot::Receiver<Answer>),
}

/// A request in work.
struct Work {
    caller: Caller,
    operation: request::Operation,
    sequence: u64,
    one_way: bool,
    progress: Progress,
}

impl Job {
    /// Carries out a request of a session. `one_way`: nobody hears the answer.
    pub(crate) fn execute(
        self: &Arc<Self>,
        caller: Caller,
        request: Request,
        one_way: bool,
        now: Now,
    ) -> Executed {
        let Some(operation) = request.operation else {
            let what = "a request without an operation";
            return Executed::Now(Err(Failure::new(Status::Malformed, what)));
        };
        let mut state = self.state.lock();
        if let Err(failure) = state.hear(self, caller, now) {
            return Executed::Now(Err(failure));
        }
        if one_way && request.told != 0 {
            match state.sessions.get_mut(&caller.session) {
                // It was heard before the connection was lost.
                Some(session) if request.told <= session.told => {
                    return Executed::Now(Ok(Bytes::new()));
                }
                Some(session) => session.told = request.told,
                None => {}
            }
        }
        if request.sequence != 0
            && let Some(session) = state.sessions.get_mut(&caller.session)
        {
            match session.replies.find(request.sequence) {
                Repeated::No => {}
                Repeated::Answered(answer) => {
                    let again = state.must_ask_again(caller, &operation);
                    return Executed::Now(answer.and_then(|answer| stale(answer, again)));
                }
                Repeated::UnderWay(answer) => return Executed::Later(answer),
            }
        }
        let mut work = Work {
            caller,
            operation,
            sequence: request.sequence,
            one_way,
            progress: Progress::default(),
        };
        match work.attempt(self, &mut state, now) {
            Ok(Step::Done(result)) => Executed::Now(work.finish(&mut state, Ok(result))),
            Err(failure) => {
                if operation::answered_ahead(&work.operation).is_some() {
                    warn!(job = %self.id, session = %caller.session, %failure,
                        "session ended: it went ahead with what cannot be");
                    state.fence_session(self, caller.session);
                }
                Executed::Now(work.finish(&mut state, Err(failure)))
            }
            Ok(step) => {
                if let Some(session) = state.sessions.get_mut(&caller.session)
                    && work.sequence != 0
                {
                    session.replies.begin(work.sequence);
                }
                drop(state);
                Executed::Later(self.carry_on(work, step))
            }
        }
    }

    /// Goes on in a task of its own, which does not depend on the connection.
    fn carry_on(self: &Arc<Self>, work: Work, step: Step) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let job = Arc::clone(self);
        let stop = self.environment.stop.clone();
        self.environment.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                done = job.rounds(work, step) => {
                    // Whoever asked may have gone; the answer is kept for when it asks again.
                    let _ = answer.send(done);
                }
            }
        });
        receiver
    }

    async fn rounds(self: &Arc<Self>, mut work: Work, mut step: Step) -> Answer {
        let mut rounds = 0;
        while rounds < RECALL_ROUNDS_MAX {
            // Whoever waits for room has an end of its own, however often others take what there is.
            rounds += usize::from(!matches!(step, Step::AwaitGrowth(_)));
            match step {
                Step::Recall(awaited) => self.await_recalls(awaited).await,
                Step::Truncate(truncation) => {
                    work.progress.truncated = Some(self.truncate(truncation).await);
                }
                Step::AwaitUnmarked(mut unmarked) => {
                    // Late or not, the names are looked at again.
                    let _ = timeout(self.lease, unmarked.changed()).await;
                }
                Step::AwaitCut(inode) => self.await_cut(inode).await,
                Step::Move(wanted) => {
                    work.progress.moved = Some(self.move_block(wanted).await);
                }
                // Late or not, the space is looked at again.
                Step::AwaitGrowth(given) => given.any().await,
                Step::AwaitRoom => self.environment.reaper.settled(ROOM_PATIENCE).await,
                Step::Done(_) => unreachable!("what is done has no further round"),
            }
            let mut state = self.state.lock();
            let attempted = match state.still_there(self, work.caller) {
                Ok(()) => work.attempt(self, &mut state, Now::take()),
                Err(failure) => Err(failure),
            };
            step = match attempted {
                Ok(Step::Done(result)) => return work.finish(&mut state, Ok(result)),
                Err(failure) => return work.finish(&mut state, Err(failure)),
                Ok(step) => step,
            };
        }
        let mut state = self.state.lock();
        work.finish(&mut state, Err(Job::gave_up()))
    }
}

impl Work {
    fn attempt(&mut self, job: &Job, state: &mut JobState, now: Now) -> Result<Step, Failure> {
        state.drop_due_orphans(job);
        let mut context = Context {
            job,
            state,
            session: self.caller.session,
            one_way: self.one_way,
            ahead: None,
            progress: &mut self.progress,
            now,
        };
        let attempted = operation::attempt(&mut context, &self.operation);
        state.wake_for_room(job);
        attempted
    }

    /// Gives back what was held meanwhile, and keeps the answer for a mutation asked again.
    fn finish(mut self, state: &mut JobState, result: Result<reply::Result, Failure>) -> Answer {
        state.release_marks(&mut self.progress.held);
        let session = self.caller.session;
        if result.is_err()
            && let Some(opened) = self.progress.opened
        {
            state.close(session, opened.inode, opened.write);
        }
        let answer = result.map(|result| {
            let reply = Reply {
                result: Some(result),
                changed: std::mem::take(&mut self.progress.changed),
                newest_epoch: state.newest_epoch().0,
            };
            reply.encode_to_vec().into()
        });
        if self.sequence != 0
            && let Some(session) = state.sessions.get_mut(&session)
        {
            session.replies.keep(self.sequence, &answer);
        }
        answer
    }
}

/// An answer given again: what it leased may have been recalled, or lapsed, and what it opened may
/// be shared, since. `ask_again`: a file was cut since it was reserved.
fn stale(answer: Bytes, ask_again: bool) -> Answer {
    let mut reply = Reply::decode(answer).map_err(|_| Failure::from(Status::Internal))?;
    let entry = match &mut reply.result {
        Some(reply::Result::Entry(entry)) => Some(entry),
        Some(reply::Result::Opened(opened)) => {
            opened.mode = OpenMode::Through.into();
            opened.entry.as_mut()
        }
        Some(reply::Result::ReserveAppend(reserved)) => {
            reserved.ask_again = ask_again;
            None
        }
        _ => None,
    };
    for entry in entry.into_iter().chain(&mut reply.changed) {
        entry.attributes_valid_ms = 0;
        entry.name_valid_ms = 0;
        entry.exclusive = false;
    }
    Ok(reply.encode_to_vec().into())
}

impl JobState {
    /// Whether a file was cut, or is, since a session was told that it may change its blocks.
    fn must_ask_again(&self, caller: Caller, operation: &request::Operation) -> bool {
        let request::Operation::ReserveAppend(reserve) = operation else {
            return false;
        };
        let inode = InodeId(reserve.inode);
        let session = self.sessions.get(&caller.session);
        self.opens.is_paused(inode, caller.session)
            || session.is_some_and(|session| session.is_asked_to_pause(inode))
    }

    /// Whether a request that waited still has its session; the connection may be another.
    fn still_there(&self, job: &Job, caller: Caller) -> Result<(), Failure> {
        match self.sessions.get(&caller.session) {
            _ if self.gone => Err(job_gone(job.id)),
            Some(session) if !session.is_fenced => Ok(()),
            _ => Err(session_ended(caller.session)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pocket_proto::session::{Entry, Opened};

    #[test]
    fn open_answered_again_is_neither_leased_nor_cached() {
        let entry = Entry {
            attributes_valid_ms: 1000,
            ..Entry::default()
        };
        let reply = Reply {
            result: Some(reply::Result::Opened(Opened {
                entry: Some(entry),
                mode: OpenMode::Cached.into(),
            })),
            ..Reply::default()
        };
        let again = stale(reply.encode_to_vec().into(), false).expect("it was an answer");
        let result = Reply::decode(again).expect("it is a reply").result;
        let Some(reply::Result::Opened(opened)) = result else {
            panic!("something else: {result:?}");
        };
        assert_eq!(opened.mode(), OpenMode::Through);
        assert_eq!(opened.entry, Some(Entry::default()));
    }
}
