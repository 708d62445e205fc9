//! Whoever starts and ends storage servers: what it says, and what it is told.

use std::time::{Duration, Instant};

use pocket_policy::{Demand, Ticket, Wanted};
use pocket_proto::control::PoolStatus;

use super::Cluster;

/// Who has not been heard of for so long starts no servers any more: it reports every second.
const SILENCE_MAX: Duration = Duration::from_secs(10);

impl Cluster {
    /// Takes what the scaler says of the pool.
    pub(crate) fn report_pool(&mut self, status: PoolStatus, now: Instant) {
        let before = self.startable_bytes(now);
        self.pool = Some((status, now));
        self.changed |= self.startable_bytes(now) != before;
    }

    /// What the scaler last said, unless it has fallen silent.
    pub(super) fn pool(&self, now: Instant) -> Option<PoolStatus> {
        let (status, heard) = self.pool.as_ref()?;
        let silent = now.saturating_duration_since(*heard);
        (silent < SILENCE_MAX).then(|| status.clone())
    }

    /// Capacity of servers that can still be started, or are starting.
    pub(super) fn startable_bytes(&self, now: Instant) -> u64 {
        let there = self.servers.staying_storage().count();
        let there = u32::try_from(there).unwrap_or(u32::MAX);
        self.pool(now).map_or(0, |pool| {
            let startable = pool.servers_max.saturating_sub(there);
            u64::from(startable).saturating_mul(pool.capacity_bytes)
        })
    }

    /// Notes what a registration that waits lacks.
    pub(super) fn want(&mut self, ticket: Option<Ticket>, demand: &Demand) {
        let Some(ticket) = ticket else {
            return;
        };
        let bytes = match demand.capacity_bytes {
            Wanted::Exactly(bytes) => bytes,
            // It takes what there is.
            Wanted::Expected(_) | Wanted::UpTo(_) => 1,
        };
        self.wanted.insert(ticket, bytes);
    }

    /// What all who wait lack, and running jobs that found no room to grow.
    pub(super) fn wanted_bytes(&self, now: Instant) -> u64 {
        let waiting = self.wanted.values().copied();
        waiting.fold(self.lacking_bytes(now), u64::saturating_add)
    }
}
