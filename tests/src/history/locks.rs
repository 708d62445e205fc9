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

/// Two that exclude each other, if there are any.
pub fn conflict(holds: &[Hold]) -> Option<(Hold, Hold)> {
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
            return Some(((*one).clone(), (*other).clone()));
        }
    }
    None
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
        let judge = |other: Hold| conflict(&[other, one.clone()]).is_none();
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
        assert!(conflict(&[shared, other]).is_none(), "both shared");
    }
}
