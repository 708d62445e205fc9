//! The run of a trace: a second at a time.
//!
//! In each second jobs work, those that are done give their servers back, use is compared with
//! allocations, waiting and new jobs are registered, and the pools are sized. A job starts when the
//! last of its servers is ready, and is billed from its registration.

mod growth;
mod rates;
mod tally;

use std::collections::VecDeque;

use pocket_policy::{
    AdmissionQueue, Allocation, Arbiter, Decision, Demand, History, Market, Needs, Placement, Run,
    ScalingSettings, Startable, Ticket, demand, place,
};
use pocket_proto::control::StorageClass;

use self::tally::Tally;
use crate::{
    Report, Scenario, Setting, Trace, TraceJob, fleet::Fleet, job::DONE, running::Running,
};

/// Virtual time between two looks.
const TICK_MS: u64 = 1_000;
/// A trace that has not come to its end by then never will: 30 days.
const TIME_MS_MAX: u64 = 2_592_000_000;
/// If nothing runs for so long and the first of the queue finds no room, it never will; and a job that has
/// found no room to write for so long is given up.
const STUCK_MS_MAX: u64 = 600_000;

/// Runs a trace. Fails with a sentence if a setting of the scenario makes no sense.
pub fn simulate(trace: &Trace, mut scenario: Scenario) -> Result<Report, String> {
    for Setting { name, value, line } in &trace.settings {
        scenario.set(name, value).map_err(|reason| match line {
            Some(line) => format!("trace, line {line}, set {name}: {reason}"),
            None => reason,
        })?;
    }
    simulate_as_set(trace, scenario)
}

fn simulate_as_set(trace: &Trace, scenario: Scenario) -> Result<Report, String> {
    scenario.check()?;
    let mut engine = Engine::new(trace, &scenario);
    for (profile, run) in &trace.ran {
        engine.history.record(profile, *run);
    }
    while engine.goes_on() {
        engine.tick();
    }
    Ok(engine
        .tally
        .report(trace, &scenario, &engine.fleet, engine.now_ms))
}

struct Engine<'a> {
    trace: &'a Trace,
    scenario: &'a Scenario,
    now_ms: u64,
    fleet: Fleet,
    history: History,
    pools: Vec<Arbiter>,
    queue: AdmissionQueue,
    /// Jobs in the queue, in its order.
    waiting: VecDeque<(Ticket, usize)>,
    next_job: usize,
    running: Vec<Running>,
    /// For so long nothing has run and who waits found no room.
    stuck_ms: u64,
    tally: Tally,
}

impl<'a> Engine<'a> {
    fn new(trace: &'a Trace, scenario: &'a Scenario) -> Self {
        let pool = |_: &pocket_policy::NodeType| {
            Arbiter::new(ScalingSettings {
                network: scenario.range,
                capacity: scenario.range,
                window_down_ms: scenario.window_down_ms,
                cool_down_ms: scenario.cool_down_ms,
                servers_max: scenario.servers_max,
                ..ScalingSettings::default()
            })
        };
        let mut fleet = Fleet::new(&scenario.catalogue);
        let nodes = &scenario.catalogue.nodes;
        if let Some(base) = nodes
            .iter()
            .position(|node| node.name == scenario.servers_min_type)
        {
            fleet.start(base, scenario.servers_min, 0, 0);
        }
        Engine {
            trace,
            scenario,
            now_ms: 0,
            fleet,
            history: History::default(),
            pools: nodes.iter().map(pool).collect(),
            queue: AdmissionQueue::default(),
            waiting: VecDeque::new(),
            next_job: 0,
            running: Vec::new(),
            stuck_ms: 0,
            tally: Tally::new(&scenario.catalogue),
        }
    }

    fn goes_on(&self) -> bool {
        let left = self.next_job < self.trace.jobs.len() || !self.waiting.is_empty();
        // Servers are paid for until they have gone.
        let servers = self.fleet.servers().len() > self.scenario.servers_min as usize;
        (left || servers || !self.running.is_empty())
            && self.now_ms < TIME_MS_MAX
            && self.stuck_ms < STUCK_MS_MAX
    }

    fn tick(&mut self) {
        self.now_ms += TICK_MS;
        self.fleet.settle(self.now_ms);
        self.tally.look(
            &self.fleet,
            &self.running,
            self.trace,
            self.scenario,
            self.now_ms,
            TICK_MS,
        );
        self.work();
        self.revise();
        self.admit();
        self.scale();
        self.fleet.count_flaps(self.now_ms);
        let stuck = self.running.is_empty() && !self.waiting.is_empty();
        self.stuck_ms = if stuck { self.stuck_ms + TICK_MS } else { 0 };
        self.tally.sample(
            &self.fleet,
            &self.running,
            self.trace,
            self.waiting.len(),
            self.now_ms,
        );
    }

    /// Jobs work at the speed that their servers allow, and end.
    fn work(&mut self) {
        let began_ms = self.now_ms - TICK_MS;
        let speeds = rates::speeds(&self.running, self.trace, &self.fleet, began_ms);
        let mut at = 0;
        for speed in speeds {
            let running = &mut self.running[at];
            let job = &self.trace.jobs[running.job];
            let before = running.wanted(job);
            if began_ms >= running.starts_ms {
                let stalled = speed == 0;
                running.stalled_ms += if stalled { TICK_MS } else { 0 };
                running.stalled_last_ms = match stalled {
                    true => running.stalled_last_ms + TICK_MS,
                    false => 0,
                };
                if running.stalled_last_ms >= STUCK_MS_MAX {
                    let mut failed = self.running.remove(at);
                    self.release(&mut failed);
                    self.tally.failed(job, &failed);
                    continue;
                }
                running.peak.capacity_bytes =
                    running.peak.capacity_bytes.max(before.capacity_bytes);
                let rate = (u128::from(before.bytes_per_second) * u128::from(speed)
                    / u128::from(DONE)) as u64;
                running.peak.bytes_per_second = running.peak.bytes_per_second.max(rate);
                if let Some(after_ms) = running.work(job, TICK_MS, speed) {
                    let ended = self.running.remove(at);
                    self.end(ended, began_ms + after_ms);
                    continue;
                }
            }
            at += 1;
        }
    }

    /// Gives back what a job was promised, and settles its bill.
    fn release(&mut self, running: &mut Running) {
        running.set_price(pocket_policy::Price(0), self.now_ms);
        self.fleet.give_back(&running.shares);
        if let Some((_, _, shares)) = &running.coming {
            self.fleet.give_back(shares);
        }
    }

    fn end(&mut self, mut ended: Running, ended_ms: u64) {
        let job = &self.trace.jobs[ended.job];
        self.release(&mut ended);
        if self.scenario.learn {
            let run = Run {
                capacity_bytes: ended.peak.capacity_bytes,
                bytes_per_second: ended.peak.bytes_per_second,
                object_bytes: job.object_bytes,
            };
            self.history.record(&job.profile, run);
        }
        self.tally.ended(job, &ended, ended_ms);
    }

    /// Registers the jobs that wait, in their order, and those that have come.
    fn admit(&mut self) {
        while let Some(&(ticket, job)) = self.waiting.front() {
            if !self.queue.may_go(StorageClass::Regular, Some(ticket)) || !self.register(job) {
                break;
            }
            self.queue.leave(ticket);
            self.waiting.pop_front();
        }
        while let Some(job) = self.trace.jobs.get(self.next_job)
            && job.at_ms <= self.now_ms
        {
            let at = self.next_job;
            self.next_job += 1;
            if self.queue.may_go(StorageClass::Regular, None) && self.register(at) {
                continue;
            }
            match self
                .queue
                .join(StorageClass::Regular, "the cluster cannot grow")
            {
                Some(ticket) => {
                    self.tally.queued += 1;
                    self.waiting.push_back((ticket, at));
                }
                None => self.tally.refused(format!(
                    "job '{}' was refused: too many jobs wait for room already",
                    job.name
                )),
            }
        }
    }

    /// Whether the job has been dealt with: admitted, or refused for good.
    fn register(&mut self, at: usize) -> bool {
        let job: &TraceJob = &self.trace.jobs[at];
        let past = self.history.forecast(&job.profile);
        let hints = self.scenario.hints_of(job);
        let demand = demand(&hints, &self.scenario.catalogue, past.as_ref());
        let found = self.with_servers_started(|engine, startable| {
            let market = Some(engine.market(startable));
            match place(&job.name, &demand, engine.fleet.servers(), market) {
                Placement::Placed(allocation) => Found::Room(allocation),
                Placement::Start(counts) => Found::Start(counts),
                Placement::Wait(_) | Placement::Never(_) => Found::Nothing,
            }
        });
        let Some(Allocation {
            capacity_bytes,
            bytes_per_second,
            shares,
            ..
        }) = found
        else {
            let refused = self.never_fits(job, &demand);
            return refused.map(|why| self.tally.refused(why)).is_some();
        };
        let needs = Needs {
            capacity_bytes,
            bytes_per_second,
        };
        self.fleet.promise(&shares);
        let mut running = Running::new(at, demand, needs, self.now_ms);
        running.starts_ms = self.fleet.ready_ms(&shares).max(self.now_ms);
        self.tally.waited_for_servers += usize::from(running.starts_ms > self.now_ms);
        running.shares = shares;
        self.running.push(running);
        self.settle_job(self.running.len() - 1);
        true
    }

    /// Why a job does not fit a cluster that has nothing else to do; `None` if it does. What runs now may
    /// be of the wrong types, and goes.
    fn never_fits(&self, job: &TraceJob, demand: &Demand) -> Option<String> {
        let catalogue = &self.scenario.catalogue;
        let kinds = (0..catalogue.nodes.len())
            .map(|node| Startable::of_table(node, self.scenario.limit(node), catalogue));
        let kinds: Vec<_> = kinds.collect();
        let market = Market {
            catalogue,
            startable: &kinds,
            startable_in_all: self.scenario.servers_max,
        };
        match place(&job.name, demand, &[], Some(market)) {
            Placement::Never(failure) => Some(failure.message),
            _ => None,
        }
    }

    /// Asks for room, and once more when the servers that were asked for are being started: whoever is
    /// placed on them waits for them. `None` if there is no room to be had.
    fn with_servers_started<T>(
        &mut self,
        ask: impl Fn(&Self, &[Startable]) -> Found<T>,
    ) -> Option<T> {
        for _ in 0..2 {
            match ask(self, &self.startable()) {
                Found::Room(room) => return Some(room),
                Found::Nothing => return None,
                Found::Start(counts) => {
                    let (now_ms, start_ms) = (self.now_ms, self.scenario.start_ms);
                    for (node, count) in counts.into_iter().enumerate() {
                        self.fleet.start(node, count, now_ms, start_ms);
                    }
                }
            }
        }
        None
    }

    fn market<'b>(&'b self, startable: &'b [Startable]) -> Market<'b> {
        Market {
            catalogue: &self.scenario.catalogue,
            startable,
            startable_in_all: self.startable_in_all(),
        }
    }

    fn startable_in_all(&self) -> u32 {
        let live = self.fleet.servers().len() as u32;
        self.scenario.servers_max.saturating_sub(live)
    }

    /// Of every node type, in the table's order.
    fn startable(&self) -> Vec<Startable> {
        let catalogue = &self.scenario.catalogue;
        let of_type = |node: usize| {
            let left = self.scenario.limit(node);
            let left = left.saturating_sub(self.fleet.count(node));
            Startable::of_table(node, left, catalogue)
        };
        (0..catalogue.nodes.len()).map(of_type).collect()
    }

    /// Every pool is sized by its arbiter.
    fn scale(&mut self) {
        let pools = self.tally.pools(
            &self.fleet,
            &self.running,
            self.trace,
            self.scenario,
            self.now_ms,
        );
        for (node, pool) in pools.into_iter().enumerate() {
            let Decision::Scale { servers, .. } = self.pools[node].decide(&pool, self.now_ms)
            else {
                continue;
            };
            self.tally.scalings += 1;
            if servers > pool.servers {
                let count = (servers - pool.servers)
                    .min(self.startable_in_all())
                    .min(self.startable()[node].count);
                self.fleet
                    .start(node, count, self.now_ms, self.scenario.start_ms);
            } else {
                self.fleet
                    .remove_free(node, pool.servers - servers, self.now_ms);
            }
        }
    }
}

/// What came of asking for room.
enum Found<T> {
    Room(T),
    Start(Vec<u32>),
    Nothing,
}

#[cfg(test)]
mod tests;
