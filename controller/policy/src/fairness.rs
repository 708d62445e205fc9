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

    proptest! {
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
