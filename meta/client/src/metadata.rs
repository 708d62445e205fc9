//! What a mount sees of its metadata server: requests, answers, recalls. No I/O here.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pocket_proto::session::{Entry, Recall, Session, WeightMap, reply, request};
use pocket_proto::{Failure, InodeId, JobId, SessionId, Status};

/// A session with the metadata server of one job.
///
/// Requests are handled in the order of these calls as far as they need not wait for each other:
/// what [`Metadata::tell`] sent is done before anything that is sent later.
#[async_trait]
pub trait Metadata: Send + Sync {
    /// Does `operation` and returns what came of it. A mutation is done at most once, whatever
    /// happens to the connection. Ends within the session's deadline: [`Status::Unavailable`].
    async fn call(&self, operation: request::Operation) -> Result<Answered, Failure>;

    /// Has `operation` done without waiting for it. Its failure is not told. Fails if the session
    /// is over, or if the server is away and too much waits for it already.
    fn tell(&self, operation: request::Operation) -> Result<(), Failure>;

    /// As [`Metadata::tell`], in the same order, but nobody is in a hurry: it goes out with what is
    /// sent next, or with [`Metadata::flush`].
    fn tell_soon(&self, operation: request::Operation) -> Result<(), Failure> {
        self.tell(operation)
    }

    /// Sends what [`Metadata::tell_soon`] has held back.
    fn flush(&self) {}

    /// For how long the server keeps the session from now on, even if it hears nothing more.
    fn in_touch_for(&self) -> Duration;

    /// Whether the server is known to have done all that it was told.
    fn is_settled(&self) -> bool;

    /// The epoch of the newest weight map that the server has spoken of.
    fn newest_epoch(&self) -> u32;

    /// The session as it is now; another one after [`RecallHandler::session_renewed`].
    fn session(&self) -> SessionInfo;
}

/// A reply, and where it stands among the recalls.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// What the server said.
    pub result: reply::Result,
    /// Other inodes that the operation changed, as it left them.
    pub changed: Vec<Entry>,
    /// Number of the last recall that the server had sent when it decided on this reply. What a
    /// recall of a higher number names must not be cached from this reply.
    pub stamp: u64,
    /// The session in which it was done, which may be a later one than the call began in.
    pub session: SessionId,
}

/// Where a session's recalls go.
///
/// Called by the task that reads the connection: in order of arrival, and never concurrently.
/// Implementations must not block.
pub trait RecallHandler: Send + Sync {
    /// The server takes something back. To be answered with `RecallDone` (by [`Metadata::tell`])
    /// once done, within the lease time; may come twice, after a lost connection. `stamp` grows.
    fn recall(&self, recall: Recall, stamp: u64);

    /// The session is over: its leases, opens and grants are gone, and so is everything cached.
    fn session_lost(&self, reason: Failure);

    /// Another session took the place of the lost one.
    fn session_renewed(&self, info: SessionInfo);
}

/// What a mount knows of its session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionInfo {
    /// The session.
    pub session: SessionId,
    /// The job whose names these are.
    pub job: JobId,
    /// The job's name, for people.
    pub job_name: String,
    /// The job's root directory.
    pub root: InodeId,
    /// The job's block size in bytes.
    pub block_bytes: u32,
    /// A mount that the server does not hear from for so long is ended.
    pub lease: Duration,
    /// Leases on names and attributes of what the mount makes ahead of the server.
    pub object_lease: Duration,
    /// What storage servers want to see before they change blocks for this session.
    pub storage_credential: Bytes,
    /// The newest weight map at the time the session was opened or resumed.
    pub weight_map: WeightMap,
}

impl SessionInfo {
    /// From what the server's welcome says. Refuses what no server would say.
    pub fn new(job: JobId, session: Option<Session>) -> Result<Self, Failure> {
        let malformed = |what| Failure::new(Status::Malformed, what);
        let session = session
            .ok_or_else(|| malformed("welcome without a session (not a metadata server)"))?;
        let weight_map = session
            .weight_map
            .ok_or_else(|| malformed("welcome without a weight map"))?;
        if session.block_bytes == 0 || session.lease_ms == 0 {
            return Err(malformed("welcome without a block size or a lease time"));
        }
        Ok(SessionInfo {
            session: SessionId(session.session),
            job,
            job_name: session.job_name,
            root: InodeId(session.root_inode),
            block_bytes: session.block_bytes,
            lease: Duration::from_millis(u64::from(session.lease_ms)),
            object_lease: Duration::from_millis(u64::from(session.object_lease_ms)),
            storage_credential: session.storage_credential,
            weight_map,
        })
    }
}
