//! A session over the wire: one connection at a time, resumed when it is lost.
//!
//! Calls carry on over a lost connection until their deadline; a mutation keeps its number, so
//! that the server does it once. What was told one-way is kept until a later call was answered
//! (the server works in order of arrival), and told again on the next connection. When the server
//! has ended the session, another is opened: see [`RecallHandler::session_lost`].
//!
//! Locks: the link's ([`link`]) and the recalls' ([`recalls`]); neither is held over an `.await`,
//! and the link's is never held while a handler runs.

mod connector;
mod leases;
mod link;
mod recalls;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_proto::session::{Goodbye, Reply, request};
use pocket_proto::{Failure, JobId, Operation, SessionId, Status};
use pocket_wire::ReplyFrame;
use prost::Message;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::connector::Connector;
use self::link::{Line, Link, When};
use self::recalls::Recalls;
use self::requests::{Repetition, Sequence, repetition};
use crate::{Answered, Metadata, RecallHandler, SessionInfo};

/// Every call ends within this time, so that no operation of a mount hangs (10 s are promised). Calls
/// end at once when the server has been away for longer: many that wait for one another, for a lock
/// of the mount's or of its kernel's, would add up.
const CALL_DEADLINE: Duration = Duration::from_secs(8);
/// Leaving is a courtesy: the server would find out by itself.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(2);
/// Calls under way. At most half of the replies that the server keeps for repeated mutations.
const CALLS_MAX: usize = 512;

/// A mount's session with the metadata server of its job. Cheap to clone; the session is left to
/// lapse when the last clone is dropped (see [`MetaClient::close`]).
#[derive(Clone)]
pub struct MetaClient {
    shared: Arc<Shared>,
    _stop: Arc<StopOnDrop>,
}

/// Cancels the connector's task.
struct StopOnDrop(CancellationToken);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What calls and the connector share.
struct Shared {
    target: Target,
    link: Link,
    recalls: Arc<Recalls>,
    sequence: Sequence,
    places: Semaphore,
    stop: CancellationToken,
}

/// Whom to call, and as whom.
struct Target {
    endpoint: String,
    job: JobId,
    credential: Bytes,
    host: String,
}

impl MetaClient {
    /// Opens a session with the server at `endpoint` ("host:port") on `job`, for the mount on
    /// `host` (for people). Must be called within a tokio runtime.
    ///
    /// Errors: [`Status::Unavailable`] if the server cannot be reached, [`Status::JobGone`] if it
    /// does not have the job, [`Status::Denied`], [`Status::VersionMismatch`].
    pub async fn connect(
        endpoint: &str,
        job: JobId,
        credential: Vec<u8>,
        host: &str,
        handler: Arc<dyn RecallHandler>,
    ) -> Result<MetaClient, Failure> {
        let target = Target {
            endpoint: endpoint.to_owned(),
            job,
            credential: credential.into(),
            host: host.to_owned(),
        };
        let recalls = Arc::new(Recalls::new(handler));
        let (line, info) = connector::open(&target, &recalls, None).await?;
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            target,
            link: Link::new(line, info),
            recalls,
            sequence: Sequence::default(),
            places: Semaphore::new(CALLS_MAX),
            stop: stop.clone(),
        });
        tokio::spawn(Connector::new(Arc::clone(&shared)).run());
        Ok(MetaClient {
            shared,
            _stop: Arc::new(StopOnDrop(stop)),
        })
    }

    /// Ends the session in an orderly way: the server takes back at once what it held. Every call
    /// fails afterwards.
    pub async fn close(&self) {
        let shared = &self.shared;
        if let Some(line) = shared.link.line() {
            let body = requests::encode(request::Operation::Goodbye(Goodbye {}), 0);
            // Whatever comes of it: the session lapses without it.
            let _ = line.call(shared.target.job, body, GOODBYE_DEADLINE).await;
        }
        let left = Failure::new(Status::SessionEnded, "the session was left");
        shared.link.end_for_good(left);
        shared.stop.cancel();
    }
}

impl std::fmt::Debug for MetaClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetaClient")
            .field("endpoint", &self.shared.target.endpoint)
            .field("job", &self.shared.target.job)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Metadata for MetaClient {
    async fn call(&self, operation: request::Operation) -> Result<Answered, Failure> {
        let until = Instant::now() + CALL_DEADLINE;
        let shared = &self.shared;
        let place = timeout_at(until, shared.places.acquire()).await;
        let _place = place.map_err(|_| {
            let what = format!("{CALLS_MAX} calls are under way and none ends");
            Failure::new(Status::Unavailable, what)
        })?;
        shared.call(operation, until).await
    }

    fn tell(&self, operation: request::Operation) -> Result<(), Failure> {
        self.shared.tell(operation, When::Now)
    }

    fn tell_soon(&self, operation: request::Operation) -> Result<(), Failure> {
        self.shared.tell(operation, When::Soon)
    }

    fn flush(&self) {
        if let Some(line) = self.shared.link.line() {
            line.connection.flush();
        }
    }

    fn in_touch_for(&self) -> Duration {
        self.shared.link.in_touch_for()
    }

    fn is_settled(&self) -> bool {
        self.shared.link.is_settled()
    }

    fn newest_epoch(&self) -> u32 {
        self.shared.link.newest_epoch()
    }

    fn session(&self) -> SessionInfo {
        self.shared.link.info()
    }
}

impl Shared {
    fn tell(&self, operation: request::Operation, when: When) -> Result<(), Failure> {
        self.link.tell(self.target.job, operation, when)
    }

    async fn call(
        &self,
        operation: request::Operation,
        until: Instant,
    ) -> Result<Answered, Failure> {
        let repetition = repetition(&operation);
        let sequence = self.sequence.number(&operation);
        let body = requests::encode(operation, sequence);
        let mut sent_in: Option<SessionId> = match repetition {
            Repetition::OwnSession => Some(self.link.session()),
            Repetition::Once | Repetition::Harmless => None,
        };
        loop {
            let line = match self.link.open_line()? {
                Some(line) => line,
                None => self.wait_for_line(until).await?,
            };
            if sent_in.is_some_and(|session| session != line.session) {
                let what = "the session was renewed while the call was under way";
                return Err(Failure::new(Status::SessionEnded, what));
            }
            // An earlier sending may have been done, and its answer lost with the connection.
            let is_repeated = repetition == Repetition::Once && sent_in.is_some();
            if repetition == Repetition::Once {
                sent_in = Some(line.session);
            }
            let told = self.link.told();
            let asked = Instant::now();
            let remaining = until.saturating_duration_since(asked);
            let failure = match line.call(self.target.job, body.clone(), remaining).await {
                Ok(frame) => {
                    self.link.confirm(&line, told, asked);
                    return self.answered(frame, &line, asked.elapsed());
                }
                Err(failure) => failure,
            };
            match failure.status {
                // The server did not do it now: it may be done in the session to come.
                Status::SessionEnded => {
                    self.link.lose_session(line.session, failure.clone());
                    if repetition == Repetition::OwnSession || is_repeated {
                        return Err(failure);
                    }
                    sent_in = None;
                }
                Status::Unavailable if line.is_closed() && Instant::now() < until => {
                    self.link.drop_line(&line);
                }
                _ => return Err(failure),
            }
        }
    }

    fn answered(
        &self,
        frame: ReplyFrame,
        line: &Line,
        elapsed: Duration,
    ) -> Result<Answered, Failure> {
        let malformed = |what: String| Failure::new(Status::Malformed, what);
        let reply = Reply::decode(frame.body)
            .map_err(|error| malformed(format!("the reply cannot be read: {error}")))?;
        self.link.note_epoch(reply.newest_epoch);
        let (mut result, mut changed) = (reply.result, reply.changed);
        leases::age(result.as_mut(), &mut changed, elapsed);
        Ok(Answered {
            result: result.ok_or_else(|| malformed("a reply without a result".to_owned()))?,
            changed,
            stamp: line.first_stamp + frame.pushes_before,
            session: line.session,
        })
    }

    /// Waits until the connector has a line. Fails if that takes too long, if the server is known to
    /// have been away for so long, or if there will be none.
    async fn wait_for_line(&self, until: Instant) -> Result<Line, Failure> {
        let mut changes = self.link.changes();
        loop {
            changes.mark_unchanged();
            if let Some(line) = self.link.open_line()? {
                return Ok(line);
            }
            // It may not be known yet.
            let until = match self.link.away_since() {
                Some(since) => until.min(since + CALL_DEADLINE),
                None => until,
            };
            if timeout_at(until, changes.changed()).await.is_err() {
                return Err(self.link.away());
            }
        }
    }
}

impl Line {
    async fn call(
        &self,
        job: JobId,
        body: Bytes,
        deadline: Duration,
    ) -> Result<ReplyFrame, Failure> {
        self.connection
            .call(Operation::Metadata, job, &[], body, deadline)
            .await
    }

    fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }
}
