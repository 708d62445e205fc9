//! `pocket status`: a cluster in a few lines.

use clap::Args;
use pocket_proto::{
    ByteCount,
    control::{PoolStatus, StorageClass},
};
use serde::Serialize;

use super::control::ReadArguments;
use crate::{output, runtime::block_on, units::show_seconds, view::ServerView};

/// Show the state of a cluster in a few lines
#[derive(Args, Debug)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    read: ReadArguments,
}

#[derive(Debug, Default, Serialize)]
struct StatusView {
    controller: String,
    version: String,
    uptime_seconds: u64,
    metadata_servers: Count,
    storage_servers: Count,
    /// Of the storage servers alive, those for jobs that persist.
    long_running_servers: usize,
    /// Of the storage servers alive.
    capacity_bytes: u64,
    reserved_bytes: u64,
    used_bytes: u64,
    jobs: usize,
    mounts: u64,
    /// Absent where nobody starts and ends servers.
    pool: Option<PoolView>,
}

/// Who starts and ends storage servers, and the latest decisions, oldest first.
#[derive(Debug, Serialize)]
struct PoolView {
    scaler: String,
    servers_min: u32,
    servers_max: u32,
    servers: u32,
    decisions: Vec<DecisionView>,
}

#[derive(Debug, Serialize)]
struct DecisionView {
    age_seconds: u64,
    before: u32,
    after: u32,
    reason: String,
}

impl From<PoolStatus> for PoolView {
    fn from(pool: PoolStatus) -> Self {
        let decisions = pool.decisions.into_iter().map(|decision| DecisionView {
            age_seconds: decision.age_seconds,
            before: decision.before,
            after: decision.after,
            reason: decision.reason,
        });
        PoolView {
            scaler: pool.scaler,
            servers_min: pool.servers_min,
            servers_max: pool.servers_max,
            servers: pool.servers,
            decisions: decisions.collect(),
        }
    }
}

#[derive(Debug, Default, Serialize)]
struct Count {
    alive: usize,
    dead: usize,
}

impl StatusArguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let status = block_on(self.ask())?;
        if self.read.json {
            return output::json(&status);
        }
        for (label, value) in status.details() {
            output::line(format_args!("{label:<12}{value}"))?;
        }
        if let Some(pool) = &status.pool {
            pool.print()?;
        }
        Ok(())
    }

    async fn ask(&self) -> anyhow::Result<StatusView> {
        let client = self.read.connect()?;
        let (servers, jobs) = tokio::try_join!(client.list_servers(), client.list_jobs(""))?;
        let mut status = StatusView {
            controller: client.endpoint().to_owned(),
            version: servers.version,
            uptime_seconds: servers.uptime_seconds,
            jobs: jobs.len(),
            mounts: jobs.iter().map(|job| u64::from(job.mounts)).sum(),
            pool: servers.pool.map(PoolView::from),
            ..StatusView::default()
        };
        servers
            .servers
            .into_iter()
            .for_each(|server| status.count(&server.into()));
        Ok(status)
    }
}

impl PoolView {
    fn print(&self) -> anyhow::Result<()> {
        let PoolView {
            scaler,
            servers_min,
            servers_max,
            servers,
            decisions,
        } = self;
        output::line(format_args!(
            "scaler      {scaler}: {servers} of {servers_min} to {servers_max} storage servers"
        ))?;
        for decision in decisions {
            let DecisionView {
                age_seconds,
                before,
                after,
                reason,
            } = decision;
            let ago = show_seconds(*age_seconds);
            output::line(format_args!(
                "  {ago:>7} ago  {before} to {after}: {reason}"
            ))?;
        }
        Ok(())
    }
}

impl StatusView {
    fn count(&mut self, server: &ServerView) {
        let count = match server.role {
            "storage" => &mut self.storage_servers,
            _ => &mut self.metadata_servers,
        };
        match server.alive {
            true => count.alive += 1,
            false => count.dead += 1,
        }
        if server.alive {
            self.capacity_bytes += server.capacity_bytes;
            self.reserved_bytes += server.reserved_bytes;
            if server.role == "storage" {
                self.used_bytes += server.used_bytes;
                let long_running = server.class == StorageClass::LongRunning.name();
                self.long_running_servers += usize::from(long_running);
            }
        }
    }

    fn details(&self) -> [(&'static str, String); 5] {
        let space = format!(
            "{} of {} used, {} reserved by jobs",
            ByteCount(self.used_bytes),
            ByteCount(self.capacity_bytes),
            ByteCount(self.reserved_bytes),
        );
        let controller = format!(
            "{}, version {}, up {}",
            self.controller,
            self.version,
            show_seconds(self.uptime_seconds)
        );
        let long_running = match self.long_running_servers {
            0 => String::new(),
            count => format!(", {count} long-running"),
        };
        [
            ("controller", controller),
            ("metadata", self.metadata_servers.to_string()),
            ("storage", format!("{}{long_running}", self.storage_servers)),
            ("space", space),
            (
                "jobs",
                format!("{}, mounted {} times", self.jobs, self.mounts),
            ),
        ]
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let servers = if self.alive == 1 { "server" } else { "servers" };
        write!(f, "{} {servers} alive", self.alive)?;
        match self.dead {
            0 => Ok(()),
            dead => write!(f, ", {dead} dead"),
        }
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::control::{ServerRole, ServerStatus};

    use super::*;

    #[test]
    fn the_dead_count_but_their_space_does_not() {
        let mut status = StatusView::default();
        let count = |status: &mut StatusView, role: ServerRole, alive, class: StorageClass| {
            let server = ServerStatus {
                role: role.into(),
                storage_class: class.into(),
                alive,
                capacity_bytes: if role == ServerRole::Storage {
                    1 << 30
                } else {
                    0
                },
                ..ServerStatus::default()
            };
            status.count(&server.into());
        };
        count(
            &mut status,
            ServerRole::Storage,
            true,
            StorageClass::Regular,
        );
        count(
            &mut status,
            ServerRole::Storage,
            false,
            StorageClass::LongRunning,
        );
        count(
            &mut status,
            ServerRole::Metadata,
            true,
            StorageClass::Regular,
        );
        let [_, metadata, storage, space, _] = status.details();
        assert_eq!(metadata.1, "1 server alive");
        assert_eq!(storage.1, "1 server alive, 1 dead");
        assert_eq!(space.1, "0B of 1GiB used, 0B reserved by jobs");
        count(
            &mut status,
            ServerRole::Storage,
            true,
            StorageClass::LongRunning,
        );
        let [_, _, storage, ..] = status.details();
        assert_eq!(storage.1, "2 servers alive, 1 dead, 1 long-running");
    }
}
