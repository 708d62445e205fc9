//! What jobs move on storage servers: for people, for the next run, and for the servers, which hold a
//! job above its allocation back where others need what it takes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pocket_policy::{Moved, Share, rate_limits};
use pocket_proto::{
    JobId, ServerId,
    control::{JobLimit, JobTraffic},
};

use super::{Cluster, servers::Role};

/// A server reports every second: what it said longer ago no longer holds.
const FRESH_FOR: Duration = Duration::from_secs(3);

/// What a job moves, by server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throughput {
    by_server: BTreeMap<ServerId, Rate>,
    pub(crate) peak_bytes_per_second: u64,
}

/// What a server said.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes_per_second: u64,
    held_back: bool,
    at: Instant,
}

impl Throughput {
    fn note(&mut self, server: ServerId, moved: &JobTraffic, now: Instant) {
        let fresh = |at: Instant| now.saturating_duration_since(at) < FRESH_FOR;
        self.by_server.retain(|_, rate| fresh(rate.at));
        let rate = Rate {
            bytes_per_second: moved.bytes_per_second,
            held_back: moved.held_back,
            at: now,
        };
        self.by_server.insert(server, rate);
    }

    /// The server says nothing of the job: it moved nothing there.
    fn rests(&mut self, server: ServerId) {
        self.by_server.remove(&server);
    }

    /// The peak is that of all servers together, each as it last said.
    fn note_peak(&mut self, now: Instant) {
        self.peak_bytes_per_second = self.peak_bytes_per_second.max(self.now(now));
    }

    fn fresh(&self, now: Instant) -> impl Iterator<Item = (ServerId, Rate)> {
        let fresh = move |at: Instant| now.saturating_duration_since(at) < FRESH_FOR;
        let rates = self.by_server.iter().map(|(server, rate)| (*server, *rate));
        rates.filter(move |(_, rate)| fresh(rate.at))
    }

    /// Bytes per second, of all servers together.
    pub(crate) fn now(&self, now: Instant) -> u64 {
        let rates = self.fresh(now).map(|(_, rate)| rate.bytes_per_second);
        rates.fold(0, u64::saturating_add)
    }

    /// The same as it would be if nobody held the job back, which was promised these shares.
    pub(crate) fn wanted(&self, shares: &[Share], now: Instant) -> u64 {
        let wanted = |(server, rate): (ServerId, Rate)| {
            let moved = Moved {
                bytes_per_second: rate.bytes_per_second,
                held_back: rate.held_back,
                allocated: allocated(shares, server),
            };
            moved.wanted()
        };
        self.fresh(now).map(wanted).fold(0, u64::saturating_add)
    }

    /// Whether a limit slows it somewhere.
    pub(crate) fn is_held_back(&self, now: Instant) -> bool {
        self.fresh(now).any(|(_, rate)| rate.held_back)
    }
}

impl Cluster {
    /// Takes what a storage server says of its last second.
    pub(super) fn take_traffic(&mut self, server: ServerId, traffic: &[JobTraffic], now: Instant) {
        let moved: Vec<JobId> = traffic.iter().map(|moved| JobId(moved.job)).collect();
        let before = self.moving.insert(server, moved).unwrap_or_default();
        for id in before {
            if let Some(job) = self.jobs.get_mut(id) {
                job.throughput.rests(server);
            }
        }
        for moved in traffic {
            if let Some(job) = self.jobs.get_mut(JobId(moved.job)) {
                job.throughput.note(server, moved, now);
                job.throughput.note_peak(now);
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
                    .map_or(0, |job| allocated(&job.shares, server)),
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
fn allocated(shares: &[Share], server: ServerId) -> u64 {
    let here = shares.iter().filter(|share| share.server == server);
    here.map(|share| share.bytes_per_second).sum()
}
