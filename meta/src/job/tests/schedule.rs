//! Which of the things that may happen next happens.

/// Decides at every step of a run.
pub(super) trait Choose {
    /// A number below `among`; 0 is the plain course of things.
    fn choose(&mut self, among: usize) -> usize;
}

/// All schedules that leave the plain course of things no more than so many times, one after the
/// other (delay-bounded scheduling: Emmi, Qadeer and Rakamarić 2011).
pub(super) struct Exhaustive {
    departures_max: usize,
    /// Choices to begin with; the plain course follows.
    planned: Vec<usize>,
    /// What was chosen in this run, and among how many.
    taken: Vec<(usize, usize)>,
}

impl Exhaustive {
    pub(super) fn new(departures_max: usize) -> Self {
        Exhaustive {
            departures_max,
            planned: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Turns to the next schedule. False if there is none.
    pub(super) fn next(&mut self) -> bool {
        let taken = std::mem::take(&mut self.taken);
        for (at, &(chosen, among)) in taken.iter().enumerate().rev() {
            let before = taken[..at].iter().filter(|(chosen, _)| *chosen > 0);
            if chosen + 1 < among && before.count() < self.departures_max {
                self.planned = taken[..at].iter().map(|(chosen, _)| *chosen).collect();
                self.planned.push(chosen + 1);
                return true;
            }
        }
        false
    }
}

impl Choose for Exhaustive {
    fn choose(&mut self, among: usize) -> usize {
        let planned = self.planned.get(self.taken.len());
        let chosen = planned.copied().unwrap_or(0).min(among - 1);
        self.taken.push((chosen, among));
        chosen
    }
}

/// One schedule of many, determined by its seed (SplitMix64, Steele, Lea and Flood 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

impl Choose for Random {
    /// The plain course now and then, so that runs get somewhere.
    fn choose(&mut self, among: usize) -> usize {
        match self.below(3) {
            0 => 0,
            _ => self.below(among),
        }
    }
}

/// The plain course of things.
pub(super) struct Plain;

impl Choose for Plain {
    fn choose(&mut self, _: usize) -> usize {
        0
    }
}

#[test]
fn every_schedule_comes_once() {
    // Three steps of three choices each, of which no more than two leave the plain course.
    let (mut schedules, mut seen) = (Exhaustive::new(2), Vec::new());
    loop {
        let steps: Vec<_> = (0..3).map(|_| schedules.choose(3)).collect();
        seen.push(steps);
        if !schedules.next() {
            break;
        }
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    // 1 plain, 3 * 2 with one departure, 3 * 4 with two.
    assert_eq!((count, seen.len()), (19, 19));
}
