//! What is counted while a trace runs.

use pocket_policy::{Catalogue, Cost, Member, Needs, Pool};
use pocket_proto::ByteCount;

use crate::{
    Losses, Report, Sample, Scenario, Trace, TraceJob,
    bounds::{Bound, best_node, oracle},
    fleet::Fleet,
    running::Running,
};

/// Samples kept; past that every other one goes.
const SAMPLES_MAX: usize = 2_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Tally {
    catalogue: Catalogue,
    samples: Vec<Sample>,
    sample_every: u64,
    /// Of every job that finished, by its index in the trace.
    pub(super) slow_downs: Vec<(usize, f64)>,
    waits_ms: Vec<u64>,
    late: usize,
    billed: Cost,
    pub(super) queued: usize,
    pub(super) waited_for_servers: usize,
    pub(super) grown: u64,
    pub(super) given_back: u64,
    pub(super) spilled: u64,
    pub(super) scalings: u64,
    refused: usize,
    failed: usize,
    /// Why the first of those did not finish.
    unfinished: Option<String>,
    stalled_ms: u64,
    starting: f64,
    idle: f64,
    fragmentation: f64,
    reserved: f64,
    needed: f64,
    clairvoyant: f64,
}

impl Tally {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        Tally {
            catalogue: catalogue.clone(),
            samples: Vec::new(),
            sample_every: 1,
            slow_downs: Vec::new(),
            waits_ms: Vec::new(),
            late: 0,
            billed: Cost::default(),
            queued: 0,
            waited_for_servers: 0,
            grown: 0,
            given_back: 0,
            spilled: 0,
            scalings: 0,
            refused: 0,
            failed: 0,
            unfinished: None,
            stalled_ms: 0,
            starting: 0.0,
            idle: 0.0,
            fragmentation: 0.0,
            reserved: 0.0,
            needed: 0.0,
            clairvoyant: 0.0,
        }
    }

    /// Where the money of the last tick went.
    pub(super) fn look(
        &mut self,
        fleet: &Fleet,
        running: &[Running],
        trace: &Trace,
        scenario: &Scenario,
        now_ms: u64,
        tick_ms: u64,
    ) {
        let hours = tick_ms as f64 / 3_600_000.0;
        let catalogue = &scenario.catalogue;
        let mut promised = Bound::new(catalogue);
        let mut busy = 0.0;
        for (at, server) in fleet.servers().iter().enumerate() {
            let node = fleet.node(at);
            let price = catalogue.nodes[node].price.dollars();
            if !fleet.is_ready(at, now_ms - tick_ms) {
                self.starting += price * hours;
            } else if server.is_free() {
                self.idle += price * hours;
            } else {
                busy += price * hours;
                let needs = Needs {
                    capacity_bytes: server.reserved_bytes,
                    bytes_per_second: server.reserved_bytes_per_second,
                };
                promised.add(node, needs);
            }
        }
        let promised = promised.dollars_per_hour(catalogue) * hours;
        self.fragmentation += busy - promised;
        self.reserved += promised;
        let (mut needed, mut used) = (Bound::new(catalogue), Bound::new(catalogue));
        for running in running {
            let job = &trace.jobs[running.job];
            let node = best_node(job, catalogue);
            if running.starts_ms < now_ms {
                needed.add(node, job.peak);
                used.add(node, running.wanted(job));
            }
        }
        self.needed += needed.dollars_per_hour(catalogue) * hours;
        self.clairvoyant += used.dollars_per_hour(catalogue) * hours;
    }

    /// The pool of every node type, with what jobs want beyond what is promised to them.
    pub(super) fn pools(
        &self,
        fleet: &Fleet,
        running: &[Running],
        trace: &Trace,
        scenario: &Scenario,
        now_ms: u64,
    ) -> Vec<Pool> {
        let nodes = self.catalogue.nodes.len();
        let mut members = vec![Vec::new(); nodes];
        for (at, server) in fleet.servers().iter().enumerate() {
            members[fleet.node(at)].push(Member {
                has: Needs {
                    capacity_bytes: server.capacity_bytes,
                    bytes_per_second: server.bytes_per_second,
                },
                needed: !server.is_free(),
                ready: fleet.is_ready(at, now_ms),
            });
        }
        let mut beyond = vec![Needs::default(); nodes];
        for running in running.iter().filter(|running| running.starts_ms <= now_ms) {
            if running.coming.is_some() {
                // What it lacks is on its way.
                continue;
            }
            let wanted = running.wanted(&trace.jobs[running.job]);
            let given = running.given;
            let more = |wanted: u64, given: u64| u128::from(wanted.saturating_sub(given));
            let more_bytes = more(wanted.capacity_bytes, given.capacity_bytes);
            let more_rate = more(wanted.bytes_per_second, given.bytes_per_second);
            if more_bytes == 0 && more_rate == 0 {
                continue;
            }
            let shares = running.shares.iter();
            let all: u128 = shares.map(|share| u128::from(share.bytes)).sum();
            for share in &running.shares {
                let Some(at) = fleet.at(share.server) else {
                    continue;
                };
                let beyond = &mut beyond[fleet.node(at)];
                let part = |more: u128| (more * u128::from(share.bytes) / all.max(1)) as u64;
                beyond.capacity_bytes += part(more_bytes);
                beyond.bytes_per_second += part(more_rate);
            }
        }
        let pools = members.into_iter().zip(beyond).enumerate();
        let pools = pools
            .map(|(node, (members, beyond))| Pool::of(members, beyond, scenario.minimum(node)));
        pools.collect()
    }

    /// A job was not admitted and never will be.
    pub(super) fn refused(&mut self, why: String) {
        self.refused += 1;
        self.unfinished.get_or_insert(why);
    }

    /// A running job was given up.
    pub(super) fn failed(&mut self, job: &TraceJob, failed: &Running) {
        self.failed += 1;
        self.billed += failed.bill;
        self.stalled_ms += failed.stalled_ms;
        let why = format!(
            "job '{}' found no room for {} s beyond the {} that it has",
            job.name,
            failed.stalled_last_ms / 1_000,
            ByteCount(failed.given.capacity_bytes)
        );
        self.unfinished.get_or_insert(why);
    }

    pub(super) fn ended(&mut self, job: &TraceJob, ended: &Running, ended_ms: u64) {
        let took_ms = ended_ms.saturating_sub(ended.starts_ms);
        let slow_down = took_ms as f64 / job.runs_ms as f64;
        self.slow_downs.push((ended.job, slow_down));
        let wait_ms = ended.starts_ms - job.at_ms;
        self.waits_ms.push(wait_ms);
        let late = (took_ms + wait_ms) as f64 > 1.05 * job.runs_ms as f64;
        self.late += usize::from(late);
        self.billed += ended.bill;
        self.stalled_ms += ended.stalled_ms;
    }

    pub(super) fn sample(
        &mut self,
        fleet: &Fleet,
        running: &[Running],
        trace: &Trace,
        waiting: usize,
        now_ms: u64,
    ) {
        let second = now_ms / 1_000;
        if !second.is_multiple_of(self.sample_every) {
            return;
        }
        let mut sample = Sample {
            second,
            servers: fleet.servers().len(),
            running: running.len(),
            waiting,
            price: fleet.price().dollars(),
            ..Sample::default()
        };
        for running in running {
            sample.given_bytes_per_second += running.given.bytes_per_second;
            if running.starts_ms <= now_ms {
                let wanted = running.wanted(&trace.jobs[running.job]);
                sample.wanted_bytes_per_second += wanted.bytes_per_second;
                sample.used_bytes += wanted.capacity_bytes;
            }
        }
        for (at, server) in fleet.servers().iter().enumerate() {
            if fleet.is_ready(at, now_ms) {
                sample.servers_bytes_per_second += server.bytes_per_second;
            }
        }
        self.samples.push(sample);
        if self.samples.len() > SAMPLES_MAX {
            self.sample_every *= 2;
            let every = self.sample_every;
            self.samples
                .retain(|sample| sample.second.is_multiple_of(every));
        }
    }

    pub(super) fn report(
        mut self,
        trace: &Trace,
        scenario: &Scenario,
        fleet: &Fleet,
        now_ms: u64,
    ) -> Report {
        let slow_downs = std::mem::take(&mut self.slow_downs).into_iter();
        let mut slow_downs: Vec<f64> = slow_downs.map(|(_, slow_down)| slow_down).collect();
        slow_downs.sort_by(f64::total_cmp);
        self.waits_ms.sort_unstable();
        let oracle_cost = oracle(&trace.jobs, &scenario.catalogue);
        let count = slow_downs.len().max(1);
        let p99 = (count * 99).div_ceil(100) - 1;
        let dearest = self
            .samples
            .iter()
            .map(|sample| sample.price)
            .fold(0.0, f64::max);
        Report {
            jobs: trace.jobs.len(),
            finished: slow_downs.len(),
            seconds: now_ms / 1_000,
            cost: fleet.cost.dollars(),
            billed: self.billed.dollars(),
            oracle_cost,
            clairvoyant_cost: self.clairvoyant,
            static_cost: dearest * now_ms as f64 / 3_600_000.0,
            losses: Losses {
                starting: self.starting,
                idle: self.idle,
                fragmentation: self.fragmentation,
                reservation: self.reserved - self.needed,
                time: self.needed - oracle_cost,
            },
            // Of none it is 0, where a sum of nothing would be -0.
            slow_down_mean: slow_downs.iter().fold(0.0, |sum, slow| sum + slow) / count as f64,
            slow_down_p99: slow_downs.get(p99).copied().unwrap_or(0.0),
            slow_down_most: slow_downs.last().copied().unwrap_or(0.0),
            jobs_slowed: slow_downs.iter().filter(|slow| **slow > 1.05).count(),
            jobs_late: self.late,
            wait_mean_ms: self.waits_ms.iter().sum::<u64>() / count as u64,
            wait_p99_ms: self.waits_ms.get(p99).copied().unwrap_or(0),
            wait_most_ms: self.waits_ms.last().copied().unwrap_or(0),
            queued: self.queued,
            waited_for_servers: self.waited_for_servers,
            servers_most: fleet.most,
            servers_started: fleet.started,
            servers_regretted: fleet.regretted,
            flaps: fleet.flaps,
            refused: self.refused,
            failed: self.failed,
            unfinished: self.unfinished.unwrap_or_default(),
            scalings: self.scalings,
            grown: self.grown,
            given_back: self.given_back,
            spilled: self.spilled,
            stalled_ms: self.stalled_ms,
            samples: self.samples,
        }
    }
}
