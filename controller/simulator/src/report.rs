//! What came of a run.

use serde::Serialize;

/// A run in figures. Money in dollars, times in milliseconds unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Jobs of the trace.
    pub jobs: usize,
    /// Jobs that came to their end.
    pub finished: usize,
    /// Jobs that were not admitted, as they fit nowhere or too many wait.
    pub refused: usize,
    /// Running jobs that were given up, as they found no room for ten minutes.
    pub failed: usize,
    /// Why the first of those did not finish; empty if all did or still wait.
    pub unfinished: String,
    /// Virtual time until the last job ended: seconds.
    pub seconds: u64,
    /// What all servers cost.
    pub cost: f64,
    /// What the jobs were billed, by what they took of the servers.
    pub billed: f64,
    /// What the oracle pays (see the documentation of bounds).
    pub oracle_cost: f64,
    /// The bound with every job's use of each second.
    pub clairvoyant_cost: f64,
    /// Servers for the most ever used at once, held throughout.
    pub static_cost: f64,
    /// Where the difference to the oracle went.
    pub losses: Losses,
    /// Run time over that of the same job when nothing holds it back.
    pub slow_down_mean: f64,
    /// Of the slowest but one percent.
    pub slow_down_p99: f64,
    /// Of the slowest.
    pub slow_down_most: f64,
    /// Jobs that took more than 5 % longer to run.
    pub jobs_slowed: usize,
    /// The same with the wait for their servers or their turn: most short jobs, as a server takes its time
    /// to start.
    pub jobs_late: usize,
    /// From registration to start.
    pub wait_mean_ms: u64,
    /// Of the slowest but one percent.
    pub wait_p99_ms: u64,
    /// Of the slowest.
    pub wait_most_ms: u64,
    /// Jobs that had a place in the queue as the cluster could not grow.
    pub queued: usize,
    /// Jobs whose registration waited for servers to start.
    pub waited_for_servers: usize,
    /// Most servers at once.
    pub servers_most: usize,
    /// Servers started.
    pub servers_started: u64,
    /// Servers started within a minute of another of their type having gone.
    pub servers_regretted: u64,
    /// Servers that were started, by whomever, within a minute of one of their type having gone though no
    /// more was promised than then; or removed within a minute of their start without having been used,
    /// though no less was promised.
    pub flaps: u64,
    /// Changes of pools by their arbiters.
    pub scalings: u64,
    /// Running jobs that were given more.
    pub grown: u64,
    /// Running jobs that gave back.
    pub given_back: u64,
    /// Times a running job went on to another tier.
    pub spilled: u64,
    /// Milliseconds in which jobs found no room at all.
    pub stalled_ms: u64,
    /// The course of it.
    pub samples: Vec<Sample>,
}

/// Dollars beyond the oracle's, by cause; they sum to the difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Losses {
    /// Servers that were starting.
    pub starting: f64,
    /// Servers on which nothing was promised.
    pub idle: f64,
    /// Gaps on servers: whole servers for fractions, and one resource used up before the other.
    pub fragmentation: f64,
    /// Promises beyond what jobs turned out to need, or on dearer tiers; negative where less was
    /// promised.
    pub reservation: f64,
    /// Jobs that held their servers for longer than they ran at best.
    pub time: f64,
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Virtual time: seconds.
    pub second: u64,
    /// Throughput that jobs want, bytes per second.
    pub wanted_bytes_per_second: u64,
    /// Throughput that they were promised.
    pub given_bytes_per_second: u64,
    /// Throughput of the servers that are ready.
    pub servers_bytes_per_second: u64,
    /// Bytes that jobs hold.
    pub used_bytes: u64,
    /// Servers, those that are starting included.
    pub servers: usize,
    /// Jobs that run.
    pub running: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// Dollars per hour.
    pub price: f64,
}

impl Report {
    /// Cost over the oracle's.
    pub fn over_oracle(&self) -> f64 {
        match self.oracle_cost > 0.0 {
            true => self.cost / self.oracle_cost,
            false => 1.0,
        }
    }

    /// Why not all jobs finished; `None` if they did.
    pub fn shortfall(&self) -> Option<String> {
        let left = self.jobs - self.finished;
        let waiting = left - self.refused - self.failed;
        let (refused, failed) = (self.refused, self.failed);
        let why = match self.unfinished.as_str() {
            "" => "the cluster cannot grow".to_owned(),
            why => why.to_owned(),
        };
        (left > 0).then(|| {
            format!(
                "{left} of {} jobs did not finish ({refused} refused, {failed} given up, {waiting} still \
                 waiting or running): {why}",
                self.jobs
            )
        })
    }

    /// As rows of label and value, with units.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let dollars = |amount: f64| format!("${amount:.4}");
        let of_oracle = |amount: f64| {
            let percent = 100.0 * amount / self.oracle_cost.max(f64::MIN_POSITIVE);
            format!("${amount:.4} ({percent:+.1} % of the oracle's)")
        };
        let seconds = |ms: u64| format!("{:.1}s", ms as f64 / 1_000.0);
        let losses = self.losses;
        // Of nothing there is no mean; and what did not run cost nothing.
        let of_finished = |figure: String| match self.finished {
            0 => "-".to_owned(),
            all if all == self.jobs => figure,
            some => format!("{figure} (of the {some} that finished)"),
        };
        vec![
            (
                "jobs finished",
                format!("{} of {}", self.finished, self.jobs),
            ),
            ("virtual time", format!("{}s", self.seconds)),
            ("cost of servers", dollars(self.cost)),
            ("oracle", dollars(self.oracle_cost)),
            (
                "cost / oracle",
                of_finished(format!("{:.3}", self.over_oracle())),
            ),
            ("  servers starting", of_oracle(losses.starting)),
            ("  servers idle", of_oracle(losses.idle)),
            ("  gaps on servers", of_oracle(losses.fragmentation)),
            ("  promised, not needed", of_oracle(losses.reservation)),
            ("  jobs holding longer", of_oracle(losses.time)),
            ("clairvoyant", dollars(self.clairvoyant_cost)),
            ("peak servers throughout", dollars(self.static_cost)),
            ("billed to jobs", dollars(self.billed)),
            (
                "slow-down mean",
                of_finished(format!("{:.4}", self.slow_down_mean)),
            ),
            (
                "slow-down p99, most",
                of_finished(format!(
                    "{:.3}, {:.3}",
                    self.slow_down_p99, self.slow_down_most
                )),
            ),
            ("jobs slowed over 5 %", self.jobs_slowed.to_string()),
            ("  with their wait", self.jobs_late.to_string()),
            (
                "wait mean, p99, most",
                format!(
                    "{}, {}, {}",
                    seconds(self.wait_mean_ms),
                    seconds(self.wait_p99_ms),
                    seconds(self.wait_most_ms)
                ),
            ),
            ("waited for servers", self.waited_for_servers.to_string()),
            ("queued", self.queued.to_string()),
            (
                "refused, given up",
                format!("{}, {}", self.refused, self.failed),
            ),
            ("servers at most", self.servers_most.to_string()),
            ("servers started", self.servers_started.to_string()),
            (
                "  within 1m of one gone",
                self.servers_regretted.to_string(),
            ),
            (
                "pool changes, flaps",
                format!("{}, {}", self.scalings, self.flaps),
            ),
            (
                "jobs grown, gave back, spilled",
                format!("{}, {}, {}", self.grown, self.given_back, self.spilled),
            ),
            ("stalled without room", seconds(self.stalled_ms)),
        ]
    }
}
