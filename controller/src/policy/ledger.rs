//! What is promised to jobs, per storage server.

use std::collections::HashMap;

use pocket_proto::ServerId;

use super::weights::Share;

/// The sum of all jobs' shares per server. A server without any has no entry, so that taking and
/// giving back the same shares, in any order, leads back to the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    reserved_bytes: HashMap<ServerId, u64>,
}

impl Ledger {
    /// Bytes of `server` promised to jobs.
    pub(crate) fn reserved_bytes(&self, server: ServerId) -> u64 {
        self.reserved_bytes.get(&server).copied().unwrap_or(0)
    }

    /// Promises `shares` to a job.
    pub(crate) fn take(&mut self, shares: &[Share]) {
        for share in shares.iter().filter(|share| share.bytes > 0) {
            let reserved = self.reserved_bytes.entry(share.server).or_default();
            *reserved = reserved.saturating_add(share.bytes);
        }
    }

    /// Takes back what [`Ledger::take`] promised.
    pub(crate) fn give_back(&mut self, shares: &[Share]) {
        for share in shares {
            if let Some(reserved) = self.reserved_bytes.get_mut(&share.server) {
                *reserved = reserved.saturating_sub(share.bytes);
                if *reserved == 0 {
                    self.reserved_bytes.remove(&share.server);
                }
            }
        }
    }
}
