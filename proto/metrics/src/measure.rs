//! What counts: relaxed atomics, with no lock and no memory of its own, for the busiest paths.

use std::{
    ops::AddAssign,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Buckets of a histogram that have a bound; one more takes what is longer.
pub const BOUNDS: usize = 21;
/// The first bound is 2 to this, in microseconds: 8 µs. The last is 8.4 s.
const FIRST_BOUND_LOG2: u32 = 3;

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// None yet.
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Counts `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// Counts a time, which is told in seconds ([`Counter::seconds`]).
    pub fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// So many up to now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// What [`Counter::add_time`] counted.
    pub fn seconds(&self) -> f64 {
        self.get() as f64 / 1e9
    }
}

/// One of each for codes below `N`; those above share the last.
#[derive(Debug)]
pub struct ByCode<T, const N: usize>([T; N]);

impl<T, const N: usize> ByCode<T, N> {
    /// That of a code.
    pub fn at(&self, code: usize) -> &T {
        &self.0[code.min(N - 1)]
    }

    /// All of them with their codes.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0.iter().enumerate()
    }
}

impl<T: Default, const N: usize> Default for ByCode<T, N> {
    fn default() -> Self {
        ByCode(std::array::from_fn(|_| T::default()))
    }
}

/// How long things took, in buckets that double.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Nothing yet.
    pub const fn new() -> Self {
        Histogram {
            counts: [const { AtomicU64::new(0) }; BOUNDS + 1],
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// Counts something that took so long.
    pub fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanoseconds)].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// What was counted up to now. What is counted meanwhile may be in the counts and not in the
    /// sum.
    pub fn read(&self) -> Distribution {
        let mut read = Distribution {
            nanoseconds: self.nanoseconds.load(Relaxed),
            ..Distribution::default()
        };
        for (count, counted) in read.counts.iter_mut().zip(&self.counts) {
            *count = counted.load(Relaxed);
        }
        read
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

/// The first bucket whose bound is not below.
fn bucket(nanoseconds: u64) -> usize {
    let microseconds = nanoseconds.div_ceil(1000);
    let log2 = microseconds.max(1).next_power_of_two().trailing_zeros();
    match microseconds > 1 << 62 {
        true => BOUNDS,
        false => (log2.saturating_sub(FIRST_BOUND_LOG2) as usize).min(BOUNDS),
    }
}

/// The longest time that bucket `index` counts.
pub(crate) fn bound(index: usize) -> Duration {
    Duration::from_micros(1 << (FIRST_BOUND_LOG2 as usize + index))
}

/// What a [`Histogram`] has counted. Distributions of several can be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    pub(crate) counts: [u64; BOUNDS + 1],
    nanoseconds: u64,
}

impl Distribution {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they took together, in seconds.
    pub fn seconds(&self) -> f64 {
        self.nanoseconds as f64 / 1e9
    }

    /// What they took on average; nothing if there were none.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.nanoseconds.checked_div(self.count())?;
        Some(Duration::from_nanos(mean))
    }

    /// A time that this share of them did not exceed, at most twice the true one. Nothing if there
    /// were none, or it lies behind the last bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let at = self.counts[..BOUNDS].iter().position(|count| {
            seen += count;
            wanted > 0 && seen >= wanted
        });
        at.map(bound)
    }
}

impl AddAssign for Distribution {
    fn add_assign(&mut self, more: Distribution) {
        self.nanoseconds = self.nanoseconds.saturating_add(more.nanoseconds);
        for (count, more) in self.counts.iter_mut().zip(more.counts) {
            *count += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_below_the_first_bound_that_it_does_not_exceed() {
        for (nanoseconds, expected) in [
            (0, 0),
            (8_000, 0),
            (8_001, 1),
            (16_000, 1),
            (16_001, 2),
            (8_388_608_000, BOUNDS - 1),
            (8_388_608_001, BOUNDS),
            (u64::MAX, BOUNDS),
        ] {
            assert_eq!(bucket(nanoseconds), expected, "{nanoseconds}");
        }
        for index in 0..BOUNDS {
            let bound = u64::try_from(bound(index).as_nanos()).unwrap();
            assert_eq!((bucket(bound), bucket(bound + 1)), (index, index + 1));
        }
    }

    #[test]
    fn a_distribution_tells_count_sum_mean_and_quantiles() {
        let histogram = Histogram::new();
        assert_eq!(histogram.read().quantile(0.99), None);
        assert_eq!(histogram.read().mean(), None);
        for _ in 0..99 {
            histogram.observe(Duration::from_micros(10));
        }
        histogram.observe(Duration::from_millis(900));
        let mut read = histogram.read();
        assert_eq!(read.count(), 100);
        assert!((read.seconds() - 0.900_990).abs() < 1e-9, "{read:?}");
        assert_eq!(read.quantile(0.5), Some(Duration::from_micros(16)));
        assert_eq!(read.quantile(0.99), Some(Duration::from_micros(16)));
        assert_eq!(read.quantile(1.0), Some(bound(17)));
        read += histogram.read();
        assert_eq!(read.count(), 200);
        histogram.observe(Duration::from_secs(60));
        assert_eq!(
            histogram.read().quantile(1.0),
            None,
            "longer than any bound"
        );
    }

    #[test]
    fn times_add_up_to_seconds() {
        let counter = Counter::new();
        counter.add_time(Duration::from_millis(1500));
        counter.add_time(Duration::from_millis(250));
        assert_eq!(counter.seconds(), 1.75);
    }
}
