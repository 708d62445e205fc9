//! The jobs that an engine holds, and those that it must not hold again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use parking_lot::RwLock;
use pocket_proto::{Failure, JobId, Status};

/// Dropped jobs that are remembered, so that a straggler's write does not bring one back. Ids are
/// never used again; a job dropped so many jobs ago has no stragglers.
const DROPPED_JOBS_MAX: usize = 16_384;

/// Jobs by id; `T` is what an engine has of one.
pub(super) struct JobTable<T>(RwLock<Jobs<T>>);

struct Jobs<T> {
    live: HashMap<JobId, Arc<T>>,
    dropped: HashSet<JobId>,
    dropped_in_order: VecDeque<JobId>,
}

impl<T> Default for JobTable<T> {
    fn default() -> Self {
        JobTable(RwLock::new(Jobs {
            live: HashMap::new(),
            dropped: HashSet::new(),
            dropped_in_order: VecDeque::new(),
        }))
    }
}

impl<T> JobTable<T> {
    pub(super) fn get(&self, job: JobId) -> Option<Arc<T>> {
        self.0.read().live.get(&job).cloned()
    }

    /// The job, made if it is new; [`Status::JobGone`] if it was dropped.
    pub(super) fn get_or_make(
        &self,
        job: JobId,
        make: impl FnOnce() -> T,
    ) -> Result<Arc<T>, Failure> {
        if let Some(known) = self.get(job) {
            return Ok(known);
        }
        let mut jobs = self.0.write();
        if jobs.dropped.contains(&job) {
            return Err(job_gone(job));
        }
        let known = jobs.live.entry(job).or_insert_with(|| Arc::new(make()));
        Ok(Arc::clone(known))
    }

    /// Every job there is.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        self.0.read().live.values().cloned().collect()
    }

    /// Takes a job out for good.
    pub(super) fn drop_job(&self, job: JobId) -> Option<Arc<T>> {
        let mut jobs = self.0.write();
        if jobs.dropped.insert(job) {
            jobs.dropped_in_order.push_back(job);
        }
        if jobs.dropped_in_order.len() > DROPPED_JOBS_MAX
            && let Some(oldest) = jobs.dropped_in_order.pop_front()
        {
            jobs.dropped.remove(&oldest);
        }
        jobs.live.remove(&job)
    }
}

/// The answer to whoever writes to a job that was dropped.
pub(super) fn job_gone(job: JobId) -> Failure {
    Failure::new(Status::JobGone, format!("job {job} has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_dropped_jobs_is_bounded() {
        let jobs = JobTable::<()>::default();
        for job in 0..2 * DROPPED_JOBS_MAX as u64 {
            jobs.drop_job(JobId(job));
            jobs.drop_job(JobId(job));
        }
        let jobs = jobs.0.read();
        assert_eq!(jobs.dropped.len(), DROPPED_JOBS_MAX);
        assert_eq!(jobs.dropped_in_order.len(), DROPPED_JOBS_MAX);
    }
}
