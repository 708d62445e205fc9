//! Locks that were held: never two at once that exclude each other.

use std::ops::Range;

/// A lock, for as long as its holder certainly had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who had it.
    pub client: usize,
    /// Locks of different families do not exclude each other.
    pub family: &'static str,
    /// Bytes.
    pub range: Range<u64>,
    /// Excludes shared ones as well.
    pub exclusive: bool,
    /// From when the call returned that locked.
    pub from: u64,
    /// Until the call that unlocked, or the last one under the lock that worked: a holder whose
    /// lock was lost is told so.
    pub until: u64,
}

/// Finds two that exclude each other.
pub fn check(holds: &[Hold]) -> Result<(), (Hold, Hold)> {
    let mut holds: Vec<_> = holds.iter().filter(|hold| hold.from < hold.until).collect();
    holds.sort_by_key(|hold| hold.from);
    for (at, one) in holds.iter().enumerate() {
        let later = holds[at + 1..].iter();
        let mut during = later.take_while(|other| other.from < one.until);
        let conflict = during.find(|other| {
            one.client != other.client
                && one.family == other.family
                && (one.exclusive || other.exclusive)
                && one.range.start < other.range.end
                && other.range.start < one.range.end
        });
        if let Some(other) = conflict {
            return Err(((*one).clone(), (*other).clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_at_once_are_found() {
        let hold = |client, exclusive, range: Range<u64>, time: Range<u64>| Hold {
            client,
            family: "flock",
            range,
            exclusive,
            from: time.start,
            until: time.end,
        };
        let one = hold(0, true, 0..8, 10..20);
        let judge = |other: Hold| check(&[other, one.clone()]).is_ok();
        assert!(!judge(hold(1, true, 4..5, 19..30)));
        assert!(!judge(hold(1, false, 4..5, 0..11)));
        assert!(judge(hold(1, true, 4..5, 20..30)), "one after the other");
        assert!(judge(hold(1, true, 8..9, 10..20)), "another range");
        assert!(judge(hold(0, true, 0..8, 10..20)), "the same holder");
        let fcntl = Hold {
            family: "fcntl",
            ..hold(1, true, 0..8, 10..20)
        };
        assert!(judge(fcntl), "another family");
        let shared = hold(0, false, 0..8, 10..20);
        let other = hold(1, false, 0..8, 10..20);
        assert!(check(&[shared, other]).is_ok(), "both shared");
    }
}
