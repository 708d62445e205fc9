//! Dropping the blocks behind a file's new end, on the storage servers that may have some.

use std::sync::Arc;
use std::time::Duration;

use pocket_proto::session::StorageServer;
use pocket_proto::{BlockIndex, Failure, InodeId, Status};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Job, JobState};
use crate::vouching::{Debt, is_gone};

/// A server that does not answer is asked again until the controller calls it dead, but no longer
/// than this.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What is to be dropped. The size is set already, and its attributes are marked until this ends.
#[derive(Clone, Debug)]
pub(crate) struct Truncation {
    pub(crate) inode: InodeId,
    /// The size before, for the case that it fails.
    pub(crate) old_size_bytes: u64,
    pub(crate) first_block: BlockIndex,
    /// Bytes of that block that stay.
    pub(crate) keep_bytes: u32,
    pub(crate) servers: Vec<StorageServer>,
}

/// What came of it: the change of allocated bytes.
#[derive(Clone, Debug)]
pub(crate) struct Truncated {
    pub(crate) truncation: Truncation,
    pub(crate) result: Result<i64, Failure>,
}

impl Job {
    /// Carries it out on all servers at once. Dead ones do it before anybody reads them again.
    pub(super) async fn truncate(self: &Arc<Self>, truncation: Truncation) -> Truncated {
        let mut requests = JoinSet::new();
        for server in truncation.servers.clone() {
            let (job, truncation) = (Arc::clone(self), truncation.clone());
            requests.spawn(async move { job.truncate_on(&server, &truncation).await });
        }
        let mut result = Ok(0);
        while let Some(outcome) = requests.join_next().await {
            let outcome = outcome.unwrap_or_else(|_| Err(Status::Internal.into()));
            result = match (result, outcome) {
                (Ok(sum), Ok(change)) => Ok(i64::saturating_add(sum, change)),
                (Err(failure), _) | (_, Err(failure)) => Err(failure),
            };
        }
        self.state.lock().truncated(truncation.inode);
        Truncated { truncation, result }
    }

    /// Waits until nobody cuts the file, or for the lease time: whoever asks looks again.
    pub(super) async fn await_cut(&self, inode: InodeId) {
        let until = Instant::now() + self.lease;
        loop {
            let mut unmarked = {
                let state = self.state.lock();
                if !state.leases.is_cut(inode) {
                    return;
                }
                state.unmarked.subscribe()
            };
            if timeout_at(until, unmarked.changed()).await.is_err() {
                return;
            }
        }
    }

    async fn truncate_on(
        &self,
        server: &StorageServer,
        truncation: &Truncation,
    ) -> Result<i64, Failure> {
        let environment = &self.environment;
        let until = Instant::now() + PATIENCE;
        loop {
            let attempt = environment.blocks.truncate(
                server,
                self.id,
                truncation.inode,
                truncation.first_block,
                truncation.keep_bytes,
            );
            match attempt.await {
                Ok(change) => return Ok(change),
                Err(failure) if is_gone(&failure) => return Ok(0),
                Err(_) if !environment.liveness.is_alive(server) => {
                    let cut = (truncation.first_block, truncation.keep_bytes);
                    let debt = Debt::Cut(self.id, truncation.inode, cut);
                    environment.vouching.owe(server, debt).await;
                    return Ok(0);
                }
                Err(failure) if !failure.status.is_transient() => return Err(failure),
                Err(failure) if Instant::now() + RETRY_PAUSE > until => {
                    return Err(Failure::new(
                        Status::Unavailable,
                        format!(
                            "storage server {} does not drop blocks: {}",
                            server.endpoint, failure.message
                        ),
                    ));
                }
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }
}

impl JobState {
    /// A truncation is over: the file's blocks may be moved.
    fn truncated(&mut self, inode: InodeId) {
        if let Some(count) = self.truncating.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.truncating.remove(&inode);
                self.unmarked.send_modify(|times| *times += 1);
            }
        }
    }
}
