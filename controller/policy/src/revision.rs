//! Running jobs: their use compared with their allocation.
//!
//! A job that needs more than it was given gets more, before anything fails; one that stays far
//! under gives its reservation back. Figures that a rule guessed are corrected soon, those that a
//! user or an earlier run gave only when they are plainly wrong.

use crate::{Demand, Needs, Wanted};

/// Steps of growth double so often, and add at most as much again.
const GROWTH_DOUBLINGS_MAX: u32 = 5;
const GROWTH_PERCENT_MAX: u64 = 100;

/// What a job was given and uses, in bytes and bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Given.
    pub given: Needs,
    /// Used now; throughput as the job would have it if nobody held it back.
    pub used: Needs,
}

/// When a job is given more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// More when use exceeds this part of what was given.
    pub grow_above_percent: u64,
    /// Then so much more than is used; twice as much every further time, but no more than double.
    pub grow_by_percent: u64,
    /// Less when use stays below this part of what was given.
    pub spare_below_percent: u64,
    /// For so long: milliseconds.
    pub spare_for_ms: u64,
    /// Then so much more than the most that was used meanwhile is kept.
    pub keep_percent: u64,
    /// Never given back below this.
    pub floor: Needs,
}

impl Default for WatchSettings {
    fn default() -> Self {
        WatchSettings::guessed()
    }
}

impl WatchSettings {
    /// By where a figure came from.
    pub fn of(figure: Wanted) -> Self {
        match figure {
            Wanted::Exactly(_) | Wanted::Expected(_) => WatchSettings::told(),
            Wanted::UpTo(_) => WatchSettings::guessed(),
        }
    }

    /// What a rule guessed: wrong more often than not.
    pub fn guessed() -> Self {
        WatchSettings {
            grow_above_percent: 80,
            grow_by_percent: 50,
            spare_below_percent: 60,
            spare_for_ms: 10_000,
            keep_percent: 50,
            floor: Needs {
                capacity_bytes: 64 << 20,
                // A task's (paper, table 3).
                bytes_per_second: 75_000_000,
            },
        }
    }

    /// What a user or an earlier run said: the job may come to need it late.
    pub fn told() -> Self {
        WatchSettings {
            grow_above_percent: 100,
            grow_by_percent: 3,
            spare_below_percent: 25,
            spare_for_ms: 300_000,
            ..WatchSettings::guessed()
        }
    }
}

/// What a job is to be given from now on, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// At least one figure rises, none falls.
    Grow(Needs),
    /// At least one figure falls, none rises.
    GiveBack(Needs),
}

/// Watches one job. Each figure by itself: a job that reads and does not store gives capacity back,
/// and what was guessed of one figure says nothing of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    capacity: Figure,
    throughput: Figure,
}

/// One of its figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figure {
    settings: WatchSettings,
    /// How often it grew.
    growths: u32,
    spare: Spare,
    /// Not looked at before: milliseconds.
    rests_until_ms: u64,
}

/// Since when a resource has been far under, and the most used meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spare {
    since_ms: Option<u64>,
    most: u64,
}

impl Watch {
    /// With settings for capacity and for throughput.
    pub fn new(capacity: WatchSettings, throughput: WatchSettings) -> Self {
        let figure = |settings| Figure {
            settings,
            ..Figure::default()
        };
        Watch {
            capacity: figure(capacity),
            throughput: figure(throughput),
        }
    }

    /// Of a job that demanded this, by where each figure came from.
    pub fn of(demand: &Demand) -> Self {
        Watch::new(
            WatchSettings::of(demand.capacity_bytes),
            WatchSettings::of(demand.bytes_per_second),
        )
    }

    /// Looks at the job; to be called about every second. Times are milliseconds of any clock.
    pub fn look(&mut self, now: Use, now_ms: u64) -> Option<Revision> {
        let (given, used) = (now.given, now.used);
        let new = Needs {
            capacity_bytes: self.capacity.look(
                (given.capacity_bytes, used.capacity_bytes),
                |floor| floor.capacity_bytes,
                now_ms,
            ),
            bytes_per_second: self.throughput.look(
                (given.bytes_per_second, used.bytes_per_second),
                |floor| floor.bytes_per_second,
                now_ms,
            ),
        };
        let most = Needs {
            capacity_bytes: new.capacity_bytes.max(given.capacity_bytes),
            bytes_per_second: new.bytes_per_second.max(given.bytes_per_second),
        };
        if most != given {
            return Some(Revision::Grow(most));
        }
        (new != given).then_some(Revision::GiveBack(new))
    }

    /// Leaves the capacity as it is until then.
    pub fn rest_capacity(&mut self, until_ms: u64) {
        self.capacity.rests_until_ms = until_ms;
    }

    /// Leaves the throughput as it is until then.
    pub fn rest_throughput(&mut self, until_ms: u64) {
        self.throughput.rests_until_ms = until_ms;
    }
}

impl Figure {
    /// What it should be, of which so much is given and used.
    fn look(
        &mut self,
        (given, used): (u64, u64),
        floor: impl Fn(Needs) -> u64,
        now_ms: u64,
    ) -> u64 {
        if now_ms < self.rests_until_ms {
            return given;
        }
        let grown = self.grown(given, used);
        if grown != given {
            self.growths = self.growths.saturating_add(1);
            self.spare = Spare::default();
            return grown;
        }
        let floor = floor(self.settings.floor);
        self.spare
            .look((given, used, floor), &self.settings, now_ms)
    }

    /// What a figure of which so much is used should be at least.
    fn grown(&self, given: u64, used: u64) -> u64 {
        let settings = &self.settings;
        let more = settings.grow_by_percent << self.growths.min(GROWTH_DOUBLINGS_MAX);
        match percent(given, settings.grow_above_percent) < used {
            true => percent(used, 100 + more.min(GROWTH_PERCENT_MAX)).max(given),
            false => given,
        }
    }
}

impl Spare {
    /// What is kept of a resource that was given, used, and is never less than the floor.
    fn look(
        &mut self,
        (given, used, floor): (u64, u64, u64),
        settings: &WatchSettings,
        now_ms: u64,
    ) -> u64 {
        if given <= floor || used >= percent(given, settings.spare_below_percent) {
            *self = Spare::default();
            return given;
        }
        self.most = self.most.max(used);
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < settings.spare_for_ms {
            return given;
        }
        let kept = percent(self.most, 100 + settings.keep_percent).clamp(floor, given);
        *self = Spare::default();
        kept
    }
}

fn percent(amount: u64, percent: u64) -> u64 {
    let exact = u128::from(amount) * u128::from(percent) / 100;
    u64::try_from(exact).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GB: u64 = 1_000_000_000;

    fn needs(capacity_bytes: u64, bytes_per_second: u64) -> Needs {
        Needs {
            capacity_bytes,
            bytes_per_second,
        }
    }

    fn uses(given: Needs, used: Needs) -> Use {
        Use { given, used }
    }

    #[test]
    fn a_job_that_outgrows_its_figures_gets_more_at_once() {
        let given = needs(10 * GB, GB);
        let grow = |used, settings: WatchSettings| {
            Watch::new(settings, settings).look(uses(given, used), 0)
        };
        let (told, guessed) = (WatchSettings::told(), WatchSettings::guessed());
        assert_eq!(
            grow(needs(10 * GB, GB), told),
            None,
            "what was asked for is not too little"
        );
        let more = Revision::Grow(needs(10 * GB + GB * 3 / 10 + 1, GB));
        assert_eq!(grow(needs(10 * GB + 1, GB), told), Some(more));
        let grown = grow(needs(9 * GB, GB / 2), guessed);
        assert_eq!(grown, Some(Revision::Grow(needs(13 * GB + GB / 2, GB))));
        assert_eq!(grow(needs(8 * GB, GB * 8 / 10), guessed), None);
        let both = grow(needs(20 * GB, 2 * GB), told);
        assert_eq!(
            both,
            Some(Revision::Grow(needs(
                20 * GB + GB * 6 / 10,
                2 * GB + GB * 6 / 100
            )))
        );
    }

    #[test]
    fn a_job_far_under_gives_back_after_a_while_and_keeps_some_more_than_it_used() {
        let given = needs(10 * GB, 8 * GB);
        let mut watch = Watch::default();
        let mut look = |used, second: u64| watch.look(uses(given, used), second * 1_000);
        assert_eq!(
            look(needs(GB, 7 * GB), 0),
            Some(Revision::Grow(needs(10 * GB, 10 * GB + GB / 2)))
        );
        let busy = 5 * GB;
        assert_eq!(look(needs(GB, busy), 1), None);
        assert_eq!(look(needs(2 * GB, busy), 5), None);
        assert_eq!(look(needs(GB, busy), 9), None);
        let back = Revision::GiveBack(needs(3 * GB, 8 * GB));
        assert_eq!(
            look(needs(GB, busy), 10),
            Some(back),
            "the most it used and half of that"
        );
    }

    #[test]
    fn each_figure_is_judged_by_where_it_came_from_and_by_its_own_past() {
        let (guessed, told) = (WatchSettings::guessed(), WatchSettings::told());
        assert_eq!(WatchSettings::of(Wanted::UpTo(GB)), guessed);
        assert_eq!(WatchSettings::of(Wanted::Expected(GB)), told);
        assert_eq!(WatchSettings::of(Wanted::Exactly(GB)), told);
        let mut watch = Watch::new(told, guessed);
        let given = needs(10 * GB, 10 * GB);
        let nearly = uses(given, needs(9 * GB, 9 * GB));
        let grown = Revision::Grow(needs(10 * GB, 13 * GB + GB / 2));
        assert_eq!(watch.look(nearly, 0), Some(grown));
        // Throughput has grown once, and so doubles; capacity has not.
        let over = uses(given, needs(11 * GB, 9 * GB));
        let grown = Revision::Grow(needs(11 * GB * 103 / 100, 18 * GB));
        assert_eq!(watch.look(over, 1_000), Some(grown));
        let idle = uses(given, needs(0, 0));
        assert_eq!(watch.look(idle, 2_000), None);
        let back = needs(10 * GB, guessed.floor.bytes_per_second);
        assert_eq!(watch.look(idle, 12_000), Some(Revision::GiveBack(back)));
    }

    #[test]
    fn a_figure_that_rests_stays_as_it_is_and_the_other_does_not() {
        let given = needs(10 * GB, 10 * GB);
        let more = uses(given, needs(10 * GB, 10 * GB));
        let (capacity, both) = (needs(15 * GB, 10 * GB), needs(20 * GB, 15 * GB));
        let mut watch = Watch::default();
        watch.rest_throughput(1_000);
        assert_eq!(watch.look(more, 999), Some(Revision::Grow(capacity)));
        assert_eq!(watch.look(more, 1_000), Some(Revision::Grow(both)));
        let mut watch = Watch::default();
        watch.rest_capacity(1_000);
        let throughput = needs(10 * GB, 15 * GB);
        assert_eq!(watch.look(more, 999), Some(Revision::Grow(throughput)));
        assert_eq!(
            watch.look(more, 1_000),
            Some(Revision::Grow(needs(15 * GB, 20 * GB)))
        );
    }

    #[test]
    fn use_that_comes_back_in_time_keeps_the_reservation() {
        let given = needs(10 * GB, 0);
        let mut watch = Watch::default();
        for second in 0..100 {
            let used = if second % 10 == 9 { 7 * GB } else { 0 };
            let now = uses(given, needs(used, 0));
            assert_eq!(watch.look(now, second * 1_000), None);
        }
    }

    #[test]
    fn what_users_said_is_kept_for_longer() {
        let now = uses(needs(10 * GB, GB), needs(0, 0));
        let settings = WatchSettings::told();
        let mut watch = Watch::new(settings, settings);
        assert_eq!(watch.look(now, 0), None);
        assert_eq!(watch.look(now, 299_999), None);
        // Of the throughput what a task moves.
        let back = Revision::GiveBack(needs(64 << 20, 75_000_000));
        assert_eq!(watch.look(now, 300_000), Some(back));
        // Three tenths of what was said is not far under, a fifth is.
        let kept = |used| {
            let now = uses(needs(10 * GB, GB), needs(used, GB));
            let mut watch = Watch::new(settings, settings);
            let looks = [0, 300_000].map(|now_ms| watch.look(now, now_ms));
            looks[1]
        };
        assert_eq!(kept(3 * GB), None);
        let back = Revision::GiveBack(needs(3 * GB, GB));
        assert_eq!(kept(2 * GB), Some(back));
    }

    #[test]
    fn a_small_job_that_idles_gives_nothing_back() {
        let small = WatchSettings::guessed().floor;
        for given in [small, needs(small.capacity_bytes - 1, 1)] {
            let mut watch = Watch::default();
            for second in 0..100 {
                let idle = uses(given, Needs::default());
                assert_eq!(watch.look(idle, second * 1_000), None);
            }
        }
    }

    #[test]
    fn a_jobs_figures_are_watched_by_where_each_came_from() {
        let demand = Demand {
            capacity_bytes: Wanted::Exactly(GB),
            bytes_per_second: Wanted::UpTo(GB),
            latency_sensitive: true,
            tiers: crate::Tier::FASTEST_FIRST,
            reasons: Vec::new(),
        };
        let expected = Watch::new(WatchSettings::told(), WatchSettings::guessed());
        assert_eq!(Watch::of(&demand), expected);
    }

    proptest! {
        #[test]
        fn steady_use_settles_after_two_revisions(
            capacity in 0..1u64 << 50, rate in 0..1u64 << 40, used in 0..1u64 << 50, used_rate in 0..1u64 << 40,
            told: bool, told_rate: bool,
        ) {
            let settings = |told| if told { WatchSettings::told() } else { WatchSettings::guessed() };
            let mut given = needs(capacity, rate);
            let mut watch = Watch::new(settings(told), settings(told_rate));
            let mut revisions = 0;
            for second in 0..2_000 {
                let now = uses(given, needs(used, used_rate));
                match watch.look(now, second * 1_000) {
                    None => {}
                    Some(Revision::Grow(new)) => {
                        prop_assert!(new.capacity_bytes >= given.capacity_bytes);
                        prop_assert!(new.bytes_per_second >= given.bytes_per_second);
                        given = new;
                        revisions += 1;
                    }
                    Some(Revision::GiveBack(new)) => {
                        prop_assert!(new.capacity_bytes <= given.capacity_bytes);
                        prop_assert!(new.capacity_bytes >= used.min(given.capacity_bytes));
                        prop_assert!(new.bytes_per_second <= given.bytes_per_second);
                        given = new;
                        revisions += 1;
                    }
                }
            }
            prop_assert!(revisions <= 2, "{revisions}");
            prop_assert!(given.capacity_bytes >= used && given.bytes_per_second >= used_rate);
        }
    }
}
