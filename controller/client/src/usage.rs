//! What this process uses of its machine, for heartbeats.

use std::{fs, time::Duration, time::Instant};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use parking_lot::Mutex;
use pocket_proto::control::Usage;
use tokio::runtime::Handle;

/// Two samples closer than this say more of the clock than of the use.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// Counters of a server that only ever grow, and the space it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes received and sent since the start. `None`: not counted, so take those of the
    /// network namespace but for loopback (right in a container, an upper bound elsewhere).
    pub network_bytes: Option<u64>,
    /// Operations since the start.
    pub operations: u64,
    /// Bytes held now.
    pub used_bytes: u64,
}

/// Turns counters into rates: each sample covers the time since the one before.
#[derive(Debug)]
pub struct UsageMeter {
    last: Mutex<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    cpu: Duration,
    network_bytes: u64,
    operations: u64,
    /// The rates found then, repeated for a caller who comes too soon.
    usage: Usage,
}

impl UsageMeter {
    /// Starts to measure.
    pub fn new() -> Self {
        UsageMeter {
            last: Mutex::new(Sample {
                at: Instant::now(),
                cpu: process_cpu(),
                network_bytes: namespace_network_bytes(),
                operations: 0,
                usage: Usage::default(),
            }),
        }
    }

    /// The use since the last call; CPU is that of the whole process.
    pub fn sample(&self, totals: Totals) -> Usage {
        let (now, cpu) = (Instant::now(), process_cpu());
        let network_bytes = totals.network_bytes.unwrap_or_else(namespace_network_bytes);
        let mut last = self.last.lock();
        let elapsed = now.saturating_duration_since(last.at);
        if elapsed < INTERVAL_MIN {
            last.usage.used_bytes = totals.used_bytes;
            return last.usage;
        }
        let per_second = |amount: u64| (amount as f64 / elapsed.as_secs_f64()) as u64;
        let mut usage = Usage {
            cpu_fraction: cpu.saturating_sub(last.cpu).as_secs_f64() / elapsed.as_secs_f64(),
            network_bytes_per_second: per_second(network_bytes.saturating_sub(last.network_bytes)),
            used_bytes: totals.used_bytes,
            operations_per_second: per_second(totals.operations.saturating_sub(last.operations)),
            threads: worker_threads(),
            cpu_permille: 0,
        };
        let permille = usage.cpu_fraction * 1_000.0 / f64::from(usage.threads.max(1));
        usage.cpu_permille = permille as u32;
        *last = Sample {
            at: now,
            cpu,
            network_bytes,
            operations: totals.operations,
            usage,
        };
        usage
    }
}

impl Default for UsageMeter {
    fn default() -> Self {
        UsageMeter::new()
    }
}

/// Threads that work off the tasks of this runtime; 0 outside of one.
fn worker_threads() -> u32 {
    let workers = Handle::try_current().map(|runtime| runtime.metrics().num_workers());
    workers.map_or(0, |workers| u32::try_from(workers).unwrap_or(u32::MAX))
}

/// User and system time of this process so far.
fn process_cpu() -> Duration {
    let duration = |time: TimeVal| {
        Duration::new(
            u64::try_from(time.tv_sec()).unwrap_or(0),
            u32::try_from(time.tv_usec() * 1_000).unwrap_or(0),
        )
    };
    getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| duration(usage.user_time()) + duration(usage.system_time()))
        .unwrap_or_default()
}

/// Bytes in and out of this network namespace; 0 where the kernel does not say.
fn namespace_network_bytes() -> u64 {
    sum_of_interfaces(&fs::read_to_string("/proc/self/net/dev").unwrap_or_default())
}

/// Sums the received (1st) and sent (9th) byte columns of `/proc/net/dev` but for loopback, where
/// every byte counts twice and most are other processes'.
fn sum_of_interfaces(table: &str) -> u64 {
    table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(interface, _)| interface.trim() != "lo")
        .flat_map(|(_, columns)| columns.split_ascii_whitespace().step_by(8).take(2))
        .filter_map(|column| column.parse::<u64>().ok())
        .fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_and_sent_bytes_of_interfaces_are_summed() {
        let table = "Inter-|   Receive                          |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n\
            \x20   lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n\
            \x20 eth0:2000 9 0 0 0 0 0 0 30 2 0 0 0 0 0 0\n";
        assert_eq!(sum_of_interfaces(table), 2030);
        assert_eq!(sum_of_interfaces("garbage: x y\n:::"), 0);
    }

    #[test]
    fn rates_cover_the_time_since_the_last_sample() {
        let meter = UsageMeter::new();
        meter.last.lock().at -= Duration::from_secs(10);
        meter.last.lock().network_bytes = 0;
        let usage = meter.sample(Totals {
            network_bytes: Some(5_000),
            operations: 100,
            used_bytes: 7,
        });
        assert!((490..=500).contains(&usage.network_bytes_per_second));
        assert!((9..=10).contains(&usage.operations_per_second));
        assert_eq!(usage.used_bytes, 7);
        assert!((0.0..1_000.0).contains(&usage.cpu_fraction));
    }

    #[test]
    fn a_sample_taken_too_soon_repeats_the_last_rates() {
        let meter = UsageMeter::new();
        meter.last.lock().usage.operations_per_second = 3;
        meter.last.lock().at = Instant::now() + Duration::from_secs(5);
        let totals = Totals {
            operations: u64::MAX,
            used_bytes: 9,
            ..Totals::default()
        };
        let usage = meter.sample(totals);
        assert_eq!((usage.operations_per_second, usage.used_bytes), (3, 9));
    }
}
