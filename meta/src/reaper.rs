//! Drops the blocks of removed files, behind the back of those who removed them.
//!
//! Each storage server with something to drop has a task, which sends what gathered while the last
//! request was under way. A server that is away is tried again a few times; after that, or when the
//! controller calls it dead, it is told before anybody vouches for it again (`vouching`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pocket_proto::session::StorageServer;
use pocket_proto::{InodeId, JobId};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::blocks::BlockRemover;
use crate::layouts::Liveness;
use crate::vouching::{Debt, Vouching, is_gone};

/// Inodes waiting for one server: 32 MB of ids. What comes on top is left to the end of its job.
const QUEUED_MAX: usize = 4_000_000;
/// Attempts to reach a server that should be alive, [`RETRY_PAUSE`] apart: some 4 s, after which
/// the controller knows whether it is.
const ATTEMPTS_MAX: u32 = 8;
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// What is removed within this time goes to a server in one request: a file system that is being
/// cleared removes thousands of files per second.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// The queues, and the tasks that work them off.
pub(crate) struct Reaper {
    blocks: Arc<dyn BlockRemover>,
    liveness: Arc<Liveness>,
    vouching: Arc<Vouching>,
    queues: Mutex<HashMap<ServerKey, Queue>>,
    /// Queues there are.
    busy: watch::Sender<usize>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A server's id and incarnation.
type ServerKey = (u64, u64);

struct Queue {
    server: StorageServer,
    inodes: HashMap<JobId, Vec<InodeId>>,
    count: usize,
}

impl Reaper {
    pub(crate) fn new(
        blocks: Arc<dyn BlockRemover>,
        liveness: Arc<Liveness>,
        vouching: Arc<Vouching>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Reaper {
            blocks,
            liveness,
            vouching,
            queues: Mutex::new(HashMap::new()),
            busy: watch::Sender::new(0),
            tasks,
            stop,
        }
    }

    /// Has the blocks of `inode` dropped on `servers`, soon. Must be called within a tokio
    /// runtime; never waits.
    pub(crate) fn condemn(
        self: &Arc<Self>,
        job: JobId,
        inode: InodeId,
        servers: Vec<StorageServer>,
    ) {
        for server in servers {
            let key = (server.server, server.incarnation);
            let mut queues = self.queues.lock();
            let mut is_new = false;
            let queue = queues.entry(key).or_insert_with(|| {
                is_new = true;
                Queue {
                    server,
                    inodes: HashMap::new(),
                    count: 0,
                }
            });
            if queue.count < QUEUED_MAX {
                queue.inodes.entry(job).or_default().push(inode);
                queue.count += 1;
            }
            if is_new {
                self.busy.send_replace(queues.len());
                let reaper = Arc::clone(self);
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = reaper.stop.clone().cancelled_owned() => {}
                        () = reaper.work_off(key) => {}
                    }
                });
            }
        }
    }

    /// Whether blocks wait to be dropped.
    pub(crate) fn is_busy(&self) -> bool {
        *self.busy.borrow() > 0
    }

    /// Waits until everything is dropped, or for `patience`.
    pub(crate) async fn settled(&self, patience: Duration) {
        let mut busy = self.busy.subscribe();
        // Late or not, the caller goes on.
        let _ = timeout(patience, busy.wait_for(|&queues| queues == 0)).await;
    }

    /// A job's blocks are dropped as a whole: its queued inodes need not be.
    pub(crate) fn forget_job(&self, job: JobId) {
        for queue in self.queues.lock().values_mut() {
            if let Some(inodes) = queue.inodes.remove(&job) {
                queue.count -= inodes.len();
            }
        }
    }

    async fn work_off(&self, key: ServerKey) {
        loop {
            sleep(GATHER_TIME).await;
            let Some((server, inodes)) = self.take(key) else {
                return;
            };
            for (job, inodes) in inodes {
                self.remove(&server, job, &inodes).await;
            }
        }
    }

    /// What gathered for a server; ends its queue if that is nothing.
    fn take(&self, key: ServerKey) -> Option<(StorageServer, HashMap<JobId, Vec<InodeId>>)> {
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(&key)?;
        if queue.inodes.is_empty() {
            queues.remove(&key);
            self.busy.send_replace(queues.len());
            return None;
        }
        queue.count = 0;
        Some((queue.server.clone(), std::mem::take(&mut queue.inodes)))
    }

    async fn remove(&self, server: &StorageServer, job: JobId, inodes: &[InodeId]) {
        for _ in 0..ATTEMPTS_MAX {
            match self.blocks.remove_inodes(server, job, inodes).await {
                Ok(()) => return,
                Err(failure) if is_gone(&failure) => {
                    debug!(%job, server = server.endpoint, "storage server gone with its blocks");
                    return;
                }
                Err(_) if !self.liveness.is_alive(server) => break,
                Err(failure) if !failure.status.is_transient() => {
                    warn!(%job, %failure, inodes = inodes.len(), "blocks not dropped");
                    return;
                }
                Err(failure) => debug!(%job, %failure, "blocks not dropped yet"),
            }
            sleep(RETRY_PAUSE).await;
        }
        debug!(%job, server = server.endpoint, inodes = inodes.len(), "blocks dropped later");
        let debt = Debt::Inodes(job, inodes.to_vec());
        self.vouching.note_debt(server, debt);
    }
}
