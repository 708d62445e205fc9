//! The jobs of a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use pocket_proto::control::{CreateJobRequest, JobReport};
use pocket_proto::session::{StorageServer, WeightMap};
use pocket_proto::{Failure, JobId, Status};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::info;

use crate::environment::Environment;
use crate::job::{Job, drop_blocks, job_gone};
use crate::limits::JOBS_MAX;

/// How often overdue sessions are looked for, within the lease time.
const CHECKS_PER_LEASE: u32 = 20;
/// But not more often than this.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// A look that comes later by this part of the lease time says that the whole server stood still.
const STANDSTILLS_PER_LEASE: u32 = 4;
/// How often storage servers that no job names any more are looked for.
const SERVERS_INTERVAL: Duration = Duration::from_secs(10);

/// Every job that the server holds. The lock is held for a look at the table only.
pub(crate) struct Jobs {
    jobs: RwLock<HashMap<JobId, Arc<Job>>>,
    lease: Duration,
    orphan_grace: Duration,
    environment: Arc<Environment>,
}

impl Jobs {
    pub(crate) fn new(
        lease: Duration,
        orphan_grace: Duration,
        environment: Arc<Environment>,
    ) -> Self {
        Jobs {
            jobs: RwLock::new(HashMap::new()),
            lease,
            orphan_grace,
            environment,
        }
    }

    /// A job that is there.
    pub(crate) fn get(&self, id: JobId) -> Result<Arc<Job>, Failure> {
        self.jobs
            .read()
            .get(&id)
            .cloned()
            .ok_or_else(|| job_gone(id))
    }

    /// Opens a job's namespace, or changes the limits of one that is there.
    pub(crate) fn create(&self, order: CreateJobRequest) -> Result<(), Failure> {
        let id = JobId(order.job);
        if id.0 == 0 {
            return Err(Failure::new(Status::Invalid, "job 0 cannot be"));
        }
        let mut jobs = self.jobs.write();
        if let Some(job) = jobs.get(&id) {
            return job.change(order);
        }
        self.environment.leaving.check_takes_jobs()?;
        if jobs.len() >= JOBS_MAX {
            let what = format!("this metadata server holds {JOBS_MAX} jobs, the limit");
            return Err(Failure::new(Status::LimitReached, what));
        }
        let name = order.name.clone();
        let job = Job::new(
            order,
            (self.lease, self.orphan_grace),
            Arc::clone(&self.environment),
        )?;
        jobs.insert(id, Arc::new(job));
        info!(job = %id, name, "job opened");
        Ok(())
    }

    /// Takes a new weight map for a job.
    pub(crate) fn set_weight_map(&self, id: JobId, map: WeightMap) -> Result<(), Failure> {
        self.get(id)?.set_weight_map(map)
    }

    /// Ends a job; see [`Job::end`]. False if it is not there: it may have been lost with another
    /// life of this server, so its blocks are dropped from the servers given.
    pub(crate) async fn end(&self, id: JobId, storage_servers: Vec<StorageServer>) -> bool {
        let Some(job) = self.jobs.write().remove(&id) else {
            drop_blocks(&self.environment, id, storage_servers).await;
            return false;
        };
        info!(job = %id, "job ended");
        job.end().await;
        true
    }

    /// A report of every job.
    pub(crate) fn reports(&self) -> Vec<JobReport> {
        self.all().iter().map(|job| job.report()).collect()
    }

    /// Bytes that all jobs' files hold.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.all().iter().map(|job| job.allocated_bytes()).sum()
    }

    /// Ends overdue sessions and forgets lapsed leases, for as long as it is polled.
    pub(crate) async fn keep_house(&self) {
        let pause = (self.lease / CHECKS_PER_LEASE).max(CHECK_INTERVAL_MIN);
        let mut ticks = interval(pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        let mut idle = looked;
        loop {
            ticks.tick().await;
            let jobs = self.all();
            let stood_still = idle.elapsed().saturating_sub(pause);
            if stood_still > self.lease / STANDSTILLS_PER_LEASE {
                info!(for = ?stood_still, "stood still: mounts are not blamed for it");
                jobs.iter().for_each(|job| job.excuse(stood_still));
            }
            for job in &jobs {
                while job.keep_house() {
                    yield_now().await;
                }
            }
            idle = Instant::now();
            if looked.elapsed() >= SERVERS_INTERVAL {
                looked = idle;
                // None is made meanwhile, whose servers would be forgotten.
                let jobs = self.jobs.read();
                let named = jobs.values().flat_map(|job| job.storage_servers());
                self.environment.vouching.retain(named);
            }
        }
    }

    /// Those there are.
    pub(crate) fn all(&self) -> Vec<Arc<Job>> {
        self.jobs.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::blocks::fake::Fake;

    #[tokio::test]
    async fn a_job_lost_with_an_earlier_life_is_dropped_where_the_controller_says() {
        let drops = Arc::new(Fake::new(Status::Ok));
        let environment = Environment::new(Arc::clone(&drops) as _, CancellationToken::new());
        let jobs = Jobs::new(Duration::from_secs(5), Duration::ZERO, environment);
        let servers = [1, 2].map(|server| StorageServer {
            server,
            ..StorageServer::default()
        });
        assert!(!jobs.end(JobId(7), servers.into()).await);
        let mut dropped = drops.dropped.lock().clone();
        dropped.sort_unstable();
        assert_eq!(dropped, [(1, JobId(7)), (2, JobId(7))]);
    }
}
