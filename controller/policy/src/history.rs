//! What earlier runs of a job needed, and what that foretells of the next.

use std::collections::{HashMap, VecDeque};

/// Runs remembered per profile: what a job was like long ago says little.
const RUNS_MAX: usize = 8;
/// Profiles remembered; past that the one that ran longest ago goes.
const PROFILES_MAX: usize = 20_000;
/// Added to the peak after a single run, in percent; shared out over the runs as they agree. A job
/// that exceeds it grows while it runs, so that a small one is cheaper (found by simulation).
const MARGIN_PERCENT: u64 = 5;
/// Never less than this.
const MARGIN_PERCENT_MIN: u64 = 2;
/// Never more: past that, growing while it runs is cheaper.
const MARGIN_PERCENT_MAX: u64 = 49;

/// The peaks of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Bytes held at most.
    pub capacity_bytes: u64,
    /// Bytes per second at most; 0 where nobody measured it.
    pub bytes_per_second: u64,
    /// Mean size of what it wrote; 0 where nobody measured it.
    pub object_bytes: u64,
}

/// What is expected of the next run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Bytes, margin included.
    pub capacity_bytes: u64,
    /// Bytes per second, margin included; 0 where nobody measured it.
    pub bytes_per_second: u64,
    /// The smallest mean size of objects of any run; 0 where nobody measured it.
    pub object_bytes: u64,
    /// Runs that it rests on.
    pub runs: usize,
    /// The larger of the margins, in percent.
    pub margin_percent: u64,
    /// Whose runs they are.
    pub profile: String,
}

impl Forecast {
    /// "the mean peak of 3 earlier runs of 'nightly' and 4 % more".
    pub fn sentence(&self) -> String {
        let runs = match self.runs {
            1 => "an earlier run".to_owned(),
            runs => format!("{runs} earlier runs"),
        };
        format!(
            "the mean peak of {runs} of '{}' and {} % more",
            self.profile, self.margin_percent
        )
    }
}

/// The runs of every profile, by name. Bounded.
#[derive(Clone, Debug, Default)]
pub struct History {
    profiles: HashMap<String, Profile>,
    /// Counts records, to tell which profile ran longest ago.
    clock: u64,
}

#[derive(Clone, Debug, Default)]
struct Profile {
    runs: VecDeque<Run>,
    last: u64,
}

impl History {
    /// Takes down a run that has ended. One that held nothing foretells nothing.
    pub fn record(&mut self, profile: &str, run: Run) {
        if run.capacity_bytes == 0 {
            return;
        }
        self.clock += 1;
        if !self.profiles.contains_key(profile) && self.profiles.len() >= PROFILES_MAX {
            let oldest = self.profiles.iter().min_by_key(|(_, profile)| profile.last);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.profiles.remove(&name);
            }
        }
        let known = self.profiles.entry(profile.to_owned()).or_default();
        known.last = self.clock;
        known.runs.push_back(run);
        if known.runs.len() > RUNS_MAX {
            known.runs.pop_front();
        }
    }

    /// What is remembered of a profile's runs, the oldest first.
    pub fn runs(&self, profile: &str) -> impl Iterator<Item = &Run> {
        self.profiles
            .get(profile)
            .into_iter()
            .flat_map(|known| &known.runs)
    }

    /// The profiles, the one that ran longest ago first: recording all of their runs in this order
    /// gives the same history again.
    pub fn profiles(&self) -> Vec<&str> {
        let mut profiles: Vec<_> = self.profiles.iter().collect();
        profiles.sort_unstable_by_key(|(_, profile)| profile.last);
        profiles
            .into_iter()
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Counts the runs recorded: another figure than before, another history.
    pub fn edition(&self) -> u64 {
        self.clock
    }

    /// What the next run of `profile` will need; `None` if none is known.
    pub fn forecast(&self, profile: &str) -> Option<Forecast> {
        let runs = &self.profiles.get(profile)?.runs;
        let capacity = expected(runs.iter().map(|run| run.capacity_bytes));
        // What nobody measured says nothing about the next run.
        let measured = |of: fn(&Run) -> u64| runs.iter().map(of).filter(|amount| *amount > 0);
        let rate = expected(measured(|run| run.bytes_per_second));
        Some(Forecast {
            capacity_bytes: capacity.amount,
            bytes_per_second: rate.amount,
            object_bytes: measured(|run| run.object_bytes).min().unwrap_or(0),
            runs: runs.len(),
            margin_percent: capacity.margin_percent.max(rate.margin_percent),
            profile: profile.to_owned(),
        })
    }
}

struct Expected {
    amount: u64,
    margin_percent: u64,
}

/// The mean of the figures and a margin: a twentieth after one run, shrinking with every further one,
/// but no smaller than a sixth of the range of the runs, so that about two runs of three fit. The third
/// grows while it runs, which costs less than room that the other two do not need.
fn expected(figures: impl Iterator<Item = u64> + Clone) -> Expected {
    let runs = figures.clone().count().max(1) as u64;
    let most = figures.clone().max().unwrap_or(0);
    let least = figures.clone().min().unwrap_or(0);
    let sum: u128 = figures.map(u128::from).sum();
    let mean = sum / u128::from(runs);
    let range_percent = (u128::from(most - least) * 100 / mean.max(1)) as u64;
    let margin_percent = (MARGIN_PERCENT / runs)
        .max(range_percent / 6)
        .clamp(MARGIN_PERCENT_MIN, MARGIN_PERCENT_MAX);
    let with_margin = mean * u128::from(100 + margin_percent) / 100;
    Expected {
        amount: u64::try_from(with_margin).unwrap_or(u64::MAX),
        margin_percent,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(capacity_bytes: u64, bytes_per_second: u64) -> Run {
        Run {
            capacity_bytes,
            bytes_per_second,
            object_bytes: 0,
        }
    }

    fn history(runs: &[Run]) -> History {
        let mut history = History::default();
        runs.iter().for_each(|run| history.record("x", *run));
        history
    }

    #[test]
    fn the_margin_shrinks_as_runs_agree_and_grows_as_they_differ() {
        for (capacities, expected, margin) in [
            (&[1_000][..], 1_050, 5),
            (&[1_000, 1_000], 1_020, 2),
            (&[1_000, 900, 1_100], 1_030, 3),
            (&[1_000; 8], 1_020, 2),
            (&[1_000; 20], 1_020, 2),
            (&[500, 1_000], 832, 11),
            (&[1, 1_000], 665, 33),
        ] {
            let runs: Vec<_> = capacities.iter().map(|&bytes| run(bytes, 10)).collect();
            let forecast = history(&runs).forecast("x").expect("has run");
            let found = (forecast.capacity_bytes, forecast.margin_percent);
            assert_eq!(found, (expected, margin), "{capacities:?}");
            assert_eq!(forecast.runs, capacities.len().min(RUNS_MAX));
        }
        assert_eq!(history(&[]).forecast("x"), None);
        assert_eq!(history(&[run(0, 7)]).forecast("x"), None, "held nothing");
    }

    #[test]
    fn only_the_last_runs_count_and_the_oldest_profile_goes() {
        let mut runs = vec![run(1_000_000, 1)];
        runs.extend([run(100, 1); RUNS_MAX]);
        let forecast = history(&runs).forecast("x").expect("has run");
        assert_eq!(forecast.capacity_bytes, 102);
        let mut history = history(&runs);
        for profile in 0..PROFILES_MAX {
            history.record(&profile.to_string(), run(1, 1));
        }
        assert_eq!(history.forecast("x"), None);
        assert!(history.forecast("0").is_some());
        assert_eq!(history.profiles.len(), PROFILES_MAX);
    }

    #[test]
    fn profiles_are_told_in_the_order_of_their_last_runs_and_every_run_is_another_edition() {
        let mut history = History::default();
        assert_eq!((history.profiles(), history.edition()), (vec![], 0));
        for profile in ["b", "a", "b", "c"] {
            history.record(profile, run(1, 1));
        }
        assert_eq!(history.profiles(), ["a", "b", "c"]);
        assert_eq!(history.edition(), 4);
        history.record("a", run(0, 1));
        assert_eq!(history.edition(), 4, "held nothing");
    }

    #[test]
    fn a_forecast_says_what_it_rests_on() {
        let one = history(&[run(10, 1)]).forecast("x").expect("has run");
        assert_eq!(
            one.sentence(),
            "the mean peak of an earlier run of 'x' and 5 % more"
        );
        let two = history(&[run(10, 1); 2]).forecast("x").expect("has run");
        assert_eq!(
            two.sentence(),
            "the mean peak of 2 earlier runs of 'x' and 2 % more"
        );
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let measured = Run {
            object_bytes: 5_600,
            ..run(1_000, 1_000)
        };
        let forecast = history(&[run(1_000, 0), measured, run(1_000, 0), measured]).forecast("x");
        let forecast = forecast.expect("has run");
        assert_eq!(
            (forecast.bytes_per_second, forecast.object_bytes),
            (1_020, 5_600)
        );
        let none = history(&[run(1_000, 0)]).forecast("x").expect("has run");
        assert_eq!((none.bytes_per_second, none.object_bytes), (0, 0));
    }

    proptest! {
        #[test]
        fn recording_what_is_remembered_gives_the_same_history(
            runs in proptest::collection::vec((0..6u8, 0..4u64, 0..9u64), 0..60),
        ) {
            let mut first = History::default();
            for (profile, capacity_bytes, rate) in runs {
                first.record(&profile.to_string(), run(capacity_bytes, rate));
            }
            let mut again = History::default();
            for profile in first.profiles() {
                first.runs(profile).for_each(|run| again.record(profile, *run));
            }
            prop_assert_eq!(first.profiles(), again.profiles());
            for profile in first.profiles() {
                prop_assert_eq!(first.forecast(profile), again.forecast(profile));
                prop_assert!(first.runs(profile).eq(again.runs(profile)));
            }
        }

        #[test]
        fn a_forecast_lies_above_the_mean_and_not_far_above_the_most(
            runs in proptest::collection::vec((1..u64::MAX / 4, 0..u64::MAX / 4), 1..RUNS_MAX),
        ) {
            let runs: Vec<_> = runs.into_iter().map(|(c, r)| run(c, r)).collect();
            let forecast = history(&runs).forecast("x").expect("has run");
            let all = |of: fn(&Run) -> u64| runs.iter().map(of).map(u128::from);
            let mean = all(|run| run.capacity_bytes).sum::<u128>() / runs.len() as u128;
            let most = all(|run| run.capacity_bytes).max().unwrap_or(0);
            prop_assert!(u128::from(forecast.capacity_bytes) >= mean);
            prop_assert!(u128::from(forecast.capacity_bytes) <= most * 3 / 2);
        }
    }
}
