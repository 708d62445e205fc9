//! What jobs move on storage servers: for people, for the next run, and for the servers, which hold a
//! job above its allocation back where others need what it takes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pocket_policy::{Moved, rate_limits};
use pocket_proto::{
    JobId, ServerId,
    control::{JobLimit, JobTraffic},
};

use super::{Cluster, jobs::Job, servers::Role};

/// A server reports every second: what it said longer ago no longer holds.
const FRESH_FOR: Duration = Duration::from_secs(3);

/// What a job moves, by server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throughput {
    by_server: BTreeMap<ServerId, (u64, Instant)>,
    pub(crate) peak_bytes_per_second: u64,
}

impl Throughput {
    fn note(&mut self, server: ServerId, bytes_per_second: u64, now: Instant) {
        let fresh = |at: Instant| now.saturating_duration_since(at) < FRESH_FOR;
        self.by_server.retain(|_, (_, at)| fresh(*at));
        self.by_server.insert(server, (bytes_per_second, now));
        self.peak_bytes_per_second = self.peak_bytes_per_second.max(self.now(now));
    }

    /// Bytes per second, of all servers together.
    pub(crate) fn now(&self, now: Instant) -> u64 {
        let fresh = |at: Instant| now.saturating_duration_since(at) < FRESH_FOR;
        let rates = self.by_server.values().filter(|(_, at)| fresh(*at));
        rates.map(|(rate, _)| *rate).fold(0, u64::saturating_add)
    }
}

impl Cluster {
    /// Takes what a storage server says of its last second.
    pub(super) fn take_traffic(&mut self, server: ServerId, traffic: &[JobTraffic], now: Instant) {
        for moved in traffic {
            if let Some(job) = self.jobs.get_mut(JobId(moved.job)) {
                job.throughput.note(server, moved.bytes_per_second, now);
            }
        }
    }

    /// What the server shall hold jobs to: nothing where it does not say what it moves in all.
    pub(super) fn limits(&self, server: ServerId, traffic: &[JobTraffic]) -> Vec<JobLimit> {
        let capacity = match self.servers.get(server).map(|server| &server.role) {
            Some(Role::Storage {
                bytes_per_second, ..
            }) if *bytes_per_second > 0 => *bytes_per_second,
            _ => return Vec::new(),
        };
        let moved: Vec<Moved> = traffic
            .iter()
            .map(|moved| Moved {
                bytes_per_second: moved.bytes_per_second,
                held_back: moved.held_back,
                allocated: self
                    .jobs
                    .get(JobId(moved.job))
                    .map_or(0, |job| allocated(job, server)),
            })
            .collect();
        let limits = rate_limits(capacity, &moved);
        let limited = traffic.iter().zip(limits);
        limited
            .filter_map(|(moved, limit)| {
                Some(JobLimit {
                    job: moved.job,
                    bytes_per_second: limit?,
                })
            })
            .collect()
    }
}

/// Bytes per second that a job was promised on a server.
fn allocated(job: &Job, server: ServerId) -> u64 {
    let here = job.shares.iter().filter(|share| share.server == server);
    here.map(|share| share.bytes_per_second).sum()
}
