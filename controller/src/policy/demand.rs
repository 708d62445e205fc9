//! Hints into figures: how much throughput and capacity a job wants, and on which media.
//!
//! The rules are those of the Pocket paper (OSDI 2018), table 3, with the node of its examples.
//! What a user gave explicitly is wanted exactly; what a rule derives is an upper bound.

use pocket_proto::{ByteCount, control::Hints};

use super::tier::Tier;

/// The node of the paper's examples: 8 Gb/s of network, 1960 GB of flash.
const NODE_BYTES_PER_SECOND: u64 = 1_000_000_000;
const NODE_CAPACITY_BYTES: u64 = 1_960_000_000_000;
/// Throughput of one task: 0.6 Gb/s, the limit of a serverless function (paper, table 3).
const TASK_BYTES_PER_SECOND: u64 = 75_000_000;
/// A job without hints: 50 such nodes (paper, table 3).
const DEFAULT_NODES: u64 = 50;

/// A quantity that a job wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The user said so: this or a refusal.
    Exactly(u64),
    /// A rule says so: this, or what there is.
    UpTo(u64),
}

/// What a job wants of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) capacity_bytes: Wanted,
    pub(crate) bytes_per_second: Wanted,
    /// Tiers to fill, in this order.
    pub(crate) tiers: [Tier; 4],
    /// How the figures came about, a sentence each.
    pub(crate) reasons: Vec<String>,
}

/// What `hints` (checked before) ask for.
pub(crate) fn demand(hints: &Hints) -> Demand {
    let (bytes_per_second, why_rate) = throughput(hints);
    let (capacity_bytes, why_capacity) = capacity(hints);
    let (tiers, why_tiers) = match hints.latency_sensitive {
        Some(true) => (Tier::FASTEST_FIRST, "latency sensitive: fastest tier first"),
        Some(false) => (
            Tier::CHEAPEST_FIRST,
            "not latency sensitive: cheapest tier first, dram last",
        ),
        None => (
            Tier::FASTEST_FIRST,
            "latency not hinted: fastest tier first",
        ),
    };
    Demand {
        capacity_bytes,
        bytes_per_second,
        tiers,
        reasons: vec![why_rate, why_capacity, why_tiers.to_owned()],
    }
}

/// Explicit, else from the tasks, else in the node's proportion to the capacity, else the default.
fn throughput(hints: &Hints) -> (Wanted, String) {
    if let Some(rate) = hints.bandwidth_bytes_per_second {
        return (
            Wanted::Exactly(rate),
            format!("throughput {}: as hinted", rate_text(rate)),
        );
    }
    let (rate, why) = match (hints.max_tasks, hints.capacity_bytes) {
        (Some(tasks), _) => (
            u64::from(tasks).saturating_mul(TASK_BYTES_PER_SECOND),
            format!("{tasks} tasks at 0.6Gb/s each"),
        ),
        (None, Some(bytes)) => (
            proportion(bytes, NODE_BYTES_PER_SECOND, NODE_CAPACITY_BYTES)
                // A job has a task, however little it stores.
                .max(TASK_BYTES_PER_SECOND),
            format!(
                "the hinted {} at 8Gb/s per 1960GB, as a node has them, but 0.6Gb/s at least",
                ByteCount(bytes)
            ),
        ),
        (None, None) => (
            DEFAULT_NODES * NODE_BYTES_PER_SECOND,
            "no hint: 50 nodes of 8Gb/s".to_owned(),
        ),
    };
    let reason = format!("throughput up to {}: {why}", rate_text(rate));
    (Wanted::UpTo(rate), reason)
}

/// Explicit, else in the node's proportion to the throughput hinted or derived from the tasks.
fn capacity(hints: &Hints) -> (Wanted, String) {
    if let Some(bytes) = hints.capacity_bytes {
        let reason = format!("capacity {}: as hinted", ByteCount(bytes));
        return (Wanted::Exactly(bytes), reason);
    }
    let per_rate = |rate| proportion(rate, NODE_CAPACITY_BYTES, NODE_BYTES_PER_SECOND);
    let (bytes, why) = match (hints.bandwidth_bytes_per_second, hints.max_tasks) {
        (Some(rate), _) => (
            per_rate(rate),
            format!("the hinted {} at 1960GB per 8Gb/s", rate_text(rate)),
        ),
        (None, Some(tasks)) => (
            per_rate(u64::from(tasks).saturating_mul(TASK_BYTES_PER_SECOND)),
            format!("{tasks} tasks at 0.6Gb/s each and 1960GB per 8Gb/s"),
        ),
        (None, None) => (
            DEFAULT_NODES * NODE_CAPACITY_BYTES,
            "no hint: 50 nodes of 1960GB".to_owned(),
        ),
    };
    let reason = format!("capacity up to {}: {why}", ByteCount(bytes));
    (Wanted::UpTo(bytes), reason)
}

/// `amount * numerator / denominator` without overflow.
fn proportion(amount: u64, numerator: u64, denominator: u64) -> u64 {
    let exact = u128::from(amount) * u128::from(numerator) / u128::from(denominator);
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// "8Gb/s", "0.6Gb/s": bits, as networks are sold.
pub(super) fn rate_text(bytes_per_second: u64) -> String {
    let gigabits = bytes_per_second as f64 * 8.0 / 1e9;
    if gigabits >= 0.1 {
        format!("{}Gb/s", (gigabits * 10.0).round() / 10.0)
    } else {
        format!("{}Mb/s", (gigabits * 1e5).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn hints_become_the_figures_of_the_papers_table_3() {
        use Wanted::{Exactly, UpTo};
        let hints = |max_tasks, capacity_bytes, bandwidth_bytes_per_second| Hints {
            latency_sensitive: None,
            max_tasks,
            capacity_bytes,
            bandwidth_bytes_per_second,
        };
        for (hints, rate, capacity) in [
            (hints(None, None, None), UpTo(50 * GB), UpTo(98_000 * GB)),
            // 100 tasks: 60 Gb/s, and 60 / 8 nodes of 1960 GB.
            (
                hints(Some(100), None, None),
                UpTo(7_500_000_000),
                UpTo(14_700 * GB),
            ),
            (
                hints(None, Some(1960 * GB), None),
                UpTo(GB),
                Exactly(1960 * GB),
            ),
            // In proportion it would be 0.04 Mb/s: less than any task.
            (
                hints(None, Some(10 << 20), None),
                UpTo(75_000_000),
                Exactly(10 << 20),
            ),
            (
                hints(None, None, Some(2 * GB)),
                Exactly(2 * GB),
                UpTo(3920 * GB),
            ),
            (
                hints(Some(100), Some(10 * GB), None),
                UpTo(7_500_000_000),
                Exactly(10 * GB),
            ),
            (
                hints(Some(100), None, Some(GB)),
                Exactly(GB),
                UpTo(1960 * GB),
            ),
            (
                hints(Some(1), Some(10 * GB), Some(3 * GB)),
                Exactly(3 * GB),
                Exactly(10 * GB),
            ),
        ] {
            let demand = demand(&hints);
            assert_eq!(demand.bytes_per_second, rate, "{hints:?}");
            assert_eq!(demand.capacity_bytes, capacity, "{hints:?}");
            assert_eq!(demand.reasons.len(), 3);
        }
    }

    #[test]
    fn only_jobs_that_are_not_latency_sensitive_take_dram_last() {
        for (latency_sensitive, first, last) in [
            (None, Tier::Dram, Tier::Hdd),
            (Some(true), Tier::Dram, Tier::Hdd),
            (Some(false), Tier::Hdd, Tier::Dram),
        ] {
            let tiers = demand(&Hints {
                latency_sensitive,
                ..Hints::default()
            })
            .tiers;
            assert_eq!((tiers[0], tiers[3]), (first, last));
        }
    }

    #[test]
    fn rates_are_shown_in_bits() {
        for (rate, text) in [
            (GB, "8Gb/s"),
            (75_000_000, "0.6Gb/s"),
            (5_102_040, "40.82Mb/s"),
            (1_000, "0.01Mb/s"),
        ] {
            assert_eq!(rate_text(rate), text);
        }
    }
}
