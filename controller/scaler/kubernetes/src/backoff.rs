//! Pauses between tries: they double, and differ among those who try, so that an API server that
//! comes back is not met by all at once.

use std::time::Duration;

use rand::Rng;

const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pauses of one who tries.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::from(PAUSE_MIN)
    }
}

impl From<Duration> for Backoff {
    /// With this as the first pause.
    fn from(first: Duration) -> Self {
        Backoff { first, next: first }
    }
}

impl Backoff {
    /// How long to wait now: from half of the pause to all of it.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        jitter(pause)
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// From half of a pause to all of it.
pub(crate) fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::default();
        let mut expected = PAUSE_MIN;
        for _ in 0..12 {
            let pause = backoff.pause();
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?}");
            expected = (expected * 2).min(PAUSE_MAX);
        }
        assert_eq!(expected, PAUSE_MAX);
        backoff.reset();
        assert!(backoff.pause() <= PAUSE_MIN);
    }
}
