//! Samples of gauges, and whether they stay flat.

use std::collections::BTreeMap;

/// What a gauge may have grown by, as a part of what it was.
const GROWTH: f64 = 0.1;
const MIB: f64 = (1 << 20) as f64;
/// Gauges that tell no state of the process: they pass with time, or with the load.
const PASSING: [&str; 7] = [
    "capacity_bytes",
    "reserved_bytes",
    "uptime",
    "per_second",
    "per_hour",
    "queue_depth",
    "leased_objects",
];

/// What all gauges were, in the order of sampling.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<(String, String), Vec<f64>>);

/// What became of a gauge.
#[derive(Clone, Debug)]
pub struct Row {
    /// The process: "controller", "metadata", "storage N" or "mount N".
    pub process: String,
    /// The metric's name.
    pub gauge: String,
    /// Its median in the second quarter of the time.
    pub early: f64,
    /// Its median in the last quarter.
    pub late: f64,
}

impl Samples {
    pub(super) fn note(&mut self, process: &str, gauges: BTreeMap<String, f64>) {
        for (gauge, value) in gauges {
            if PASSING.iter().any(|word| gauge.contains(word)) {
                continue;
            }
            let series = self.0.entry((process.to_owned(), gauge)).or_default();
            series.push(value);
        }
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let rows = self.0.iter().map(|((process, gauge), values)| {
            let quarter = values.len() / 4;
            Row {
                process: process.clone(),
                gauge: gauge.clone(),
                early: median(&values[quarter..2 * quarter]),
                late: median(&values[values.len() - quarter..]),
            }
        });
        rows.collect()
    }
}

impl Row {
    /// Whether it has not grown by more than it may.
    pub fn is_flat(&self) -> bool {
        let slack = match self.gauge.as_str() {
            gauge if gauge.ends_with("_bytes") => 8.0 * MIB,
            gauge if gauge.starts_with("process_") => 8.0,
            _ => 64.0,
        };
        self.late <= self.early * (1.0 + GROWTH) + slack
    }
}

/// 0 of nothing.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(gauge: &str, values: impl Iterator<Item = f64>) -> Row {
        let mut samples = Samples::default();
        for value in values {
            samples.note("p", BTreeMap::from([(gauge.to_owned(), value)]));
        }
        samples.rows().remove(0)
    }

    #[test]
    fn what_grows_behind_the_first_quarter_is_not_flat() {
        let grows = (0..100).map(|at| f64::from(at) * MIB);
        let row = row("process_resident_memory_bytes", grows);
        assert_eq!((row.early, row.late), (37.0 * MIB, 87.0 * MIB));
        assert!(!row.is_flat());
    }

    #[test]
    fn what_warms_up_or_has_a_peak_is_flat() {
        let warms_up = (0..100).map(|at| f64::from(at.min(25)) * MIB);
        assert!(row("process_resident_memory_bytes", warms_up).is_flat());
        let peaks = (0..100).map(|at| if at % 25 == 3 { 1e12 } else { 20.0 });
        assert!(row("process_open_fds", peaks).is_flat());
    }

    #[test]
    fn what_passes_is_not_looked_at() {
        let mut samples = Samples::default();
        let uptime = ("pocket_controller_uptime_seconds".to_owned(), 1.0);
        samples.note("p", BTreeMap::from([uptime]));
        assert!(samples.rows().is_empty());
    }
}
