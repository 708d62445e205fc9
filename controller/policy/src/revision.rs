//! Running jobs: their use compared with their allocation.
//!
//! A job that needs more than it was given gets more, before anything fails; one that stays far
//! under gives its reservation back. Figures that a rule guessed are corrected soon, those that a
//! user or an earlier run gave only when they are plainly wrong.

use crate::Needs;

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

impl WatchSettings {
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

/// Watches one job. Each resource by itself: a job that reads and does not store gives capacity
/// back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// How often it grew.
    growths: u32,
    gave_back: bool,
    capacity: Spare,
    throughput: Spare,
}

/// Since when a resource has been far under, and the most used meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spare {
    since_ms: Option<u64>,
    most: u64,
}

impl Watch {
    /// Looks at the job; to be called about every second. Times are milliseconds of any clock.
    pub fn look(&mut self, now: Use, settings: &WatchSettings, now_ms: u64) -> Option<Revision> {
        let (given, used) = (now.given, now.used);
        let grown = Needs {
            capacity_bytes: self.grown(given.capacity_bytes, used.capacity_bytes, settings),
            bytes_per_second: self.grown(given.bytes_per_second, used.bytes_per_second, settings),
        };
        if grown != given {
            *self = Watch {
                growths: self.growths.saturating_add(1),
                gave_back: self.gave_back,
                ..Watch::default()
            };
            return Some(Revision::Grow(grown));
        }
        let floor = settings.floor;
        let capacity = (
            given.capacity_bytes,
            used.capacity_bytes,
            floor.capacity_bytes,
        );
        let rate = (
            given.bytes_per_second,
            used.bytes_per_second,
            floor.bytes_per_second,
        );
        let kept = Needs {
            capacity_bytes: self.capacity.look(capacity, settings, now_ms),
            bytes_per_second: self.throughput.look(rate, settings, now_ms),
        };
        self.gave_back |= kept != given;
        (kept != given).then_some(Revision::GiveBack(kept))
    }

    /// Whether it has given anything back.
    pub fn has_given_back(&self) -> bool {
        self.gave_back
    }

    /// What a resource of which so much is used should be.
    fn grown(&self, given: u64, used: u64, settings: &WatchSettings) -> u64 {
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
        let grow =
            |used, settings: WatchSettings| Watch::default().look(uses(given, used), &settings, 0);
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
        let settings = WatchSettings::guessed();
        let mut watch = Watch::default();
        let mut look = |used, second: u64| watch.look(uses(given, used), &settings, second * 1_000);
        assert_eq!(
            look(needs(GB, 7 * GB), 0),
            Some(Revision::Grow(needs(10 * GB, 10 * GB + GB / 2)))
        );
        let busy = 5 * GB;
        assert_eq!(look(needs(GB, busy), 1), None);
        assert_eq!(look(needs(2 * GB, busy), 5), None);
        assert_eq!(look(needs(GB, busy), 10), None);
        let back = Revision::GiveBack(needs(3 * GB, 8 * GB));
        assert_eq!(
            look(needs(GB, busy), 11),
            Some(back),
            "the most it used and half of that"
        );
    }

    #[test]
    fn use_that_comes_back_in_time_keeps_the_reservation() {
        let given = needs(10 * GB, 0);
        let settings = WatchSettings::guessed();
        let mut watch = Watch::default();
        for second in 0..100 {
            let used = if second % 10 == 9 { 7 * GB } else { 0 };
            let now = uses(given, needs(used, 0));
            assert_eq!(watch.look(now, &settings, second * 1_000), None);
        }
    }

    #[test]
    fn what_users_said_is_kept_for_longer() {
        let now = uses(needs(10 * GB, GB), needs(0, 0));
        let mut watch = Watch::default();
        let settings = WatchSettings::told();
        assert_eq!(watch.look(now, &settings, 0), None);
        assert_eq!(watch.look(now, &settings, 299_999), None);
        let back = Revision::GiveBack(settings.floor);
        assert_eq!(watch.look(now, &settings, 300_000), Some(back));
    }

    proptest! {
        #[test]
        fn steady_use_settles_after_two_revisions(
            capacity in 0..1u64 << 50, rate in 0..1u64 << 40, used in 0..1u64 << 50, used_rate in 0..1u64 << 40,
            told: bool,
        ) {
            let settings = if told { WatchSettings::told() } else { WatchSettings::guessed() };
            let mut given = needs(capacity, rate);
            let mut watch = Watch::default();
            let mut revisions = 0;
            for second in 0..2_000 {
                let now = uses(given, needs(used, used_rate));
                match watch.look(now, &settings, second * 1_000) {
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
