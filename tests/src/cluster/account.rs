//! What servers say they hold, and whether it is what jobs say.

use std::time::Duration;

use pocket_proto::control::{ServerRole, ServerStatus};

use super::ProcessCluster;
use crate::wait;

/// Figures of jobs and servers come with heartbeats.
const ACCOUNT_DEADLINE: Duration = Duration::from_secs(10);

impl ProcessCluster {
    /// What the controller says of storage server `index`; `None` if it does not know it.
    pub fn storage_status(&self, index: usize) -> Option<ServerStatus> {
        let endpoint = self.storage[index].endpoint();
        let servers = self.control.servers().unwrap_or_default();
        let mut servers = servers.into_iter();
        servers.find(|server| server.endpoint == endpoint)
    }

    /// Bytes that storage server `index` holds, as of its last heartbeat; 0 if nobody knows.
    pub fn storage_used(&self, index: usize) -> u64 {
        let usage = self.storage_status(index).and_then(|server| server.usage);
        usage.map_or(0, |usage| usage.used_bytes)
    }

    /// Waits until what jobs hold is what the living servers hold, and the sum is as it should be;
    /// panics if that does not come to be.
    #[track_caller]
    pub fn check_account(&self, is_right: impl Fn(u64) -> bool) {
        let mut seen = (0, 0);
        let mut balanced = || {
            let (Ok(servers), Ok(jobs)) = (self.control.servers(), self.control.jobs()) else {
                return false;
            };
            let storage = servers
                .iter()
                .filter(|server| server.alive && server.role() == ServerRole::Storage);
            let held = storage.map(|server| server.usage.map_or(0, |usage| usage.used_bytes));
            seen = (held.sum(), jobs.iter().map(|job| job.used_bytes).sum());
            seen.0 == seen.1 && is_right(seen.0)
        };
        if wait::try_until(ACCOUNT_DEADLINE, || balanced().then_some(())).is_none() {
            panic!("servers hold {} bytes and jobs {}", seen.0, seen.1);
        }
    }
}
