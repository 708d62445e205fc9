//! Jobs and servers as commands show them: the fields of `--json`, and the rows of tables.
//!
//! Names and units of the JSON are an interface: byte counts and seconds, ids as hexadecimal text.

use pocket_proto::{
    Bandwidth, ByteCount, JobId, ServerId,
    control::{JobStatus, Leave, LeaveStage, ServerRole, ServerStatus, StorageClass, Usage},
};
use serde::Serialize;

use crate::{output::Column, units::show_seconds};

/// A job as the controller sees it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JobView {
    job: String,
    name: String,
    mounts: u32,
    used_bytes: u64,
    peak_used_bytes: u64,
    inodes: u64,
    capacity_bytes: u64,
    bandwidth_bytes_per_second: u64,
    hints: HintsView,
    age_seconds: u64,
    lease_seconds: u64,
    keep: bool,
    persist: bool,
    delete_after_read: bool,
    /// Absent while the job is mounted or kept.
    lapses_in_seconds: Option<u64>,
    metadata_server: String,
    weight_map_epoch: u32,
    weights: Vec<WeightView>,
    epochs: Vec<EpochView>,
    reasons: Vec<String>,
    profile: String,
    /// By the price table.
    dollars_per_hour: f64,
    dollars: f64,
    /// In and out, of all storage servers together.
    used_bytes_per_second: u64,
    peak_used_bytes_per_second: u64,
    reserved_bytes: u64,
    reserved_bytes_per_second: u64,
    tiers: Vec<TierUseView>,
    /// Absent while it lives.
    ended_seconds_ago: Option<u64>,
}

/// What a job is billed for on a tier: what was reserved for it, times seconds.
#[derive(Clone, Debug, Serialize)]
struct TierUseView {
    tier: String,
    byte_seconds: u64,
    bandwidth_bytes: u64,
}

/// An edition of the weight map.
#[derive(Clone, Debug, Serialize)]
struct EpochView {
    epoch: u32,
    age_seconds: u64,
    servers: u32,
    reason: String,
}

#[derive(Clone, Debug, Serialize)]
struct HintsView {
    latency_sensitive: Option<bool>,
    max_tasks: Option<u32>,
    capacity_bytes: Option<u64>,
    bandwidth_bytes_per_second: Option<u64>,
    capacity_bytes_max: Option<u64>,
    task_capacity_bytes: Option<u64>,
    task_bandwidth_bytes_per_second: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct WeightView {
    server: String,
    endpoint: String,
    tier: String,
    /// Of the job's data.
    fraction: f64,
}

impl From<JobStatus> for JobView {
    fn from(status: JobStatus) -> Self {
        let hints = status.hints.unwrap_or_default();
        let allocation = status.allocation.unwrap_or_default();
        let map = allocation.weight_map.unwrap_or_default();
        let total: u64 = map
            .servers
            .iter()
            .map(|server| u64::from(server.weight))
            .sum();
        let weights = map.servers.into_iter().map(|weighted| {
            let server = weighted.server.unwrap_or_default();
            WeightView {
                server: ServerId(server.server).to_string(),
                endpoint: server.endpoint,
                tier: server.tier,
                fraction: f64::from(weighted.weight) / total.max(1) as f64,
            }
        });
        let epochs = status.epochs.into_iter().map(|epoch| EpochView {
            epoch: epoch.epoch,
            age_seconds: epoch.age_seconds,
            servers: epoch.servers,
            reason: epoch.reason,
        });
        let tiers = status.tiers.into_iter().map(|used| TierUseView {
            tier: used.tier,
            byte_seconds: used.byte_seconds,
            bandwidth_bytes: used.bandwidth_bytes,
        });
        let dollars = |nanodollars: u64| nanodollars as f64 / 1e9;
        JobView {
            job: JobId(status.job).to_string(),
            name: status.name,
            mounts: status.mounts,
            used_bytes: status.used_bytes,
            peak_used_bytes: status.peak_used_bytes,
            inodes: status.inodes,
            capacity_bytes: allocation.capacity_bytes,
            bandwidth_bytes_per_second: allocation.bandwidth_bytes_per_second,
            hints: HintsView {
                latency_sensitive: hints.latency_sensitive,
                max_tasks: hints.max_tasks,
                capacity_bytes: hints.capacity_bytes,
                bandwidth_bytes_per_second: hints.bandwidth_bytes_per_second,
                capacity_bytes_max: hints.capacity_bytes_max,
                task_capacity_bytes: hints.task_capacity_bytes,
                task_bandwidth_bytes_per_second: hints.task_bandwidth_bytes_per_second,
            },
            age_seconds: status.age_seconds,
            lease_seconds: status.lease_seconds,
            keep: status.keep,
            persist: status.persist,
            delete_after_read: status.delete_after_read,
            lapses_in_seconds: (status.lapses_in_seconds > 0).then_some(status.lapses_in_seconds),
            metadata_server: ServerId(status.metadata_server).to_string(),
            weight_map_epoch: map.epoch,
            weights: weights.collect(),
            epochs: epochs.collect(),
            reasons: allocation.reasons,
            profile: status.profile,
            dollars_per_hour: dollars(status.nanodollars_per_hour),
            dollars: dollars(status.nanodollars),
            used_bytes_per_second: status.bytes_per_second,
            peak_used_bytes_per_second: status.peak_bytes_per_second,
            reserved_bytes: status.reserved_bytes,
            reserved_bytes_per_second: status.reserved_bytes_per_second,
            tiers: tiers.collect(),
            ended_seconds_ago: status.ended.then_some(status.ended_seconds_ago),
        }
    }
}

impl JobView {
    pub(crate) const COLUMNS: [Column; 8] = [
        Column::Text("JOB"),
        Column::Figure("MOUNTS"),
        Column::Figure("USED"),
        Column::Figure("CAPACITY"),
        Column::Figure("FILES"),
        Column::Figure("AGE"),
        Column::Figure("COST"),
        Column::Text("ENDS"),
    ];

    pub(crate) fn row(&self) -> [String; 8] {
        [
            self.name.clone(),
            self.mounts.to_string(),
            ByteCount(self.used_bytes).to_string(),
            ByteCount(self.capacity_bytes).to_string(),
            self.inodes.to_string(),
            show_seconds(self.age_seconds),
            format!("${:.4}", self.dollars),
            self.end(),
        ]
    }

    /// Everything, as pairs of a label and a value.
    pub(crate) fn details(&self) -> Vec<(&'static str, String)> {
        let rate = |bytes_per_second| Bandwidth { bytes_per_second }.to_string();
        let cost = match self.ended_seconds_ago {
            Some(_) => format!("${:.4} in all", self.dollars),
            None => format!("${:.4}, ${:.4}/h now", self.dollars, self.dollars_per_hour),
        };
        let mut details = vec![
            ("job", self.name.clone()),
            ("id", self.job.clone()),
            ("mounts", self.mounts.to_string()),
            ("capacity", ByteCount(self.capacity_bytes).to_string()),
            ("used", ByteCount(self.used_bytes).to_string()),
            ("used at most", ByteCount(self.peak_used_bytes).to_string()),
            ("reserved", ByteCount(self.reserved_bytes).to_string()),
            ("files", self.inodes.to_string()),
            ("bandwidth", rate(self.bandwidth_bytes_per_second)),
            ("bandwidth reserved", rate(self.reserved_bytes_per_second)),
            ("moves", rate(self.used_bytes_per_second)),
            ("moved at most", rate(self.peak_used_bytes_per_second)),
            ("hints", self.hints.to_string()),
            ("profile", self.profile.clone()),
            ("cost", cost),
            ("age", show_seconds(self.age_seconds)),
            ("ends", self.end()),
            ("metadata server", self.metadata_server.clone()),
        ];
        details.extend(self.tiers.iter().map(|used| {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let text = format!(
                "{}: {:.1} GB-seconds of capacity, {:.1} GB/s-seconds of bandwidth",
                used.tier,
                gigabytes(used.byte_seconds),
                gigabytes(used.bandwidth_bytes)
            );
            ("reserved in all", text)
        }));
        details.extend(self.weights.iter().map(|weight| {
            let share = format!("{:.1}%", weight.fraction * 100.0);
            (
                "storage server",
                format!("{} {} {share}", weight.endpoint, weight.tier),
            )
        }));
        details.extend(self.epochs.iter().map(|epoch| {
            let since = show_seconds(epoch.age_seconds);
            let servers = epoch.servers;
            let text = format!(
                "{}, {servers} servers, {since} ago: {}",
                epoch.epoch, epoch.reason
            );
            ("epoch", text)
        }));
        details.extend(
            self.reasons
                .iter()
                .map(|reason| ("because", reason.clone())),
        );
        details
    }

    fn end(&self) -> String {
        if let Some(seconds) = self.ended_seconds_ago {
            return format!("{} ago", show_seconds(seconds));
        }
        let kept = if self.persist { "kept, " } else { "" };
        let lease = show_seconds(self.lease_seconds);
        match (self.keep, self.lapses_in_seconds) {
            (true, _) => "kept until deregistered".to_owned(),
            (false, Some(seconds)) => format!("{kept}in {} unless mounted", show_seconds(seconds)),
            (false, None) => format!("{kept}{lease} after its last mount"),
        }
    }
}

impl std::fmt::Display for HintsView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = |bytes_per_second| Bandwidth { bytes_per_second }.to_string();
        let hints = [
            self.max_tasks.map(|tasks| format!("max-tasks {tasks}")),
            self.capacity_bytes
                .map(|bytes| format!("capacity {}", ByteCount(bytes))),
            self.capacity_bytes_max
                .map(|bytes| format!("max-capacity {}", ByteCount(bytes))),
            self.bandwidth_bytes_per_second
                .map(|bytes| format!("bandwidth {}", rate(bytes))),
            self.task_capacity_bytes
                .map(|bytes| format!("task-capacity {}", ByteCount(bytes))),
            self.task_bandwidth_bytes_per_second
                .map(|bytes| format!("task-bandwidth {}", rate(bytes))),
            self.latency_sensitive
                .map(|yes| format!("latency-sensitive {yes}")),
        ];
        let said: Vec<_> = hints.into_iter().flatten().collect();
        f.write_str(if said.is_empty() { "none" } else { "" })?;
        f.write_str(&said.join(", "))
    }
}

/// A metadata or storage server as the controller sees it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServerView {
    server: String,
    pub(crate) role: &'static str,
    endpoint: String,
    tier: String,
    /// What a storage server is there for: "regular" or "long-running"; else empty.
    pub(crate) class: &'static str,
    pub(crate) alive: bool,
    last_heartbeat_ms_ago: u64,
    cpu_fraction: f64,
    network_bytes_per_second: u64,
    operations_per_second: u64,
    pub(crate) used_bytes: u64,
    pub(crate) reserved_bytes: u64,
    pub(crate) capacity_bytes: u64,
    bandwidth_bytes_per_second: u64,
    reserved_bandwidth_bytes_per_second: u64,
    incarnation: String,
    /// Absent while it stays.
    leaving: Option<LeaveView>,
}

/// How far the leaving of a server is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaveView {
    stage: &'static str,
    reason: String,
    since_seconds: u64,
    /// After which its blocks are moved; absent: never.
    deadline_seconds: Option<u64>,
}

impl From<Leave> for LeaveView {
    fn from(leave: Leave) -> Self {
        LeaveView {
            stage: match leave.stage() {
                LeaveStage::Stays => "stays",
                LeaveStage::Closed => "draining",
                LeaveStage::Sealed => "moving",
                LeaveStage::Gone => "gone",
            },
            reason: leave.reason,
            since_seconds: leave.since_seconds,
            deadline_seconds: leave.deadline_seconds,
        }
    }
}

impl std::fmt::Display for LeaveView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} for {}", self.stage, show_seconds(self.since_seconds))
    }
}

impl From<ServerStatus> for ServerView {
    fn from(status: ServerStatus) -> Self {
        let role = role_name(status.role());
        let class = match status.role() {
            ServerRole::Storage => status.storage_class().name(),
            _ => "",
        };
        let Usage {
            cpu_fraction,
            network_bytes_per_second,
            used_bytes,
            operations_per_second,
        } = status.usage.unwrap_or_default();
        ServerView {
            server: ServerId(status.server).to_string(),
            role,
            endpoint: status.endpoint,
            tier: status.tier,
            class,
            alive: status.alive,
            last_heartbeat_ms_ago: status.last_heartbeat_ms_ago,
            cpu_fraction,
            network_bytes_per_second,
            operations_per_second,
            used_bytes,
            reserved_bytes: status.reserved_bytes,
            capacity_bytes: status.capacity_bytes,
            bandwidth_bytes_per_second: status.bandwidth_bytes_per_second,
            reserved_bandwidth_bytes_per_second: status.reserved_bandwidth_bytes_per_second,
            incarnation: pocket_proto::Incarnation(status.incarnation).to_string(),
            leaving: status.leave.map(LeaveView::from),
        }
    }
}

impl ServerView {
    pub(crate) const COLUMNS: [Column; 9] = [
        Column::Text("SERVER"),
        Column::Text("ROLE"),
        Column::Text("TIER"),
        Column::Text("STATE"),
        Column::Figure("CPU"),
        Column::Figure("NETWORK"),
        Column::Figure("USED"),
        Column::Figure("RESERVED"),
        Column::Figure("CAPACITY"),
    ];

    pub(crate) fn row(&self) -> [String; 9] {
        let stores = self.capacity_bytes > 0;
        let bytes = |bytes| match stores {
            true => ByteCount(bytes).to_string(),
            false => "-".to_owned(),
        };
        let rate = Bandwidth {
            bytes_per_second: self.network_bytes_per_second,
        };
        [
            self.endpoint.clone(),
            self.role.to_owned(),
            self.kind(),
            self.state(),
            format!("{:.0}%", self.cpu_fraction * 100.0),
            rate.to_string(),
            bytes(self.used_bytes),
            bytes(self.reserved_bytes),
            bytes(self.capacity_bytes),
        ]
    }

    /// The tier, with the class where that is not the usual one.
    fn kind(&self) -> String {
        match self.class == StorageClass::LongRunning.name() {
            _ if self.tier.is_empty() => "-".to_owned(),
            true => format!("{}, {}", self.tier, self.class),
            false => self.tier.clone(),
        }
    }

    fn state(&self) -> String {
        match (self.alive, &self.leaving) {
            (true, None) => "alive".to_owned(),
            (true, Some(leaving)) => leaving.to_string(),
            (false, _) => format!(
                "dead for {}",
                show_seconds(self.last_heartbeat_ms_ago / 1000)
            ),
        }
    }
}

/// The role's name, as commands are called.
fn role_name(role: ServerRole) -> &'static str {
    match role {
        ServerRole::Metadata => "meta",
        ServerRole::Storage => "storage",
        ServerRole::Unspecified => "unknown",
    }
}

#[cfg(test)]
mod tests;
