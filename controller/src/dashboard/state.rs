//! Servers, jobs and decisions, as the page is told.

use pocket_proto::{
    JobId, ServerId,
    control::{
        JobStatus, LeaveStage, ListJobsReply, ListServersReply, PoolStatus, ServerRole,
        ServerStatus,
    },
};
use serde::Serialize;

/// Ended jobs that are shown.
const ENDED_MAX: usize = 20;

/// Everything as it is now.
#[derive(Debug, Serialize)]
pub(super) struct State {
    version: String,
    uptime_seconds: u64,
    servers: Vec<Server>,
    jobs: Vec<Job>,
    ended: Vec<Job>,
    waiting: Vec<String>,
    pool: Option<Pool>,
}

#[derive(Debug, Serialize)]
struct Server {
    server: String,
    role: &'static str,
    endpoint: String,
    tier: String,
    class: &'static str,
    state: &'static str,
    silent_ms: u64,
    leave_reason: String,
    cpu_fraction: f64,
    network_bytes_per_second: u64,
    operations_per_second: u64,
    used_bytes: u64,
    reserved_bytes: u64,
    capacity_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Job {
    job: String,
    name: String,
    mounts: u32,
    age_seconds: u64,
    ended_seconds_ago: u64,
    used_bytes: u64,
    capacity_bytes: u64,
    bytes_per_second: u64,
    bandwidth_bytes_per_second: u64,
    inodes: u64,
    dollars: f64,
    dollars_per_hour: f64,
    epoch: u32,
    weights: Vec<Weight>,
    epochs: Vec<Epoch>,
    reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Weight {
    endpoint: String,
    tier: String,
    fraction: f64,
}

#[derive(Debug, Serialize)]
struct Epoch {
    epoch: u32,
    age_seconds: u64,
    servers: u32,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Pool {
    scaler: String,
    servers_min: u32,
    servers_max: u32,
    servers: u32,
    decisions: Vec<Decision>,
}

#[derive(Debug, Serialize)]
struct Decision {
    age_seconds: u64,
    before: u32,
    after: u32,
    reason: String,
}

impl State {
    pub(super) fn new(servers: ListServersReply, jobs: ListJobsReply) -> Self {
        State {
            version: servers.version,
            uptime_seconds: servers.uptime_seconds,
            servers: servers.servers.into_iter().map(Server::from).collect(),
            jobs: jobs.jobs.into_iter().map(Job::from).collect(),
            ended: jobs
                .ended
                .into_iter()
                .take(ENDED_MAX)
                .map(Job::from)
                .collect(),
            waiting: jobs.waiting,
            pool: servers.pool.map(Pool::from),
        }
    }
}

impl From<ServerStatus> for Server {
    fn from(status: ServerStatus) -> Self {
        let usage = status.usage.unwrap_or_default();
        let role = match status.role() {
            ServerRole::Metadata => "meta",
            ServerRole::Storage => "storage",
            ServerRole::Unspecified => "unknown",
        };
        let class = status.storage_class().name();
        let leave = status.leave.unwrap_or_default();
        let state = match (status.alive, leave.stage()) {
            (false, _) => "dead",
            (true, LeaveStage::Stays) => "alive",
            (true, LeaveStage::Closed) => "draining",
            (true, LeaveStage::Sealed) => "moving",
            (true, LeaveStage::Gone) => "gone",
        };
        Server {
            server: ServerId(status.server).to_string(),
            role,
            endpoint: status.endpoint,
            tier: status.tier,
            class,
            state,
            silent_ms: status.last_heartbeat_ms_ago,
            leave_reason: leave.reason,
            cpu_fraction: usage.cpu_fraction,
            network_bytes_per_second: usage.network_bytes_per_second,
            operations_per_second: usage.operations_per_second,
            used_bytes: usage.used_bytes,
            reserved_bytes: status.reserved_bytes,
            capacity_bytes: status.capacity_bytes,
        }
    }
}

impl From<JobStatus> for Job {
    fn from(status: JobStatus) -> Self {
        let allocation = status.allocation.unwrap_or_default();
        let map = allocation.weight_map.unwrap_or_default();
        let weights = map.servers.iter().map(|server| u64::from(server.weight));
        let total = weights.sum::<u64>().max(1) as f64;
        let weights = map.servers.into_iter().map(|weighted| {
            let server = weighted.server.unwrap_or_default();
            Weight {
                endpoint: server.endpoint,
                tier: server.tier,
                fraction: f64::from(weighted.weight) / total,
            }
        });
        let epochs = status.epochs.into_iter().map(|epoch| Epoch {
            epoch: epoch.epoch,
            age_seconds: epoch.age_seconds,
            servers: epoch.servers,
            reason: epoch.reason,
        });
        Job {
            job: JobId(status.job).to_string(),
            name: status.name,
            mounts: status.mounts,
            age_seconds: status.age_seconds,
            ended_seconds_ago: status.ended_seconds_ago,
            used_bytes: status.used_bytes,
            capacity_bytes: allocation.capacity_bytes,
            bytes_per_second: status.bytes_per_second,
            bandwidth_bytes_per_second: allocation.bandwidth_bytes_per_second,
            inodes: status.inodes,
            dollars: status.nanodollars as f64 / 1e9,
            dollars_per_hour: status.nanodollars_per_hour as f64 / 1e9,
            epoch: map.epoch,
            weights: weights.collect(),
            epochs: epochs.collect(),
            reasons: allocation.reasons,
        }
    }
}

impl From<PoolStatus> for Pool {
    fn from(pool: PoolStatus) -> Self {
        let decisions = pool.decisions.into_iter().map(|decision| Decision {
            age_seconds: decision.age_seconds,
            before: decision.before,
            after: decision.after,
            reason: decision.reason,
        });
        Pool {
            scaler: pool.scaler,
            servers_min: pool.servers_min,
            servers_max: pool.servers_max,
            servers: pool.servers,
            decisions: decisions.collect(),
        }
    }
}
