//! What a controller counts, for collectors of metrics.

use std::{collections::BTreeMap, time::Instant};

use pocket_metrics::{Metric, Page};
use serde::Serialize;

use super::{Cluster, jobs::Phase, servers::Role};

/// Decisions since this controller started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) created: u64,
    pub(crate) joined: u64,
    pub(crate) refused: u64,
    pub(crate) queued: u64,
    pub(crate) grown: u64,
    pub(crate) given_back: u64,
    pub(crate) weighed_anew: u64,
    pub(crate) ended: u64,
}

const UPTIME: Metric = Metric::gauge(
    "pocket_controller_uptime_seconds",
    "seconds",
    &[],
    "time since the controller started",
);
const JOBS: Metric = Metric::gauge(
    "pocket_controller_jobs",
    "",
    &["state"],
    "jobs that are creating, running or ending",
);
const WAITING: Metric = Metric::gauge(
    "pocket_controller_waiting_jobs",
    "",
    &[],
    "registrations that wait for room",
);
const MOUNTS: Metric = Metric::gauge(
    "pocket_controller_mounts",
    "",
    &[],
    "mounts of all jobs, as metadata servers report them",
);
const SERVERS: Metric = Metric::gauge(
    "pocket_controller_servers",
    "",
    &["role", "state"],
    "servers that are alive, full (storage servers that take no new data) or dead",
);
const CAPACITY: Metric = Metric::gauge(
    "pocket_controller_capacity_bytes",
    "bytes",
    &["tier"],
    "what the living storage servers hold at most",
);
const RESERVED: Metric = Metric::gauge(
    "pocket_controller_reserved_bytes",
    "bytes",
    &["tier"],
    "of that, promised to jobs",
);
const USED: Metric = Metric::gauge(
    "pocket_controller_used_bytes",
    "bytes",
    &["tier"],
    "of that, held by blocks, as storage servers report it",
);
const BANDWIDTH: Metric = Metric::gauge(
    "pocket_controller_bandwidth_bytes_per_second",
    "bytes per second",
    &["tier"],
    "what the living storage servers move, as far as they say",
);
const RESERVED_BANDWIDTH: Metric = Metric::gauge(
    "pocket_controller_reserved_bytes_per_second",
    "bytes per second",
    &["tier"],
    "throughput promised to jobs",
);
const MOVED: Metric = Metric::gauge(
    "pocket_controller_moved_bytes_per_second",
    "bytes per second",
    &[],
    "what all jobs move on storage servers",
);
const PRICE: Metric = Metric::gauge(
    "pocket_controller_price_dollars_per_hour",
    "dollars per hour",
    &[],
    "what the reservations of all jobs cost now, by the price table",
);
const COST: Metric = Metric::counter(
    "pocket_controller_cost_dollars_total",
    "dollars",
    &[],
    "what all jobs have cost since this controller knows them",
);
const DECISIONS: Metric = Metric::counter(
    "pocket_controller_decisions_total",
    "",
    &["decision"],
    "registrations created, joined, refused and queued; jobs grown, given_back, weighed_anew \
           and ended",
);
const PROFILES: Metric = Metric::gauge(
    "pocket_controller_profiles",
    "",
    &[],
    "recurring jobs of which earlier runs are remembered",
);

/// All of them, in the order of the page.
#[cfg(test)]
pub(super) const METRICS: [Metric; 15] = [
    UPTIME,
    JOBS,
    WAITING,
    MOUNTS,
    SERVERS,
    CAPACITY,
    RESERVED,
    USED,
    BANDWIDTH,
    RESERVED_BANDWIDTH,
    MOVED,
    PRICE,
    COST,
    DECISIONS,
    PROFILES,
];

/// Sums over the living storage servers of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct OfTier {
    servers: u64,
    capacity_bytes: u64,
    reserved_bytes: u64,
    used_bytes: u64,
    bytes_per_second: u64,
    reserved_bytes_per_second: u64,
    moved_bytes_per_second: u64,
}

impl Cluster {
    /// The page of metrics.
    pub(crate) fn metrics(&self, now: Instant) -> Page {
        let mut page = Page::new();
        let uptime = now.saturating_duration_since(self.started);
        page.add(&UPTIME, &[], uptime.as_secs_f64());
        self.count_jobs(&mut page);
        self.count_servers(&mut page);
        self.add_tiers(&mut page);
        let moved: u64 = self.jobs.all().map(|job| job.throughput.now(now)).sum();
        page.add(&MOVED, &[], moved as f64);
        let accounts = || self.jobs.all().map(|job| &job.account);
        let price: f64 = accounts().map(|account| account.price().dollars()).sum();
        page.add(&PRICE, &[], price);
        let cost: f64 = accounts().map(|account| account.cost(now).dollars()).sum();
        page.add(&COST, &[], self.spent.dollars() + cost);
        let decisions = self.decisions;
        for (name, count) in [
            ("created", decisions.created),
            ("joined", decisions.joined),
            ("refused", decisions.refused),
            ("queued", decisions.queued),
            ("grown", decisions.grown),
            ("given_back", decisions.given_back),
            ("weighed_anew", decisions.weighed_anew),
            ("ended", decisions.ended),
        ] {
            page.add(&DECISIONS, &[name], count as f64);
        }
        page.add(&PROFILES, &[], self.history.profiles().len() as f64);
        page
    }

    fn count_jobs(&self, page: &mut Page) {
        for (name, phase) in [
            ("creating", Phase::Creating),
            ("running", Phase::Running),
            ("ending", Phase::Ending),
        ] {
            let count = self.jobs.all().filter(|job| job.phase == phase).count();
            page.add(&JOBS, &[name], count as f64);
        }
        page.add(&WAITING, &[], self.queue.len() as f64);
        let mounts: u64 = self.jobs.all().map(|job| u64::from(job.mounts)).sum();
        page.add(&MOUNTS, &[], mounts as f64);
    }

    fn count_servers(&self, page: &mut Page) {
        for (role, states) in [
            ("metadata", &["alive", "dead"][..]),
            ("storage", &["alive", "full", "dead"]),
        ] {
            for state in states {
                let of = self.servers.all().filter(|server| {
                    let is = match (server.alive, server.full) {
                        (false, _) => "dead",
                        (true, true) => "full",
                        (true, false) => "alive",
                    };
                    server.is_storage() == (role == "storage") && is == *state
                });
                page.add(&SERVERS, &[role, state], of.count() as f64);
            }
        }
    }

    /// What the living storage servers of each tier hold and move.
    pub(crate) fn tiers(&self) -> BTreeMap<&'static str, OfTier> {
        let mut tiers: BTreeMap<&str, OfTier> = BTreeMap::new();
        let ledger = self.jobs.ledger();
        for server in self.servers.alive_storage() {
            if let Role::Storage {
                tier,
                capacity_bytes,
                bytes_per_second,
                ..
            } = server.role
            {
                let sum = tiers.entry(tier.name()).or_default();
                sum.servers += 1;
                sum.capacity_bytes += capacity_bytes;
                sum.reserved_bytes += ledger.reserved_bytes(server.id);
                sum.used_bytes += server.usage.used_bytes;
                sum.bytes_per_second += bytes_per_second;
                sum.reserved_bytes_per_second += ledger.reserved_bytes_per_second(server.id);
                sum.moved_bytes_per_second += server.usage.network_bytes_per_second;
            }
        }
        tiers
    }

    fn add_tiers(&self, page: &mut Page) {
        let tiers = self.tiers();
        let mut add = |metric: &Metric, figure: fn(&OfTier) -> u64| {
            for (tier, sum) in &tiers {
                page.add(metric, &[tier], figure(sum) as f64);
            }
        };
        add(&CAPACITY, |sum| sum.capacity_bytes);
        add(&RESERVED, |sum| sum.reserved_bytes);
        add(&USED, |sum| sum.used_bytes);
        add(&BANDWIDTH, |sum| sum.bytes_per_second);
        add(&RESERVED_BANDWIDTH, |sum| sum.reserved_bytes_per_second);
    }
}
