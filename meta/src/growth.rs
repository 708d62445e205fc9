//! Writes that do not fit wait for the controller to give the job more, where it may: it compares what
//! jobs want with what they have every second.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// A write waits so long: a heartbeat, a look of the controller, and a storage server that starts.
const GROWTH_PATIENCE: Duration = Duration::from_secs(5);
/// If it was in vain, writes fail at once for so long.
const GROWTH_PAUSE: Duration = Duration::from_secs(10);

/// What a job's writes wait for.
#[derive(Debug)]
pub(crate) struct Growth {
    /// Bytes that the job would hold.
    wanted_bytes: u64,
    /// Since when the job has not been given more.
    since: Option<Instant>,
    /// Counts the times when it was.
    given: watch::Sender<u64>,
}

/// That a job is given more, or that it is in vain to wait.
#[derive(Debug)]
pub(crate) struct Given {
    times: watch::Receiver<u64>,
    until: Instant,
}

impl Given {
    /// Waits for one or the other.
    pub(crate) async fn either(mut self) {
        let _ = timeout_at(self.until, self.times.changed()).await;
    }
}

impl Growth {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Growth {
            wanted_bytes: 0,
            since: None,
            given: watch::Sender::new(0),
        }
    }

    /// A write would have the job hold so much; what to wait for, if it is not in vain.
    pub(crate) fn want(&mut self, bytes: u64, now: Instant) -> Option<Given> {
        let over = |since: &Instant| {
            now.saturating_duration_since(*since) >= GROWTH_PATIENCE + GROWTH_PAUSE
        };
        let since = self.since.filter(|since| !over(since));
        if since.is_none() {
            self.wanted_bytes = 0;
        }
        let since = *self.since.insert(since.unwrap_or(now));
        if now.saturating_duration_since(since) >= GROWTH_PATIENCE {
            return None;
        }
        self.wanted_bytes = self.wanted_bytes.max(bytes);
        let times = self.given.subscribe();
        let until = since + GROWTH_PATIENCE;
        Some(Given { times, until })
    }

    /// The job was given more: who waits asks again.
    pub(crate) fn give(&mut self) {
        self.wanted_bytes = 0;
        self.since = None;
        self.given.send_modify(|times| *times += 1);
    }

    /// Bytes that the job would hold if nobody had to wait; 0 if nobody does.
    pub(crate) fn wanted_bytes(&self, now: Instant) -> u64 {
        let waits = |since: Instant| now.saturating_duration_since(since) < GROWTH_PATIENCE;
        match self.since {
            Some(since) if waits(since) => self.wanted_bytes,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_is_wanted_is_told_and_a_wait_in_vain_is_not_repeated_for_a_while() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut growth = Growth::new();
        assert_eq!(growth.wanted_bytes(begin), 0);
        assert!(growth.want(100, begin).is_some());
        assert!(growth.want(50, after(4)).is_some());
        assert_eq!(growth.wanted_bytes(after(4)), 100);
        assert!(growth.want(100, after(5)).is_none());
        assert_eq!(growth.wanted_bytes(after(5)), 0);
        assert!(growth.want(100, after(14)).is_none());
        assert!(growth.want(70, after(15)).is_some());
        assert_eq!(growth.wanted_bytes(after(15)), 70);
    }

    #[test]
    fn who_waits_is_told_of_more_and_may_wait_for_yet_more() {
        let begin = Instant::now();
        let mut growth = Growth::new();
        let given = growth.want(100, begin).expect("waits").times;
        assert!(!given.has_changed().expect("lives"));
        growth.give();
        assert!(given.has_changed().expect("lives"));
        assert_eq!(growth.wanted_bytes(begin), 0);
        let later = begin + GROWTH_PATIENCE;
        assert!(growth.want(200, later).is_some(), "patience begins anew");
    }
}
