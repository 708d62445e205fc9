//! What is counted while a trace runs.

use pocket_policy::{Catalogue, Cost, Needs, Pool};

use crate::{
    Losses, Report, Sample, Scenario, Trace, TraceJob,
    bounds::{Bound, best_node, oracle},
    engine::no_pool,
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
    slow_downs: Vec<f64>,
    waits_ms: Vec<u64>,
    billed: Cost,
    pub(super) queued: usize,
    pub(super) waited_for_servers: usize,
    pub(super) grown: u64,
    pub(super) given_back: u64,
    pub(super) spilled: u64,
    scalings: u64,
    flaps: u64,
    /// The last change of each pool: when, and whether it grew.
    last_change: Vec<Option<(u64, bool)>>,
    stalled_ms: u64,
    starting: f64,
    idle: f64,
    fragmentation: f64,
    reserved: f64,
    needed: f64,
    clairvoyant: f64,
}

/// Use beyond what was promised.
#[derive(Clone, Copy, Debug, Default)]
struct Beyond {
    capacity: u128,
    throughput: u128,
}

impl Tally {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        Tally {
            catalogue: catalogue.clone(),
            samples: Vec::new(),
            sample_every: 1,
            slow_downs: Vec::new(),
            waits_ms: Vec::new(),
            billed: Cost::default(),
            queued: 0,
            waited_for_servers: 0,
            grown: 0,
            given_back: 0,
            spilled: 0,
            scalings: 0,
            flaps: 0,
            last_change: vec![None; catalogue.nodes.len()],
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
            let price = catalogue.nodes[server.node].price.dollars();
            if !fleet.is_ready(at, now_ms - tick_ms) {
                self.starting += price * hours;
            } else if server.is_free() {
                self.idle += price * hours;
            } else {
                busy += price * hours;
                let room = server.room;
                let needs = Needs {
                    capacity_bytes: room.capacity_bytes - room.free_bytes,
                    bytes_per_second: room.bytes_per_second - room.free_bytes_per_second,
                };
                promised.add(server.node, needs);
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

    /// The spare part of every pool, and what is wanted of it. What jobs use within their allocations
    /// was provided for when they were admitted, and has its headroom there; the servers without a
    /// promise are there for what jobs want beyond, and it is these that the arbiter sizes.
    pub(super) fn pools(
        &self,
        fleet: &Fleet,
        running: &[Running],
        trace: &Trace,
        scenario: &Scenario,
        now_ms: u64,
    ) -> Vec<Pool> {
        let nodes = self.catalogue.nodes.len();
        let mut pools = vec![no_pool(); nodes];
        let mut all = vec![0u32; nodes];
        for (at, server) in fleet.servers().iter().enumerate() {
            all[server.node] += 1;
            let free = server.is_free();
            pools[server.node].servers += u32::from(free);
            pools[server.node].removable += u32::from(free && fleet.is_ready(at, now_ms));
        }
        for (node, pool) in pools.iter_mut().enumerate() {
            pool.removable = pool
                .removable
                .min(all[node].saturating_sub(scenario.minimum(node)));
        }
        let mut used = vec![Beyond::default(); nodes];
        for running in running.iter().filter(|running| running.starts_ms <= now_ms) {
            if running.coming.is_some() {
                // What it lacks is on its way.
                continue;
            }
            let wanted = running.wanted(&trace.jobs[running.job]);
            let given = running.given;
            let shares = running.shares.iter();
            let all: u128 = shares.map(|share| u128::from(share.bytes)).sum();
            for share in &running.shares {
                if let Some(at) = fleet.at(share.server) {
                    let used = &mut used[fleet.servers()[at].node];
                    let part =
                        |amount: u64| u128::from(amount) * u128::from(share.bytes) / all.max(1);
                    used.capacity +=
                        part(wanted.capacity_bytes.saturating_sub(given.capacity_bytes));
                    used.throughput += part(
                        wanted
                            .bytes_per_second
                            .saturating_sub(given.bytes_per_second),
                    );
                }
            }
        }
        for ((pool, node), used) in pools.iter_mut().zip(&self.catalogue.nodes).zip(used) {
            let permille = |beyond: u128, each: u64| {
                let spare = u128::from(pool.servers.max(1)) * u128::from(each);
                (beyond * 1_000).div_ceil(spare) as u32
            };
            pool.capacity_permille = permille(used.capacity, node.capacity_bytes);
            pool.network_permille = permille(used.throughput, node.bytes_per_second);
        }
        pools
    }

    pub(super) fn scaled(&mut self, node: usize, grew: bool, now_ms: u64, cool_down_ms: u64) {
        self.scalings += 1;
        if let Some((at_ms, grew_then)) = self.last_change[node]
            && grew_then != grew
            && now_ms - at_ms < 3 * cool_down_ms
        {
            self.flaps += 1;
        }
        self.last_change[node] = Some((now_ms, grew));
    }

    pub(super) fn ended(&mut self, job: &TraceJob, ended: &Running, ended_ms: u64) {
        let took_ms = ended_ms.saturating_sub(ended.starts_ms);
        self.slow_downs.push(took_ms as f64 / job.runs_ms as f64);
        self.waits_ms.push(ended.starts_ms - job.at_ms);
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
                sample.servers_bytes_per_second += server.room.bytes_per_second;
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
        self.slow_downs.sort_by(f64::total_cmp);
        self.waits_ms.sort_unstable();
        let oracle_cost = oracle(&trace.jobs, &scenario.catalogue);
        let count = self.slow_downs.len().max(1);
        let p99 = (count * 99).div_ceil(100) - 1;
        let dearest = self
            .samples
            .iter()
            .map(|sample| sample.price)
            .fold(0.0, f64::max);
        let slow_downs = &self.slow_downs;
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
            slow_down_mean: slow_downs.iter().sum::<f64>() / count as f64,
            slow_down_p99: slow_downs.get(p99).copied().unwrap_or(0.0),
            slow_down_most: slow_downs.last().copied().unwrap_or(0.0),
            jobs_slowed: slow_downs.iter().filter(|slow| **slow > 1.05).count(),
            wait_mean_ms: self.waits_ms.iter().sum::<u64>() / count as u64,
            wait_p99_ms: self.waits_ms.get(p99).copied().unwrap_or(0),
            wait_most_ms: self.waits_ms.last().copied().unwrap_or(0),
            queued: self.queued,
            waited_for_servers: self.waited_for_servers,
            servers_most: fleet.most,
            servers_started: fleet.started,
            servers_regretted: fleet.regretted,
            flaps: self.flaps,
            scalings: self.scalings,
            grown: self.grown,
            given_back: self.given_back,
            spilled: self.spilled,
            stalled_ms: self.stalled_ms,
            samples: self.samples,
        }
    }
}
