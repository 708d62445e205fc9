//! Medians, percentiles and the ratio that the report quotes. Pure.

use super::sections::Unit;

/// The middle of the values, the mean of the two middle ones where their number is even; none of no values.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The value that `fraction` of the values lie below (nearest rank); none of no values.
pub(super) fn percentile(values: &[f64], fraction: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (fraction * sorted.len() as f64) as usize;
    sorted
        .get(rank.min(sorted.len().saturating_sub(1)))
        .copied()
}

/// How many times better `ours` is than `theirs`: above 1 it is faster, whichever way the unit counts.
pub(super) fn advantage(unit: Unit, ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    let (ours, theirs) = (ours?, theirs?);
    let ratio = if unit.more_is_better() {
        ours / theirs
    } else {
        theirs / ours
    };
    ratio.is_finite().then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 100.0]), Some(3.5));
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(50.0));
        assert_eq!(percentile(&values, 0.99), Some(99.0));
        assert_eq!(percentile(&values, 1.0), Some(99.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn an_advantage_above_one_means_faster_for_rates_and_for_times() {
        assert_eq!(
            advantage(Unit::PerSecond, Some(300.0), Some(100.0)),
            Some(3.0)
        );
        assert_eq!(advantage(Unit::Seconds, Some(1.0), Some(3.0)), Some(3.0));
        assert_eq!(advantage(Unit::Seconds, None, Some(3.0)), None);
        assert_eq!(advantage(Unit::PerSecond, Some(1.0), Some(0.0)), None);
    }
}
