//! Writes that do not fit wait for the controller to give the job more, where it may: it compares what
//! jobs want with what they have every second. Room that the job itself makes meanwhile is taken at once.

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
    /// What there is for those who wait.
    room: watch::Sender<Room>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Room {
    /// Counts the times when the job was given more.
    given: u64,
    /// Of what it has.
    free_bytes: u64,
}

/// That a job is given more or has room for a write, or that it is in vain to wait.
#[derive(Debug)]
pub(crate) struct Given {
    room: watch::Receiver<Room>,
    /// As often it had been given more before.
    given: u64,
    needed_bytes: u64,
    until: Instant,
}

impl Given {
    /// Waits for any of these.
    pub(crate) async fn any(mut self) {
        let (given, needed) = (self.given, self.needed_bytes);
        let enough = |room: &Room| room.given != given || room.free_bytes >= needed;
        let _ = timeout_at(self.until, self.room.wait_for(enough)).await;
    }
}

impl Growth {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Growth {
            wanted_bytes: 0,
            since: None,
            room: watch::Sender::default(),
        }
    }

    /// A write that cannot do without `needed_bytes` would have the job hold `bytes`; what to wait for, if
    /// it is not in vain.
    pub(crate) fn want(&mut self, needed_bytes: u64, bytes: u64, now: Instant) -> Option<Given> {
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
        let room = self.room.subscribe();
        let given = room.borrow().given;
        Some(Given {
            room,
            given,
            needed_bytes,
            until: since + GROWTH_PATIENCE,
        })
    }

    /// The job was given more: who waits asks again.
    pub(crate) fn give(&mut self) {
        self.wanted_bytes = 0;
        self.since = None;
        self.room.send_modify(|room| room.given += 1);
    }

    /// Whether anybody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.room.receiver_count() > 0
    }

    /// So much of what the job has is free: for whom that is enough asks again.
    pub(crate) fn make_room(&self, free_bytes: u64) {
        self.room.send_modify(|room| room.free_bytes = free_bytes);
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
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_most_that_is_wanted_is_told_and_a_wait_in_vain_is_not_repeated_for_a_while() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut growth = Growth::new();
        assert_eq!(growth.wanted_bytes(begin), 0);
        assert!(growth.want(9, 100, begin).is_some());
        assert!(growth.want(9, 50, after(4)).is_some());
        assert_eq!(growth.wanted_bytes(after(4)), 100);
        assert!(growth.want(9, 100, after(5)).is_none());
        assert_eq!(growth.wanted_bytes(after(5)), 0);
        assert!(growth.want(9, 100, after(14)).is_none());
        assert!(growth.want(9, 70, after(15)).is_some());
        assert_eq!(growth.wanted_bytes(after(15)), 70);
    }

    /// Whether it is over, before any time has passed.
    fn is_over(given: Given) -> bool {
        given.any().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_of_more_and_may_wait_for_yet_more() {
        let begin = Instant::now();
        let mut growth = Growth::new();
        let want = |growth: &mut Growth, at| growth.want(9, 100, at).expect("waits");
        assert!(!is_over(want(&mut growth, begin)));
        let given = want(&mut growth, begin);
        growth.give();
        assert!(is_over(given));
        assert_eq!(growth.wanted_bytes(begin), 0);
        assert!(!is_over(want(&mut growth, begin)), "it is given once");
        let later = begin + GROWTH_PATIENCE;
        growth.give();
        want(&mut growth, later);
    }

    #[tokio::test(start_paused = true)]
    async fn room_ends_the_wait_of_those_for_whom_it_is_enough() {
        let begin = Instant::now();
        let mut growth = Growth::new();
        assert!(!growth.is_awaited());
        let large = growth.want(20, 100, begin).expect("waits");
        let small = growth.want(10, 100, begin).expect("waits");
        assert!(growth.is_awaited());
        growth.make_room(10);
        assert!(is_over(small) && !is_over(large));
        assert!(!growth.is_awaited());
        assert_eq!(growth.wanted_bytes(begin), 100, "the rest is still wanted");
        growth.make_room(9);
        let small = growth.want(10, 100, begin).expect("waits anew");
        assert!(!is_over(small), "somebody took it");
        let later = begin + GROWTH_PATIENCE;
        assert!(growth.want(20, 100, later).is_none(), "patience is not");
    }
}
