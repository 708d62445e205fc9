//! Hints into figures: how much throughput and capacity a job wants, and on which media.
//!
//! The rules are those of the Pocket paper (OSDI 2018), table 3, with the figures of its nodes from
//! the price table. What a user gave explicitly is wanted exactly; what a rule or an earlier run
//! says is an upper bound. Where the user gives no total, hints per task count times the tasks; and
//! where nobody says anything about a figure, the peaks of earlier runs stand in for it before the
//! rules do.

use pocket_proto::{ByteCount, control::Hints};

use crate::{Catalogue, Defaults, Forecast, Market, Needs, Tier};

/// A job whose objects take less than this longer off DRAM does not feel it: 2 %.
const SLOW_DOWN_PERMILLE_MAX: u64 = 20;

/// Added to the capacity that earlier runs foretell where it costs no server.
const HEADROOM_PERCENT: u64 = 50;

/// So many times the capacity that its user hinted a job may come to hold: twice as far as hints of a
/// fifth (see the documentation of simulations) are off. What it writes past that fails.
const OUTGROWS_HINT_TIMES: u64 = 10;

/// A quantity that a job wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The user said so: this or a refusal.
    Exactly(u64),
    /// Earlier runs say so: this, or what there is.
    Expected(u64),
    /// A rule guesses it: at most this, and room is left for others.
    UpTo(u64),
}

impl Wanted {
    /// The figure.
    pub fn amount(self) -> u64 {
        match self {
            Wanted::Exactly(amount) | Wanted::Expected(amount) | Wanted::UpTo(amount) => amount,
        }
    }
}

/// What a job wants of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Bytes.
    pub capacity_bytes: Wanted,
    /// Bytes per second, all tasks together at the peak.
    pub bytes_per_second: Wanted,
    /// Whether the speed of a tier counts before its price.
    pub latency_sensitive: bool,
    /// Tiers to fill, in this order.
    pub tiers: [Tier; 4],
    /// How the figures came about, a sentence each.
    pub reasons: Vec<String>,
}

impl Demand {
    /// Both figures.
    pub fn needs(&self) -> Needs {
        Needs {
            capacity_bytes: self.capacity_bytes.amount(),
            bytes_per_second: self.bytes_per_second.amount(),
        }
    }

    /// The most that the job may hold, its quota: one that outgrows what its user hinted gets more as
    /// long as there is room, and as long as it is likely to be a hint that was wrong and not a job
    /// that went wild. `None`: what the cluster has.
    pub fn capacity_max(&self) -> Option<u64> {
        match self.capacity_bytes {
            Wanted::Exactly(bytes) => Some(bytes.saturating_mul(OUTGROWS_HINT_TIMES)),
            Wanted::Expected(_) | Wanted::UpTo(_) => None,
        }
    }

    /// What to find room for where servers are started by need. A job takes servers for its
    /// throughput or for its capacity, whichever needs more; where it is throughput, capacity that
    /// earlier runs foretell is half as much again, up to half of what those servers hold anyway. So
    /// a run that stores more than the earlier ones does not wait for a server, and costs none.
    pub fn needs_with_headroom(&self, market: Market<'_>) -> Needs {
        let needs = self.needs();
        let of_tier = |tier: &Tier| {
            let mut kinds = market.startable.iter();
            kinds.find(|kind| {
                let node = market.catalogue.nodes.get(kind.node);
                node.is_some_and(|node| node.tier == *tier)
            })
        };
        let first = self.tiers.iter().find_map(of_tier);
        let first = first.filter(|kind| kind.bytes_per_second > 0);
        let (Wanted::Expected(bytes), Some(kind)) = (self.capacity_bytes, first) else {
            return needs;
        };
        let held = proportion(
            needs.bytes_per_second,
            kind.capacity_bytes,
            kind.bytes_per_second,
        );
        let roomy = proportion(bytes, 100 + HEADROOM_PERCENT, 100).min(held / 2);
        Needs {
            capacity_bytes: roomy.max(bytes),
            ..needs
        }
    }
}

/// What `hints` (checked before) ask for, with what earlier runs of the job foretell.
pub fn demand(hints: &Hints, catalogue: &Catalogue, past: Option<&Forecast>) -> Demand {
    let rules = Rules {
        hints,
        defaults: &catalogue.defaults,
        past,
    };
    let (bytes_per_second, why_rate) = rules.throughput();
    let (capacity_bytes, why_capacity) = rules.capacity();
    let needs = Needs {
        capacity_bytes: capacity_bytes.amount(),
        bytes_per_second: bytes_per_second.amount(),
    };
    let (sensitive, why) = rules.latency(catalogue);
    let (tiers, why_tiers) = match sensitive {
        true => (Tier::FASTEST_FIRST, format!("{why}: fastest tier first")),
        false => {
            let tiers = catalogue.cheapest_first(needs);
            let why = format!(
                "{why}: the tier where this shape of job is cheapest first ({}), dram last",
                tiers[0]
            );
            (tiers, why)
        }
    };
    Demand {
        capacity_bytes,
        bytes_per_second,
        latency_sensitive: sensitive,
        tiers,
        reasons: vec![why_rate, why_capacity, why_tiers],
    }
}

struct Rules<'a> {
    hints: &'a Hints,
    defaults: &'a Defaults,
    past: Option<&'a Forecast>,
}

impl Rules<'_> {
    /// Explicit, else per task, else as earlier runs had it, else from the tasks, else in the node's
    /// proportion to the capacity, else the default.
    fn throughput(&self) -> (Wanted, String) {
        let hints = self.hints;
        if let Some(rate) = hints.bandwidth_bytes_per_second {
            let reason = format!("throughput {}: as hinted", rate_text(rate));
            return (Wanted::Exactly(rate), reason);
        }
        if let (Some(each), Some(tasks)) = (hints.task_bandwidth_bytes_per_second, hints.max_tasks)
        {
            let rate = each.saturating_mul(tasks.into());
            let (all, each) = (rate_text(rate), rate_text(each));
            let reason = format!("throughput {all}: the hinted {each} for each of {tasks} tasks");
            return (Wanted::Exactly(rate), reason);
        }
        // Of a run whose throughput nobody measured only the capacity is known.
        if let Some(past) = self.past.filter(|past| past.bytes_per_second > 0) {
            let rate = past.bytes_per_second;
            let reason = format!("throughput {}: {}", rate_text(rate), past.sentence());
            return (Wanted::Expected(rate), reason);
        }
        let (rate, why) = self.derived_throughput();
        let reason = format!("throughput up to {}: {why}", rate_text(rate));
        (Wanted::UpTo(rate), reason)
    }

    fn derived_throughput(&self) -> (u64, String) {
        let defaults = self.defaults;
        let (node_rate, node_bytes) =
            (defaults.node_bytes_per_second, defaults.node_capacity_bytes);
        let each = rate_text(defaults.task_bytes_per_second);
        match (self.hints.max_tasks, self.total_capacity()) {
            (Some(tasks), _) => (
                u64::from(tasks).saturating_mul(defaults.task_bytes_per_second),
                format!("{tasks} tasks at {each} each"),
            ),
            (None, Some(bytes)) => (
                proportion(bytes, node_rate, node_bytes)
                    // A job has a task, however little it stores.
                    .max(defaults.task_bytes_per_second),
                format!(
                    "the hinted {} at {}, as a node has them, but {each} at least",
                    ByteCount(bytes),
                    self.ratio()
                ),
            ),
            (None, None) => (
                u64::from(defaults.nodes).saturating_mul(node_rate),
                format!(
                    "no hint: {} nodes of {}",
                    defaults.nodes,
                    rate_text(node_rate)
                ),
            ),
        }
    }

    /// Explicit, else per task, else as earlier runs had it, else in the node's proportion to the
    /// throughput hinted or derived from the tasks.
    fn capacity(&self) -> (Wanted, String) {
        let hints = self.hints;
        if let Some(bytes) = hints.capacity_bytes {
            let reason = format!("capacity {}: as hinted", ByteCount(bytes));
            return (Wanted::Exactly(bytes), reason);
        }
        if let (Some(bytes), Some(each), Some(tasks)) = (
            self.total_capacity(),
            hints.task_capacity_bytes,
            hints.max_tasks,
        ) {
            let (all, each) = (ByteCount(bytes), ByteCount(each));
            let reason = format!("capacity {all}: the hinted {each} for each of {tasks} tasks");
            return (Wanted::Exactly(bytes), reason);
        }
        if let Some(past) = self.past {
            let bytes = past.capacity_bytes;
            let reason = format!("capacity {}: {}", ByteCount(bytes), past.sentence());
            return (Wanted::Expected(bytes), reason);
        }
        let (bytes, why) = self.derived_capacity();
        let reason = format!("capacity up to {}: {why}", ByteCount(bytes));
        (Wanted::UpTo(bytes), reason)
    }

    fn derived_capacity(&self) -> (u64, String) {
        let defaults = self.defaults;
        let (node_rate, node_bytes) =
            (defaults.node_bytes_per_second, defaults.node_capacity_bytes);
        let per_rate = |rate| proportion(rate, node_bytes, node_rate);
        match (self.total_throughput(), self.hints.max_tasks) {
            (Some(rate), _) => (
                per_rate(rate),
                format!("the hinted {} at {}", rate_text(rate), self.ratio()),
            ),
            (None, Some(tasks)) => (
                per_rate(u64::from(tasks).saturating_mul(defaults.task_bytes_per_second)),
                format!(
                    "{tasks} tasks at {} each and {}",
                    rate_text(defaults.task_bytes_per_second),
                    self.ratio()
                ),
            ),
            (None, None) => (
                u64::from(defaults.nodes).saturating_mul(node_bytes),
                format!(
                    "no hint: {} nodes of {}",
                    defaults.nodes,
                    gigabytes(node_bytes)
                ),
            ),
        }
    }

    /// As hinted; else, if earlier runs tell, whether the objects are so small that the latency of
    /// the first tier after DRAM would be felt; else the job is assumed to be sensitive (table 3).
    fn latency(&self, catalogue: &Catalogue) -> (bool, String) {
        match (self.hints.latency_sensitive, self.past) {
            (Some(true), _) => (true, "latency sensitive".to_owned()),
            (Some(false), _) => (false, "not latency sensitive".to_owned()),
            (None, Some(past)) if past.object_bytes > 0 => {
                let permille = catalogue.slow_down_permille(past.object_bytes);
                let objects = ByteCount(past.object_bytes);
                let why = format!(
                    "latency not hinted, but objects of {objects} as in earlier runs take \
                     {}.{} % longer off dram",
                    permille / 10,
                    permille % 10
                );
                (permille > SLOW_DOWN_PERMILLE_MAX, why)
            }
            (None, _) => (true, "latency not hinted".to_owned()),
        }
    }

    /// The capacity that the user gave, as a total or per task.
    fn total_capacity(&self) -> Option<u64> {
        let hints = self.hints;
        let of_tasks = || {
            let tasks = u64::from(hints.max_tasks?);
            Some(hints.task_capacity_bytes?.saturating_mul(tasks))
        };
        hints.capacity_bytes.or_else(of_tasks)
    }

    /// The throughput that the user gave, as a total or per task.
    fn total_throughput(&self) -> Option<u64> {
        let hints = self.hints;
        let of_tasks = || {
            let tasks = u64::from(hints.max_tasks?);
            Some(hints.task_bandwidth_bytes_per_second?.saturating_mul(tasks))
        };
        hints.bandwidth_bytes_per_second.or_else(of_tasks)
    }

    /// "1960GB per 8Gb/s".
    fn ratio(&self) -> String {
        let defaults = self.defaults;
        let rate = rate_text(defaults.node_bytes_per_second);
        format!("{} per {rate}", gigabytes(defaults.node_capacity_bytes))
    }
}

/// `amount * numerator / denominator` without overflow.
fn proportion(amount: u64, numerator: u64, denominator: u64) -> u64 {
    let exact = u128::from(amount) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

/// "1960GB": decimal, as disks are sold.
fn gigabytes(bytes: u64) -> String {
    format!("{}GB", bytes / 1_000_000_000)
}

/// "8Gb/s", "0.6Gb/s": bits, as networks are sold.
pub fn rate_text(bytes_per_second: u64) -> String {
    let gigabits = bytes_per_second as f64 * 8.0 / 1e9;
    if gigabits >= 0.1 {
        format!("{}Gb/s", (gigabits * 10.0).round() / 10.0)
    } else {
        format!("{}Mb/s", (gigabits * 1e5).round() / 100.0)
    }
}

#[cfg(test)]
mod tests;
