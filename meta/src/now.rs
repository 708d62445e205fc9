//! Time as the rest of the crate sees it: handed in, never asked for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pocket_proto::session::Time;
use pocket_proto::{Failure, Status};
use tokio::time::Instant;

const NANOSECONDS: u32 = 1_000_000_000;

/// A moment on two clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For the times of files.
    pub(crate) wall: Timestamp,
    /// For leases and sessions; never goes back.
    pub(crate) tick: Instant,
}

impl Now {
    /// This moment.
    pub(crate) fn take() -> Self {
        Now {
            wall: Timestamp::now(),
            tick: Instant::now(),
        }
    }
}

/// A point in time since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl Timestamp {
    /// The wall clock; a clock before 1970 reads as 1970.
    fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        }
    }

    /// From the wire.
    pub(crate) fn read(time: &Time) -> Result<Self, Failure> {
        if time.nanoseconds >= NANOSECONDS {
            return Err(Failure::new(
                Status::Malformed,
                format!("a time of {} nanoseconds", time.nanoseconds),
            ));
        }
        Ok(Timestamp {
            seconds: time.seconds,
            nanoseconds: time.nanoseconds,
        })
    }

    /// From the wire, where it may be absent.
    pub(crate) fn read_optional(time: Option<&Time>) -> Result<Option<Self>, Failure> {
        time.map(Timestamp::read).transpose()
    }

    /// For the wire.
    pub(crate) fn write(self) -> Time {
        Time {
            seconds: self.seconds,
            nanoseconds: self.nanoseconds,
        }
    }

    /// So much later.
    pub(crate) fn after(self, time: Duration) -> Self {
        let nanoseconds = self.nanoseconds + time.subsec_nanos();
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp {
            seconds: self
                .seconds
                .saturating_add(seconds)
                .saturating_add(i64::from(nanoseconds / NANOSECONDS)),
            nanoseconds: nanoseconds % NANOSECONDS,
        }
    }

    /// So many seconds after the epoch.
    #[cfg(test)]
    pub(crate) fn from_seconds(seconds: i64) -> Self {
        Timestamp {
            seconds,
            nanoseconds: 0,
        }
    }
}
