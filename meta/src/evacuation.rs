//! Storage servers that are to be emptied, as the controller says: every job's blocks are moved
//! away, and the controller is told when no job needs them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pocket_proto::ServerId;
use pocket_proto::session::StorageServer;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::environment::Environment;
use crate::job::Job;
use crate::jobs::Jobs;

/// Time between two rounds over the jobs.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// The servers to be emptied, each with a task that works on it.
pub(crate) struct Evacuation {
    jobs: Arc<Jobs>,
    environment: Arc<Environment>,
    wanted: Mutex<HashMap<ServerId, StorageServer>>,
}

impl Evacuation {
    pub(crate) fn new(jobs: Arc<Jobs>, environment: Arc<Environment>) -> Arc<Self> {
        Arc::new(Evacuation {
            jobs,
            environment,
            wanted: Mutex::default(),
        })
    }

    /// Takes the controller's word: these are to be emptied, and no others. Must be called within a
    /// tokio runtime.
    pub(crate) fn follow(self: &Arc<Self>, servers: Vec<StorageServer>) {
        let mut wanted = self.wanted.lock();
        wanted.retain(|_, known| servers.contains(known));
        for server in servers {
            let id = ServerId(server.server);
            if wanted.insert(id, server.clone()).is_none() {
                let this = Arc::clone(self);
                let stop = self.environment.stop.clone();
                self.environment.tasks.spawn(async move {
                    stop.run_until_cancelled(this.work_off(server)).await;
                });
            }
        }
    }

    /// The servers among those that no job needs any more.
    pub(crate) fn done(&self) -> Vec<ServerId> {
        let wanted = self.wanted.lock().clone();
        let mut done = Vec::new();
        for (id, server) in wanted {
            if self.jobs.all().iter().all(|job| !job.needs(&server)) {
                done.push(id);
            }
        }
        done
    }

    /// Goes on for as long as the server is to be emptied: jobs may come to need it late.
    async fn work_off(self: Arc<Self>, server: StorageServer) {
        let id = ServerId(server.server);
        info!(server = %id, endpoint = server.endpoint, "moving blocks away");
        let mut warned = false;
        while self.wanted.lock().get(&id) == Some(&server) {
            for job in self.jobs.all() {
                if job.needs(&server) {
                    self.empty(&job, &server, &mut warned).await;
                }
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    async fn empty(&self, job: &Arc<Job>, server: &StorageServer, warned: &mut bool) {
        match job.evacuate(server).await {
            Ok(_) => {}
            // It is dead, and the controller will say so.
            Err(failure) if failure.status.is_transient() => {}
            Err(failure) if !*warned => {
                *warned = true;
                warn!(job = %job.id, server = server.endpoint, %failure,
                    "blocks cannot be moved away yet");
            }
            Err(_) => {}
        }
    }
}
