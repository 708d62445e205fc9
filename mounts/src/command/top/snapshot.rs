//! A cluster at one moment, and the rows that show it.

use std::{cmp::Reverse, collections::BTreeMap};

use pocket_controller_client::{ControllerClient, ControllerError};
use pocket_proto::{
    Bandwidth, ByteCount,
    control::{JobStatus, ListServersReply, ServerRole, ServerStatus},
};
use serde::Serialize;

use crate::{
    output::{self, Column},
    units::show_seconds,
    view::{JobView, ServerView, role_of_pool},
};

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Name,
    Used,
    Rate,
    Cost,
}

impl Order {
    pub(super) const ALL: [Order; 4] = [Order::Name, Order::Used, Order::Rate, Order::Cost];

    /// Its key and what it is called.
    pub(super) fn key(self) -> (char, &'static str) {
        match self {
            Order::Name => ('n', "name"),
            Order::Used => ('u', "used"),
            Order::Rate => ('r', "rate"),
            Order::Cost => ('c', "cost"),
        }
    }

    /// That of a key.
    pub(super) fn of(letter: char) -> Option<Self> {
        Order::ALL.into_iter().find(|order| order.key().0 == letter)
    }
}

/// What a controller told.
pub(super) struct Snapshot {
    controller: String,
    servers: ListServersReply,
    jobs: Vec<JobStatus>,
    pub(super) waiting: Vec<String>,
}

/// Sums over the living storage servers of a tier.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tier {
    pub(super) tier: String,
    pub(super) servers: usize,
    pub(super) used_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) capacity_bytes: u64,
    pub(super) network_bytes_per_second: u64,
    pub(super) operations_per_second: u64,
}

/// A snapshot for programs.
#[derive(Serialize)]
pub(super) struct SnapshotView {
    controller: String,
    version: String,
    uptime_seconds: u64,
    tiers: Vec<Tier>,
    servers: Vec<ServerView>,
    jobs: Vec<JobView>,
    waiting: Vec<String>,
}

/// A row, its cells by importance, and whether something is wrong with what it shows.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) is_bad: bool,
}

/// Columns of servers by importance.
pub(super) const SERVER_COLUMNS: [&str; 8] = [
    "SERVER", "STATE", "USED", "NETWORK", "TIER", "OPS/S", "CPU", "CAPACITY",
];
/// Columns of jobs by importance.
pub(super) const JOB_COLUMNS: [&str; 8] = [
    "JOB", "USED", "MOVES", "CAPACITY", "COST", "MOUNTS", "FILES", "AGE",
];

impl Snapshot {
    /// Asks a controller.
    pub(super) async fn take(client: &ControllerClient) -> Result<Self, ControllerError> {
        let (servers, jobs) = tokio::try_join!(client.list_servers(), client.survey(""))?;
        Ok(Snapshot {
            controller: client.endpoint().to_owned(),
            servers,
            jobs: jobs.jobs,
            waiting: jobs.waiting,
        })
    }

    /// A line about all.
    pub(super) fn headline(&self) -> String {
        let mounts: u64 = self.jobs.iter().map(|job| u64::from(job.mounts)).sum();
        let nanodollars: u64 = self.jobs.iter().map(|job| job.nanodollars_per_hour).sum();
        format!(
            "pocket {} at {}, up {}; {} jobs, {mounts} mounts, ${:.4}/h",
            self.servers.version,
            self.controller,
            show_seconds(self.servers.uptime_seconds),
            self.jobs.len(),
            nanodollars as f64 / 1e9,
        )
    }

    /// Who starts and ends servers, and the last decision, of each role.
    pub(super) fn pools(&self) -> impl Iterator<Item = String> {
        self.servers.pools.iter().map(|pool| {
            let role = role_of_pool(pool);
            let range = format!(
                "scaler {}: {} of {} to {} {role} servers",
                pool.scaler, pool.servers, pool.servers_min, pool.servers_max
            );
            match pool.decisions.last() {
                None => range,
                Some(last) => {
                    let ago = show_seconds(last.age_seconds);
                    let (before, after) = (last.before, last.after);
                    format!("{range}; {ago} ago {before} to {after}: {}", last.reason)
                }
            }
        })
    }

    pub(super) fn tiers(&self) -> Vec<Tier> {
        let mut tiers: BTreeMap<&str, Tier> = BTreeMap::new();
        let living = self
            .servers
            .servers
            .iter()
            .filter(|server| server.alive && server.role() == ServerRole::Storage);
        for server in living {
            let usage = server.usage.unwrap_or_default();
            let tier = tiers.entry(&server.tier).or_default();
            tier.tier.clone_from(&server.tier);
            tier.servers += 1;
            tier.used_bytes += usage.used_bytes;
            tier.reserved_bytes += server.reserved_bytes;
            tier.capacity_bytes += server.capacity_bytes;
            tier.network_bytes_per_second += usage.network_bytes_per_second;
            tier.operations_per_second += usage.operations_per_second;
        }
        tiers.into_values().collect()
    }

    pub(super) fn server_rows(&self, order: Order) -> Vec<Row> {
        let mut servers: Vec<&ServerStatus> = self.servers.servers.iter().collect();
        let usage = |server: &ServerStatus| server.usage.unwrap_or_default();
        servers.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        match order {
            Order::Name => {}
            Order::Used => servers.sort_by_key(|server| Reverse(usage(server).used_bytes)),
            Order::Rate => {
                servers.sort_by_key(|server| Reverse(usage(server).network_bytes_per_second));
            }
            // What is reserved is what is paid for.
            Order::Cost => servers.sort_by_key(|server| Reverse(server.reserved_bytes)),
        }
        let row = |server: &ServerStatus| {
            let usage = usage(server);
            let [endpoint, role, tier, state, cpu, network, used, _, capacity] =
                ServerView::from(server.clone()).row();
            let tier = if tier == "-" { role } else { tier };
            let operations = usage.operations_per_second.to_string();
            Row {
                cells: vec![
                    endpoint, state, used, network, tier, operations, cpu, capacity,
                ],
                is_bad: !server.alive,
            }
        };
        servers.into_iter().map(row).collect()
    }

    pub(super) fn job_rows(&self, order: Order) -> Vec<Row> {
        let mut jobs: Vec<&JobStatus> = self.jobs.iter().collect();
        jobs.sort_by(|a, b| a.name.cmp(&b.name));
        match order {
            Order::Name => {}
            Order::Used => jobs.sort_by_key(|job| Reverse(job.used_bytes)),
            Order::Rate => jobs.sort_by_key(|job| Reverse(job.bytes_per_second)),
            Order::Cost => jobs.sort_by_key(|job| Reverse(job.nanodollars)),
        }
        let row = |job: &JobStatus| {
            let bytes_per_second = job.bytes_per_second;
            let moves = Bandwidth { bytes_per_second }.to_string();
            let [name, mounts, used, capacity, files, age, cost, _] =
                JobView::from(job.clone()).row();
            Row {
                cells: vec![name, used, moves, capacity, cost, mounts, files, age],
                is_bad: false,
            }
        };
        jobs.into_iter().map(row).collect()
    }

    pub(super) fn to_view(&self) -> SnapshotView {
        let servers = self.servers.servers.iter().cloned();
        SnapshotView {
            controller: self.controller.clone(),
            version: self.servers.version.clone(),
            uptime_seconds: self.servers.uptime_seconds,
            tiers: self.tiers(),
            servers: servers.map(ServerView::from).collect(),
            jobs: self.jobs.iter().cloned().map(JobView::from).collect(),
            waiting: self.waiting.clone(),
        }
    }

    /// Prints it, for whoever has no terminal.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        output::line(self.headline())?;
        for pool in self.pools() {
            output::line(pool)?;
        }
        for tier in self.tiers() {
            output::line(tier.sentence())?;
        }
        for (columns, rows) in [
            (SERVER_COLUMNS, self.server_rows(Order::Used)),
            (JOB_COLUMNS, self.job_rows(Order::Used)),
        ] {
            let mut table = output::table(&columns.map(Column::Text));
            table.add_rows(rows.into_iter().map(|row| row.cells));
            output::line("")?;
            output::print_table(&table)?;
        }
        for sentence in &self.waiting {
            output::line(format_args!("waiting: {sentence}"))?;
        }
        Ok(())
    }
}

impl Tier {
    pub(super) fn sentence(&self) -> String {
        let rate = Bandwidth {
            bytes_per_second: self.network_bytes_per_second,
        };
        format!(
            "{}: {} of {} used, {} reserved, {rate}, {} operations/s, {} servers",
            self.tier,
            ByteCount(self.used_bytes),
            ByteCount(self.capacity_bytes),
            ByteCount(self.reserved_bytes),
            self.operations_per_second,
            self.servers,
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use pocket_proto::control::Usage;

    use super::*;

    pub(in super::super) fn snapshot() -> Snapshot {
        let server = |endpoint: &str, role: ServerRole, used_bytes, alive| ServerStatus {
            endpoint: endpoint.to_owned(),
            role: role.into(),
            tier: match role {
                ServerRole::Storage => "dram".to_owned(),
                _ => String::new(),
            },
            alive,
            capacity_bytes: 1 << 30,
            usage: Some(Usage {
                used_bytes,
                network_bytes_per_second: (1 << 30) - used_bytes,
                ..Usage::default()
            }),
            ..ServerStatus::default()
        };
        let job = |name: &str, used_bytes, nanodollars| JobStatus {
            name: name.to_owned(),
            used_bytes,
            nanodollars,
            ..JobStatus::default()
        };
        Snapshot {
            controller: "127.0.0.1:7300".to_owned(),
            servers: ListServersReply {
                servers: vec![
                    server("a:1", ServerRole::Storage, 1 << 20, true),
                    server("b:2", ServerRole::Storage, 2 << 20, true),
                    server("c:3", ServerRole::Storage, 4 << 20, false),
                    server("d:4", ServerRole::Metadata, 0, true),
                ],
                ..ListServersReply::default()
            },
            jobs: vec![job("sort", 5, 1_000_000_000), job("video", 9, 0)],
            waiting: vec!["1. 'big' waits for 4GiB".to_owned()],
        }
    }

    fn names(rows: Vec<Row>) -> Vec<String> {
        let cells = rows.into_iter().map(|row| row.cells);
        cells.map(|mut cells| cells.remove(0)).collect()
    }

    #[test]
    fn rows_come_in_the_order_asked_for() {
        let snapshot = snapshot();
        let servers = |order| names(snapshot.server_rows(order));
        assert_eq!(servers(Order::Name), ["a:1", "b:2", "c:3", "d:4"]);
        assert_eq!(servers(Order::Used), ["c:3", "b:2", "a:1", "d:4"]);
        assert_eq!(servers(Order::Rate), ["d:4", "a:1", "b:2", "c:3"]);
        let jobs = |order| names(snapshot.job_rows(order));
        assert_eq!(jobs(Order::Used), ["video", "sort"]);
        assert_eq!(jobs(Order::Cost), ["sort", "video"]);
    }

    #[test]
    fn a_tier_is_what_its_living_servers_have() {
        let tiers = snapshot().tiers();
        assert_eq!(tiers.len(), 1);
        assert_eq!((tiers[0].servers, tiers[0].used_bytes), (2, 3 << 20));
        assert!(tiers[0].sentence().contains("3MiB of 2GiB used"));
    }
}
