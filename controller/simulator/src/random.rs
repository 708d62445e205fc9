//! Random numbers that are the same on every machine and in every release: SplitMix64.

/// A generator; the seed determines all that follows.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from `low` to below `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).max(1);
        low + ((u128::from(self.next()) * u128::from(span)) >> 64) as u64
    }

    /// Evenly from 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with this mean: the time to the next of many independent arrivals.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Log-normal with this median; `spread` is the factor of one standard deviation.
    pub(crate) fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        // Sum of twelve: close enough to a normal, without a tail that swamps everything.
        let normal: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        median * (normal * spread.ln()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_determines_everything_and_ranges_hold() {
        let mut one = Random::new(1);
        let mut same = Random::new(1);
        let mut other = Random::new(2);
        let draw = |random: &mut Random| (0..9).map(|_| random.between(5, 9)).collect::<Vec<_>>();
        let first = draw(&mut one);
        assert_eq!(first, draw(&mut same));
        assert_ne!(first, draw(&mut other));
        assert!(first.iter().all(|value| (5..9).contains(value)));
        // The published test vector of SplitMix64.
        assert_eq!(Random::new(1_234_567).next(), 6_457_827_717_110_365_317);
        let mean = (0..10_000).map(|_| one.exponential(3.0)).sum::<f64>() / 10_000.0;
        assert!((2.8..3.2).contains(&mean), "{mean}");
    }
}
