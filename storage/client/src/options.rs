//! Settings of a client of storage servers.

use std::time::Duration;

/// Settings of a client of storage servers.
#[derive(Clone, Debug)]
pub struct StorageClientOptions {
    /// Connections to each server, among which requests are spread; at least 1. Each is read by
    /// one task, so that two let two processors receive.
    pub connections: usize,
    /// A request is answered or fails within this time, opening a connection and one repetition
    /// included. Generous: a server that many ask at once answers each late, but it answers.
    pub request_deadline: Duration,
    /// A server that owes answers and moves no byte for so long is unavailable (noticed half a
    /// second later at most). This is what ends requests to a server that stands still.
    pub silence_max: Duration,
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
            request_deadline: Duration::from_secs(30),
            silence_max: Duration::from_secs(3),
            connect_deadline: Duration::from_secs(2),
            retry_after: Duration::from_secs(1),
            host: String::new(),
        }
    }
}
