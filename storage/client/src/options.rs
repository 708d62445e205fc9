//! Settings of a client of storage servers.

use std::time::Duration;

/// Settings of a client of storage servers.
#[derive(Clone, Debug)]
pub struct StorageClientOptions {
    /// Connections to each server, among which requests are spread; at least 1. Each is read by
    /// one task, so that two let two processors receive.
    pub connections: usize,
    /// A request is answered or fails within this time, opening a connection and one repetition
    /// included.
    pub request_deadline: Duration,
    /// A server that does not greet within this time is unavailable.
    pub connect_deadline: Duration,
    /// A server that was found unavailable is not tried again for so long: requests fail at once.
    pub retry_after: Duration,
    /// Who calls, for people who read the server's log.
    pub host: String,
}

impl Default for StorageClientOptions {
    fn default() -> Self {
        StorageClientOptions {
            connections: 2,
            request_deadline: Duration::from_secs(4),
            connect_deadline: Duration::from_secs(2),
            retry_after: Duration::from_secs(1),
            host: String::new(),
        }
    }
}
