//! What is promised to jobs, per storage server.

use std::collections::HashMap;

use pocket_proto::ServerId;

use super::weights::Share;

/// The sum of all jobs' shares per server. A server without any has no entry, so that taking and
/// giving back the same shares, in any order, leads back to the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    reserved: HashMap<ServerId, Reserved>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reserved {
    bytes: u64,
    bytes_per_second: u64,
}

impl Ledger {
    /// Bytes of `server` promised to jobs.
    pub fn reserved_bytes(&self, server: ServerId) -> u64 {
        self.reserved
            .get(&server)
            .map_or(0, |reserved| reserved.bytes)
    }

    /// Throughput of `server` promised to jobs, in bytes per second.
    pub fn reserved_bytes_per_second(&self, server: ServerId) -> u64 {
        let reserved = self.reserved.get(&server);
        reserved.map_or(0, |reserved| reserved.bytes_per_second)
    }

    /// Whether anything of `server` is promised to a job.
    pub fn needs(&self, server: ServerId) -> bool {
        self.reserved.contains_key(&server)
    }

    /// Promises `shares` to a job.
    pub fn take(&mut self, shares: &[Share]) {
        for share in shares.iter().filter(|share| share.bytes > 0) {
            let reserved = self.reserved.entry(share.server).or_default();
            reserved.bytes = reserved.bytes.saturating_add(share.bytes);
            reserved.bytes_per_second = reserved
                .bytes_per_second
                .saturating_add(share.bytes_per_second);
        }
    }

    /// Takes back what [`Ledger::take`] promised.
    pub fn give_back(&mut self, shares: &[Share]) {
        for share in shares.iter().filter(|share| share.bytes > 0) {
            if let Some(reserved) = self.reserved.get_mut(&share.server) {
                reserved.bytes = reserved.bytes.saturating_sub(share.bytes);
                reserved.bytes_per_second = reserved
                    .bytes_per_second
                    .saturating_sub(share.bytes_per_second);
                if *reserved == Reserved::default() {
                    self.reserved.remove(&share.server);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_needed_while_bytes_of_it_are_promised() {
        let share = |server, bytes, bytes_per_second| Share {
            server: ServerId(server),
            bytes,
            bytes_per_second,
        };
        let mut ledger = Ledger::default();
        ledger.take(&[share(1, 10, 5), share(2, 0, 5)]);
        assert!(ledger.needs(ServerId(1)) && !ledger.needs(ServerId(2)));
        assert_eq!(ledger.reserved_bytes(ServerId(1)), 10);
        // What was not taken is not given back.
        ledger.give_back(&[share(1, 0, 5)]);
        assert_eq!(ledger.reserved_bytes_per_second(ServerId(1)), 5);
        ledger.give_back(&[share(1, 10, 5)]);
        assert_eq!(ledger, Ledger::default());
    }
}
