//! Max-min fair throughput, weighted by allocation.
//!
//! Every job first gets what it asks for up to its allocation. What is left goes to those that ask
//! for more, in proportion to their allocations, until they have it or nothing is left. So a job
//! above its allocation is slowed when, and only when, others need what it takes.

/// What a job asks of a server or a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Bytes per second that it would move.
    pub wanted: u64,
    /// Bytes per second that it was promised.
    pub allocated: u64,
}

/// What each claim is given of `capacity` bytes per second, in order. Never more than it wants, and
/// never more in all than there is. A claim that was promised nothing has the smallest weight.
pub fn fair_rates(capacity: u64, claims: &[Claim]) -> Vec<u64> {
    let mut given: Vec<u64> = vec![0; claims.len()];
    let promised = |claim: &Claim| claim.wanted.min(claim.allocated);
    let mut left = capacity;
    share(&mut left, &mut given, claims, promised);
    share(&mut left, &mut given, claims, |claim| claim.wanted);
    given
}

/// What a job did on a server in the last second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes per second.
    pub bytes_per_second: u64,
    /// Whether it was slowed by a limit: then it would have moved more.
    pub held_back: bool,
    /// Bytes per second that it was promised there.
    pub allocated: u64,
}

impl Moved {
    /// Bytes per second that it would have moved there as far as that is known, to be compared with
    /// what it was promised. One that was held back sits at its limit, which says nothing: it is taken
    /// to want a quarter more than that and than its allocation.
    pub fn wanted(&self) -> u64 {
        let limit = self.bytes_per_second.max(self.allocated);
        match self.held_back {
            true => a_quarter_more(limit),
            false => self.bytes_per_second,
        }
    }
}

fn a_quarter_more(rate: u64) -> u64 {
    rate.saturating_add(rate / 4)
}

/// Bytes per second to hold each job to on a server of such a capacity, in order; `None`: whatever it
/// likes. Only a job above its allocation is held, and only if others need what it takes.
///
/// What a job would move is not known. It is taken to want a quarter more than it moved, and up to its
/// allocation as much again: who is crowded out has its allocation back within seconds, and who moves
/// little keeps little from others. One that was held back wants all there is.
pub fn rate_limits(capacity: u64, moved: &[Moved]) -> Vec<Option<u64>> {
    let wanted = |moved: &Moved| {
        let rate = moved.bytes_per_second;
        let back_to_allocation = rate.saturating_mul(2).min(moved.allocated);
        let more = a_quarter_more(rate).max(back_to_allocation);
        match moved.held_back {
            true => capacity,
            false => more.min(capacity),
        }
    };
    let claim = |moved: &Moved| Claim {
        wanted: wanted(moved),
        allocated: moved.allocated,
    };
    let claims: Vec<Claim> = moved.iter().map(claim).collect();
    let given = fair_rates(capacity, &claims).into_iter();
    let limit = |(given, claim): (u64, &Claim)| {
        (claim.wanted > claim.allocated && given < claim.wanted).then_some(given)
    };
    given.zip(&claims).map(limit).collect()
}

/// Raises what is given towards `up_to`, in proportion to the allocations, while something is left.
/// Whoever needs the least per weight is satisfied first, so that one pass in that order suffices.
fn share(left: &mut u64, given: &mut [u64], claims: &[Claim], up_to: impl Fn(&Claim) -> u64) {
    let weight = |claim: &Claim| u128::from(claim.allocated.max(1));
    let mut open: Vec<usize> = (0..claims.len())
        .filter(|&at| up_to(&claims[at]) > given[at])
        .collect();
    let missing = |given: &[u64], at: usize| u128::from(up_to(&claims[at]) - given[at]);
    open.sort_by(|&a, &b| {
        let per_weight = |x: usize, y: usize| missing(given, x) * weight(&claims[y]);
        per_weight(a, b).cmp(&per_weight(b, a)).then(a.cmp(&b))
    });
    let mut weights: u128 = open.iter().map(|&at| weight(&claims[at])).sum();
    for at in open {
        let own = weight(&claims[at]);
        let fair = u128::from(*left) * own / weights;
        let more = missing(given, at).min(fair) as u64;
        given[at] += more;
        *left -= more;
        weights -= own;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates(capacity: u64, claims: &[(u64, u64)]) -> Vec<u64> {
        let claims: Vec<_> = claims
            .iter()
            .map(|&(wanted, allocated)| Claim { wanted, allocated })
            .collect();
        fair_rates(capacity, &claims)
    }

    #[test]
    fn who_exceeds_is_slowed_only_if_others_need_it() {
        for (capacity, claims, expected) in [
            // Alone, or beside jobs that leave room: as it likes.
            (100, &[(90, 10)][..], &[90][..]),
            (100, &[(90, 10), (10, 90)], &[90, 10]),
            // Others need theirs: back to its allocation.
            (100, &[(90, 10), (90, 90)], &[10, 90]),
            // What is left goes by allocation.
            (100, &[(90, 20), (90, 40)], &[34, 66]),
            (100, &[(25, 20), (90, 40)], &[25, 75]),
            // Promised more than there is: in proportion as well.
            (30, &[(90, 20), (90, 40)], &[10, 20]),
            (10, &[(9, 0), (9, 0)], &[5, 5]),
            (0, &[(9, 9)], &[0]),
            (10, &[], &[]),
        ] {
            assert_eq!(rates(capacity, claims), expected, "{capacity} {claims:?}");
        }
    }

    #[test]
    fn who_was_held_back_is_taken_to_want_more_than_it_moved_and_than_it_was_promised() {
        let wanted = |bytes_per_second, allocated, held_back| {
            let moved = Moved {
                bytes_per_second,
                held_back,
                allocated,
            };
            moved.wanted()
        };
        assert_eq!(wanted(80, 100, false), 80);
        assert_eq!(wanted(180, 100, false), 180);
        assert_eq!(wanted(80, 100, true), 125);
        assert_eq!(wanted(120, 100, true), 150);
        assert_eq!(wanted(u64::MAX, 0, true), u64::MAX);
    }

    #[test]
    fn a_job_is_limited_only_above_its_allocation_and_only_if_others_need_it() {
        let moved = |bytes_per_second, allocated, held_back| Moved {
            bytes_per_second,
            held_back,
            allocated,
        };
        for (jobs, expected) in [
            // Alone: whatever it moves.
            (&[moved(100, 10, false)][..], &[None][..]),
            (&[moved(20, 10, true)], &[None]),
            // The other leaves room for it.
            (&[moved(60, 10, false), moved(10, 90, false)], &[None, None]),
            (
                &[moved(70, 10, false), moved(20, 90, false)],
                &[Some(60), None],
            ),
            // The other is crowded out, and gets its allocation back step by step.
            (
                &[moved(90, 10, false), moved(10, 50, false)],
                &[Some(80), None],
            ),
            (
                &[moved(80, 10, true), moved(20, 50, false)],
                &[Some(60), None],
            ),
            (
                &[moved(60, 10, true), moved(40, 50, false)],
                &[Some(50), None],
            ),
            // What is left beyond the allocations goes by these.
            (
                &[moved(40, 10, true), moved(60, 50, true)],
                &[Some(17), Some(83)],
            ),
            // The other has gone.
            (&[moved(60, 10, true), moved(0, 50, false)], &[None, None]),
            // Within their allocations, though more is promised than there is.
            (&[moved(50, 90, false), moved(50, 90, false)], &[None, None]),
            (&[], &[]),
        ] {
            assert_eq!(rate_limits(100, jobs), expected, "{jobs:?}");
        }
    }

    proptest! {
        #[test]
        fn limits_never_go_below_an_allocation_that_can_be_kept(
            capacity in 1..1u64 << 40,
            jobs in proptest::collection::vec((0..1u64 << 40, 0..1u64 << 36, any::<bool>()), 0..12),
        ) {
            let jobs: Vec<_> = jobs.into_iter().map(|(bytes_per_second, allocated, held_back)| Moved {
                bytes_per_second, held_back, allocated,
            }).collect();
            let promised: u64 = jobs.iter().map(|job| job.allocated).sum();
            for (job, limit) in jobs.iter().zip(rate_limits(capacity, &jobs)) {
                if promised <= capacity && let Some(limit) = limit {
                    prop_assert!(limit >= job.allocated, "{limit} {job:?}");
                }
            }
        }

        #[test]
        fn nobody_is_slowed_for_nothing_or_below_what_was_promised(
            capacity in 0..1u64 << 50,
            claims in proptest::collection::vec((0..1u64 << 48, 0..1u64 << 48), 0..12),
        ) {
            let given = rates(capacity, &claims);
            let sum: u64 = given.iter().sum();
            let wanted: u64 = claims.iter().map(|(wanted, _)| wanted).sum();
            prop_assert!(sum <= capacity);
            // Nothing lies idle while somebody wants it, but for what rounding loses.
            prop_assert!(sum + claims.len() as u64 >= wanted.min(capacity));
            let promised: u64 = claims.iter().map(|(w, a)| w.min(a)).sum();
            for ((wanted, allocated), given) in claims.iter().zip(&given) {
                prop_assert!(given <= wanted);
                if promised <= capacity {
                    prop_assert!(given >= wanted.min(allocated));
                }
            }
        }

        #[test]
        fn more_capacity_never_slows_a_job(
            capacity in 0..1u64 << 40, more in 0..1u64 << 40,
            claims in proptest::collection::vec((0..1u64 << 40, 0..1u64 << 40), 0..12),
        ) {
            let (before, after) = (rates(capacity, &claims), rates(capacity + more, &claims));
            for (before, after) in before.iter().zip(after) {
                // Rounding may hand a byte to another one.
                prop_assert!(after + claims.len() as u64 >= *before);
            }
        }
    }
}
