//! A job is a lease: it ends some time after its last mount has left, unless it is kept.

use std::time::Duration;

const LEASE_SECONDS_DEFAULT: u64 = 60;
/// Of a job that is meant to be found again: a day.
const PERSIST_SECONDS_DEFAULT: u64 = 24 * 3600;

/// How long a job outlives its last mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Seconds, at least 1.
    pub seconds: u64,
    /// It outlives its mounts until it is deregistered.
    pub keep: bool,
}

impl Lease {
    /// A lease of so many seconds; 0 stands for the default of a minute.
    pub fn new(seconds: u64, keep: bool) -> Self {
        let seconds = match seconds {
            0 => LEASE_SECONDS_DEFAULT,
            seconds => seconds,
        };
        Lease { seconds, keep }
    }

    /// Of a job that is meant to be found again: so many seconds, or a day.
    pub fn persistent(seconds: u64) -> Self {
        let seconds = match seconds {
            0 => PERSIST_SECONDS_DEFAULT,
            seconds => seconds,
        };
        Lease::new(seconds, false)
    }

    /// Time left after `idle` without a mount: zero when it has lapsed, `None` if it never will.
    /// A job that has mounts is `None` idle.
    pub fn left(self, idle: Option<Duration>) -> Option<Duration> {
        match idle {
            Some(idle) if !self.keep => {
                Some(Duration::from_secs(self.seconds).saturating_sub(idle))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lapses_only_without_mounts_and_never_when_kept() {
        let seconds = Duration::from_secs;
        for (lease, idle, left) in [
            (Lease::new(0, false), Some(0), Some(60)),
            (Lease::new(10, false), Some(4), Some(6)),
            (Lease::new(10, false), Some(10), Some(0)),
            (Lease::new(10, false), Some(u64::MAX), Some(0)),
            (Lease::new(10, false), None, None),
            (Lease::new(10, true), Some(1_000), None),
            (Lease::persistent(0), Some(400), Some(86_000)),
            (Lease::persistent(1_000), Some(400), Some(600)),
            (Lease::new(u64::MAX, false), Some(5), Some(u64::MAX - 5)),
        ] {
            assert_eq!(lease.left(idle.map(seconds)), left.map(seconds));
        }
    }
}
