//! A job in the process of its mounts, without sockets: for tests of what is built on sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pocket_meta_client::{Answered, Metadata, RecallHandler, SessionInfo};
use pocket_proto::control::{CreateJobRequest, Reservation};
use pocket_proto::session::{Goodbye, KeepAlive, Recall, Reply, Request, WeightMap, request};
use pocket_proto::{Failure, JobId, Status};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::blocks::BlockRemover;
use crate::environment::Environment;
use crate::job::{Caller, Executed, Job};
use crate::jobs::Jobs;
use crate::limits::RECALLS_PENDING_MAX;
use crate::now::Now;
use crate::session::RecallSink;

/// Signs of life within a lease, as over the wire.
const SIGNS_PER_LEASE: u32 = 3;

/// A metadata server of one job in this process. Dropping it stops its tasks; sessions stay as
/// they are, but are heard no more.
pub struct LocalJob {
    job: Arc<Job>,
    jobs: Arc<Jobs>,
    _stop: DropGuard,
}

/// What a job in this process is to be.
#[derive(Clone, Debug)]
pub struct LocalJobConfig {
    /// Its id, not 0.
    pub job: JobId,
    /// Its allocation in bytes.
    pub capacity_bytes: u64,
    /// Where it may hold less than this, writes that do not fit wait for more.
    pub awaited_bytes_max: u64,
    /// Its block size in bytes.
    pub block_bytes: u32,
    /// Where its first files' blocks go.
    pub weight_map: WeightMap,
    /// A session not heard of for so long is ended.
    pub lease: Duration,
    /// An inode that lost its last name and its last open is kept for so long.
    pub orphan_grace: Duration,
}

impl LocalJob {
    /// Opens a job. Must be called within a tokio runtime.
    pub fn new(config: LocalJobConfig, blocks: Arc<dyn BlockRemover>) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        let environment = Environment::new(blocks, stop.clone());
        let jobs = Arc::new(Jobs::new(config.lease, config.orphan_grace, environment));
        jobs.create(CreateJobRequest {
            job: config.job.0,
            name: format!("local-{}", config.job),
            capacity_bytes: config.capacity_bytes,
            block_bytes: config.block_bytes,
            weight_map: Some(config.weight_map),
            reservation: Some(Reservation {
                awaited_bytes_max: config.awaited_bytes_max,
                ..Reservation::default()
            }),
            ..CreateJobRequest::default()
        })?;
        let job = jobs.get(config.job)?;
        let kept = Arc::clone(&jobs);
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(async move { kept.keep_house().await }),
        );
        Ok(LocalJob {
            job,
            jobs,
            _stop: stop.drop_guard(),
        })
    }

    /// Opens a session. The handler is called from a task of its own, in order.
    pub fn connect(&self, handler: Arc<dyn RecallHandler>) -> Result<LocalMetadata, Failure> {
        let (recalls, received) = mpsc::channel(RECALLS_PENDING_MAX + 1);
        let sink = Box::new(LocalSink { recalls });
        let host = "local".to_owned();
        let (caller, session) = self.job.open_session(host, sink, Now::take())?;
        let info = SessionInfo::new(self.job.id, Some(session))?;
        let stop = CancellationToken::new();
        tokio::spawn(deliver(received, handler, stop.clone()));
        tokio::spawn(keep_alive(
            Arc::clone(&self.job),
            caller,
            info.lease,
            stop.clone(),
        ));
        Ok(LocalMetadata {
            job: Arc::clone(&self.job),
            caller,
            info,
            sequence: AtomicU64::new(0),
            stop,
        })
    }

    /// Publishes a weight map for new files.
    pub fn set_weight_map(&self, map: WeightMap) -> Result<(), Failure> {
        self.job.set_weight_map(map)
    }

    /// Ends the job: every session is over.
    pub async fn end(&self) {
        self.jobs.end(self.job.id, Vec::new()).await;
    }
}

/// A session with a [`LocalJob`]. It is not renewed once it is lost. Dropping it is what the death
/// of a mount is: it lapses.
pub struct LocalMetadata {
    job: Arc<Job>,
    caller: Caller,
    info: SessionInfo,
    sequence: AtomicU64,
    stop: CancellationToken,
}

impl LocalMetadata {
    /// Leaves in an orderly way.
    pub fn leave(&self) {
        self.stop.cancel();
        // A session that has ended before needs no leaving.
        let _ = self.tell(request::Operation::Goodbye(Goodbye {}));
    }

    fn execute(&self, operation: request::Operation, one_way: bool) -> Executed {
        let request = Request {
            operation: Some(operation),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            told: 0,
        };
        self.job.execute(self.caller, request, one_way, Now::take())
    }
}

impl Drop for LocalMetadata {
    fn drop(&mut self) {
        self.stop.cancel();
        self.job.disconnected(self.caller);
    }
}

#[async_trait]
impl Metadata for LocalMetadata {
    async fn call(&self, operation: request::Operation) -> Result<Answered, Failure> {
        let stamp = self.job.recalls_sent(self.caller);
        let answer = match self.execute(operation, false) {
            Executed::Now(answer) => answer,
            Executed::Later(answer) => answer.await.unwrap_or_else(|_| {
                let what = "the job in this process was dropped";
                Err(Failure::new(Status::Unavailable, what))
            }),
        };
        let reply = Reply::decode(answer?).map_err(|_| Failure::from(Status::Internal))?;
        let result = reply.result.ok_or(Status::Internal)?;
        let changed = reply.changed;
        Ok(Answered {
            result,
            changed,
            stamp,
            session: self.info.session,
        })
    }

    fn tell(&self, operation: request::Operation) -> Result<(), Failure> {
        match self.execute(operation, true) {
            Executed::Now(Err(failure)) if failure.status == Status::SessionEnded => Err(failure),
            Executed::Now(Err(failure)) if failure.status == Status::JobGone => Err(failure),
            // As over the wire, nobody hears what came of it.
            Executed::Now(_) | Executed::Later(_) => Ok(()),
        }
    }

    fn in_touch_for(&self) -> Duration {
        self.info.lease * 9 / 10
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn newest_epoch(&self) -> u32 {
        self.job.newest_epoch().0
    }

    fn session(&self) -> SessionInfo {
        self.info.clone()
    }
}

/// Recalls on their way to the handler's task.
struct LocalSink {
    recalls: mpsc::Sender<Recall>,
}

impl RecallSink for LocalSink {
    fn push(&self, recall: &Recall) {
        // The session is ended before the channel is full.
        let _ = self.recalls.try_send(recall.clone());
    }

    fn close(&self) {}
}

async fn deliver(
    mut recalls: mpsc::Receiver<Recall>,
    handler: Arc<dyn RecallHandler>,
    stop: CancellationToken,
) {
    while let Some(recall) = recalls.recv().await {
        let stamp = recall.recall;
        handler.recall(recall, stamp);
    }
    if !stop.is_cancelled() {
        handler.session_lost(Status::SessionEnded.into());
    }
}

async fn keep_alive(job: Arc<Job>, caller: Caller, lease: Duration, stop: CancellationToken) {
    let period = lease / SIGNS_PER_LEASE;
    let mut signs = interval_at(Instant::now() + period, period);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = signs.tick() => {}
        }
        let request = Request {
            operation: Some(request::Operation::KeepAlive(KeepAlive {})),
            sequence: 0,
            told: 0,
        };
        if let Executed::Now(Err(_)) = job.execute(caller, request, true, Now::take()) {
            return;
        }
    }
}
