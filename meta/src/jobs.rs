//! The jobs of a server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use pocket_proto::control::{CreateJobRequest, JobReport};
use pocket_proto::session::WeightMap;
use pocket_proto::{Failure, JobId, Status};
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use crate::environment::Environment;
use crate::job::{Job, job_gone};
use crate::limits::JOBS_MAX;

/// How often overdue sessions are looked for, within the lease time.
const CHECKS_PER_LEASE: u32 = 20;
/// But not more often than this.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Every job that the server holds. The lock is held for a look at the table only.
pub(crate) struct Jobs {
    jobs: RwLock<HashMap<JobId, Arc<Job>>>,
    lease: Duration,
    environment: Arc<Environment>,
}

impl Jobs {
    pub(crate) fn new(lease: Duration, environment: Arc<Environment>) -> Self {
        Jobs {
            jobs: RwLock::new(HashMap::new()),
            lease,
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
        if jobs.len() >= JOBS_MAX {
            let what = format!("this metadata server holds {JOBS_MAX} jobs, the limit");
            return Err(Failure::new(Status::LimitReached, what));
        }
        let name = order.name.clone();
        let job = Job::new(order, self.lease, Arc::clone(&self.environment))?;
        jobs.insert(id, Arc::new(job));
        info!(job = %id, name, "job opened");
        Ok(())
    }

    /// Takes a new weight map for a job.
    pub(crate) fn set_weight_map(&self, id: JobId, map: WeightMap) -> Result<(), Failure> {
        self.get(id)?.set_weight_map(map)
    }

    /// Ends a job; see [`Job::end`]. False if it is not there.
    pub(crate) async fn end(&self, id: JobId) -> bool {
        let Some(job) = self.jobs.write().remove(&id) else {
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
        loop {
            ticks.tick().await;
            for job in self.all() {
                job.keep_house();
            }
        }
    }

    fn all(&self) -> Vec<Arc<Job>> {
        self.jobs.read().values().cloned().collect()
    }
}
