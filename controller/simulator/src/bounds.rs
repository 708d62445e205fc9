//! What the jobs of a trace cost at least: bounds that no policy can beat.
//!
//! **Oracle**: knows every job's true peaks and times before it comes, has exactly the servers that
//! the running jobs' peaks take on the node type of their tier, packed without a gap (fractions of
//! servers included), at the instant they are needed and not a moment longer. It follows the same
//! rule of tiers: DRAM for jobs to which latency matters, the cheapest type but DRAM for others.
//! **Clairvoyant**: the same with what each job uses at each second instead of its peaks.

use pocket_policy::{Catalogue, Needs, NodeType, Tier};

use crate::TraceJob;

/// Sums of needs per node type, and what they cost at least.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    capacity_bytes: Vec<u128>,
    bytes_per_second: Vec<u128>,
}

impl Bound {
    pub(crate) fn new(catalogue: &Catalogue) -> Self {
        Bound {
            capacity_bytes: vec![0; catalogue.nodes.len()],
            bytes_per_second: vec![0; catalogue.nodes.len()],
        }
    }

    pub(crate) fn add(&mut self, node: usize, needs: Needs) {
        self.capacity_bytes[node] += u128::from(needs.capacity_bytes);
        self.bytes_per_second[node] += u128::from(needs.bytes_per_second);
    }

    fn subtract(&mut self, node: usize, needs: Needs) {
        self.capacity_bytes[node] -= u128::from(needs.capacity_bytes);
        self.bytes_per_second[node] -= u128::from(needs.bytes_per_second);
    }

    /// Dollars per hour: of each type as many servers, with fractions, as its scarcer resource takes.
    pub(crate) fn dollars_per_hour(&self, catalogue: &Catalogue) -> f64 {
        let nodes = catalogue.nodes.iter().enumerate();
        nodes
            .map(|(at, node)| self.servers(at, node) * node.price.dollars())
            .sum()
    }

    fn servers(&self, at: usize, node: &NodeType) -> f64 {
        let capacity = self.capacity_bytes[at] as f64 / node.capacity_bytes as f64;
        capacity.max(self.bytes_per_second[at] as f64 / node.bytes_per_second as f64)
    }
}

/// The node type that the oracle puts a job on.
pub(crate) fn best_node(job: &TraceJob, catalogue: &Catalogue) -> usize {
    let tiers = match job.latency_sensitive {
        true => Tier::FASTEST_FIRST,
        false => catalogue.cheapest_first(job.peak),
    };
    let nodes = catalogue.nodes.iter().enumerate();
    let rank = |(at, node): &(usize, &NodeType)| {
        let tier = tiers.iter().position(|tier| *tier == node.tier);
        (tier, catalogue.share_cost(node, job.peak), *at)
    };
    nodes.min_by_key(rank).map_or(0, |(at, _)| at)
}

/// The oracle's dollars for all of a trace.
pub(crate) fn oracle(jobs: &[TraceJob], catalogue: &Catalogue) -> f64 {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(jobs.len() * 2);
    for (at, job) in jobs.iter().enumerate() {
        events.push((job.at_ms, true, at));
        events.push((job.at_ms + job.runs_ms, false, at));
    }
    events.sort_unstable();
    let mut bound = Bound::new(catalogue);
    let (mut dollars, mut before_ms) = (0.0, 0);
    for (now_ms, begins, at) in events {
        let hours = (now_ms - before_ms) as f64 / 3_600_000.0;
        dollars += bound.dollars_per_hour(catalogue) * hours;
        before_ms = now_ms;
        let node = best_node(&jobs[at], catalogue);
        match begins {
            true => bound.add(node, jobs[at].peak),
            false => bound.subtract(node, jobs[at].peak),
        }
    }
    dollars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Trace;

    #[test]
    fn the_oracle_pays_for_peaks_while_jobs_run_and_no_more() {
        let trace: Trace = "pocket-trace 1\n\
            job a at=0s for=3600s tasks=1 capacity=30GB bandwidth=100MB/s\n\
            job b at=1800s for=1800s tasks=1 capacity=30GB bandwidth=100MB/s\n\
            job c at=1800s for=3600s tasks=1 capacity=1GB bandwidth=500MB/s latency=no\n"
            .parse()
            .expect("sound");
        let dollars = oracle(&trace.jobs, &Catalogue::default());
        // Half a DRAM server, then a whole one; half an NVMe server.
        let expected = 0.532 * (0.25 + 0.5) + 0.624 * 0.5;
        assert!((dollars - expected).abs() < 1e-9, "{dollars} {expected}");
    }
}
