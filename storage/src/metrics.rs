//! What a storage server counts: for its reports, and for collectors of metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use pocket_metrics::{ByCode, Counter, Distribution, Histogram, Metric, Page, snake_case};
use pocket_proto::{HEADER_BYTES, Operation, Status};

use crate::{
    engine::{BlockEngine, EngineUsage, MediumReport},
    pace::Paces,
};

/// Codes of operations and of failures are smaller.
const CODES: usize = 64;
/// Those that a storage server offers.
const OPERATIONS: [Operation; 14] = [
    Operation::ReadBlock,
    Operation::WriteBlock,
    Operation::TruncateBlocks,
    Operation::DropJob,
    Operation::RemoveInodes,
    Operation::AllocateBlock,
    Operation::ZeroBlock,
    Operation::PunchBlock,
    Operation::DropBlocks,
    Operation::ListBlocks,
    Operation::CopyBlock,
    Operation::Vouch,
    Operation::FenceSessions,
    Operation::ListInodes,
];

const TOOK: Metric = Metric::histogram(
    "pocket_storage_request_duration_seconds",
    &["tier", "operation"],
    "time from a request to its answer, in the server",
);
const RECEIVED: Metric = Metric::counter(
    "pocket_storage_received_bytes_total",
    "bytes",
    &["tier", "operation"],
    "bytes of requests, without frame headers",
);
const SENT: Metric = Metric::counter(
    "pocket_storage_sent_bytes_total",
    "bytes",
    &["tier", "operation"],
    "bytes of answers, without frame headers",
);
const REFUSED: Metric = Metric::counter(
    "pocket_storage_refused_total",
    "",
    &["tier", "status"],
    "requests that were answered with a failure",
);
const QUEUE: Metric = Metric::gauge(
    "pocket_storage_queue_depth",
    "",
    &["tier"],
    "requests that wait for the medium or for work beside the connection",
);
const THROTTLED: Metric = Metric::counter(
    "pocket_storage_throttled_seconds_total",
    "seconds",
    &["tier"],
    "time for which connections of jobs above their allocation were not read",
);
const CAPACITY: Metric = Metric::gauge(
    "pocket_storage_capacity_bytes",
    "bytes",
    &["tier"],
    "bytes of blocks that can be held",
);
const USED: Metric = Metric::gauge(
    "pocket_storage_used_bytes",
    "bytes",
    &["tier"],
    "bytes charged to the blocks held",
);
const BLOCKS: Metric = Metric::gauge("pocket_storage_blocks", "", &["tier"], "blocks held");
const JOBS: Metric = Metric::gauge(
    "pocket_storage_jobs",
    "",
    &["tier"],
    "jobs whose mounts are connected",
);
const WRITTEN: Metric = Metric::counter(
    "pocket_storage_medium_written_bytes_total",
    "bytes",
    &["tier"],
    "bytes written to the medium, which wear it; 0 for memory",
);
const ERRORS: Metric = Metric::counter(
    "pocket_storage_medium_errors_total",
    "",
    &["tier"],
    "transfers that the medium failed, and reads that found other bytes than were written",
);
const FAILED: Metric = Metric::gauge(
    "pocket_storage_medium_failed",
    "",
    &["tier"],
    "stores that take nothing new because their medium fails",
);

/// All of them, in the order of the page.
const METRICS: [Metric; 13] = [
    TOOK, RECEIVED, SENT, REFUSED, QUEUE, THROTTLED, CAPACITY, USED, BLOCKS, JOBS, WRITTEN, ERRORS,
    FAILED,
];

/// What a server has done.
#[derive(Default)]
pub(crate) struct Counts {
    operations: ByCode<OfOperation, CODES>,
    failures: ByCode<Counter, CODES>,
    queued: AtomicI64,
    throttled: Counter,
}

#[derive(Default)]
struct OfOperation {
    received_bytes: Counter,
    sent_bytes: Counter,
    took: Histogram,
}

/// A request that came in.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    operation: Operation,
    bytes: usize,
    at: Instant,
}

impl Asked {
    /// One of so many bytes, now.
    pub(crate) fn now(operation: Operation, bytes: usize) -> Self {
        Asked {
            operation,
            bytes,
            at: Instant::now(),
        }
    }
}

impl Counts {
    /// Counts a request with its answer of so many bytes.
    pub(crate) fn answered(&self, asked: Asked, status: Status, bytes: usize) {
        let of = self.operations.at(asked.operation as usize);
        of.took.observe(asked.at.elapsed());
        of.received_bytes.add(asked.bytes as u64);
        of.sent_bytes.add(bytes as u64);
        if status != Status::Ok {
            self.failures.at(usize::from(status.code())).add(1);
        }
    }

    /// Counts a request as waiting, until what is returned is dropped.
    pub(crate) fn queue(self: &Arc<Self>) -> Queued {
        self.queued.fetch_add(1, Relaxed);
        Queued(Arc::clone(self))
    }

    /// Counts a connection that is not read for so long.
    pub(crate) fn throttled(&self, pause: Duration) {
        self.throttled.add_time(pause);
    }

    /// Requests answered.
    pub(crate) fn operations(&self) -> u64 {
        let all = self.operations.iter();
        all.map(|(_, of)| of.took.read().count()).sum()
    }

    /// Bytes in and out, with the headers of frames.
    pub(crate) fn network_bytes(&self) -> u64 {
        let all = self.operations.iter();
        let bodies = all.map(|(_, of)| of.received_bytes.get() + of.sent_bytes.get());
        bodies.sum::<u64>() + 2 * HEADER_BYTES as u64 * self.operations()
    }
}

/// A request that waits.
pub(crate) struct Queued(Arc<Counts>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Relaxed);
    }
}

/// The way to a server's figures, for as long as it lives.
#[derive(Clone)]
pub struct StorageMetrics {
    pub(crate) tier: &'static str,
    pub(crate) counts: Arc<Counts>,
    pub(crate) engine: Arc<dyn BlockEngine>,
    pub(crate) paces: Arc<Paces>,
}

/// Sums over the servers of a tier.
#[derive(Default)]
struct OfTier {
    servers: Vec<StorageMetrics>,
    usage: EngineUsage,
    written_bytes: u64,
    errors: u64,
    failed: u64,
}

impl StorageMetrics {
    /// The page of a process with these servers; those of a tier are added together.
    pub fn page(servers: &[StorageMetrics]) -> Page {
        let mut tiers: BTreeMap<&str, OfTier> = BTreeMap::new();
        for server in servers {
            let EngineUsage {
                used_bytes,
                capacity_bytes,
                blocks,
            } = server.engine.usage();
            let MediumReport {
                written_bytes,
                errors,
                failed,
            } = server.engine.medium();
            let tier = tiers.entry(server.tier).or_default();
            tier.usage.used_bytes += used_bytes;
            tier.usage.capacity_bytes += capacity_bytes;
            tier.usage.blocks += blocks;
            tier.written_bytes += written_bytes;
            tier.errors += u64::from(errors);
            tier.failed += u64::from(failed);
            tier.servers.push(server.clone());
        }
        let mut page = Page::new();
        METRICS.iter().for_each(|metric| page.declare(metric));
        for (name, tier) in &tiers {
            tier.add_requests(&mut page, name);
            tier.add_figures(&mut page, name);
        }
        page
    }
}

impl OfTier {
    fn sum<T: std::iter::Sum>(&self, figure: impl Fn(&Counts) -> T) -> T {
        self.servers
            .iter()
            .map(|server| figure(&server.counts))
            .sum()
    }

    fn add_requests(&self, page: &mut Page, tier: &str) {
        for operation in OPERATIONS {
            let code = operation as usize;
            let mut took = Distribution::default();
            for server in &self.servers {
                took += server.counts.operations.at(code).took.read();
            }
            if took.count() == 0 {
                continue;
            }
            let labels = [tier, &snake_case(&format!("{operation:?}"))];
            let received: u64 = self.sum(|counts| counts.operations.at(code).received_bytes.get());
            let sent: u64 = self.sum(|counts| counts.operations.at(code).sent_bytes.get());
            page.add_distribution(&TOOK, &labels, took);
            page.add(&RECEIVED, &labels, received as f64);
            page.add(&SENT, &labels, sent as f64);
        }
        for code in 0..CODES {
            let count: u64 = self.sum(|counts| counts.failures.at(code).get());
            if count > 0 {
                let status = Status::from_code(code as u16);
                let labels = [tier, &snake_case(&format!("{status:?}"))];
                page.add(&REFUSED, &labels, count as f64);
            }
        }
    }

    fn add_figures(&self, page: &mut Page, tier: &str) {
        let jobs: usize = self.servers.iter().map(|server| server.paces.jobs()).sum();
        for (metric, value) in [
            (
                &QUEUE,
                self.sum(|counts| counts.queued.load(Relaxed)) as f64,
            ),
            (&THROTTLED, self.sum(|counts| counts.throttled.seconds())),
            (&CAPACITY, self.usage.capacity_bytes as f64),
            (&USED, self.usage.used_bytes as f64),
            (&BLOCKS, self.usage.blocks as f64),
            (&JOBS, jobs as f64),
            (&WRITTEN, self.written_bytes as f64),
            (&ERRORS, self.errors as f64),
            (&FAILED, self.failed as f64),
        ] {
            page.add(metric, &[tier], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pocket_proto::{BlockIndex, ByteCount, InodeId, JobId};

    use super::*;
    use crate::engine::DramEngine;

    fn server() -> StorageMetrics {
        StorageMetrics {
            tier: "dram",
            counts: Arc::default(),
            engine: Arc::new(DramEngine::new(ByteCount(1 << 20))),
            paces: Arc::default(),
        }
    }

    #[test]
    fn servers_of_a_tier_are_added_together() {
        let servers = [server(), server()];
        for server in &servers {
            let data = Bytes::from_static(&[7; 4096]);
            let written = server
                .engine
                .write(JobId(1), InodeId(2), BlockIndex(0), 0, data);
            drop(written);
            let asked = Asked::now(Operation::WriteBlock, 4096);
            server.counts.answered(asked, Status::Ok, 8);
            let refused = Asked::now(Operation::WriteBlock, 100);
            server.counts.answered(refused, Status::ServerFull, 0);
            server.counts.throttled(Duration::from_millis(250));
        }
        let waiting = servers[0].counts.queue();
        let text = StorageMetrics::page(&servers).into_text();
        for line in [
            "pocket_storage_request_duration_seconds_count{tier=\"dram\",operation=\"write_block\"} 4",
            "pocket_storage_received_bytes_total{tier=\"dram\",operation=\"write_block\"} 8392",
            "pocket_storage_sent_bytes_total{tier=\"dram\",operation=\"write_block\"} 16",
            "pocket_storage_refused_total{tier=\"dram\",status=\"server_full\"} 2",
            "pocket_storage_queue_depth{tier=\"dram\"} 1",
            "pocket_storage_throttled_seconds_total{tier=\"dram\"} 0.5",
            "pocket_storage_capacity_bytes{tier=\"dram\"} 2097152",
            "pocket_storage_blocks{tier=\"dram\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        drop(waiting);
        let text = StorageMetrics::page(&servers).into_text();
        assert!(text.contains("pocket_storage_queue_depth{tier=\"dram\"} 0\n"));
        let counts = &servers[0].counts;
        assert_eq!(counts.operations(), 2);
        assert_eq!(counts.network_bytes(), 4204 + 4 * HEADER_BYTES as u64);
    }

    #[test]
    fn the_document_lists_what_the_endpoint_tells() {
        let page = StorageMetrics::page(&[server()]);
        let document = include_str!("../../docs/metrics.md");
        pocket_metrics::check_document(page, &METRICS, document, "pocket_storage_");
    }
}
