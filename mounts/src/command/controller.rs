//! `pocket controller`: the controller as a process.

use std::future::pending;
use std::path::PathBuf;

use clap::Args;
use pocket_controller::{Controller, ControllerConfig, RunningController};

use super::{
    server::{Announcement, ServerArguments},
    tiers::TierArguments,
};
use crate::logging::Log;

/// Run a controller: it registers jobs, sizes them and assigns servers
#[derive(Args, Debug)]
pub(super) struct ControllerArguments {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7300")]
    listen: String,

    /// Keep here what earlier runs of jobs needed, which no server could tell a new controller
    #[arg(long, value_name = "FILE", env = "POCKET_STATE")]
    state: Option<PathBuf>,

    /// Serve metrics for Prometheus here, at /metrics; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_METRICS")]
    metrics: Option<String>,

    /// Serve a dashboard here, to everyone who reaches it: it shows names of jobs and servers; port 0
    /// takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_DASHBOARD")]
    dashboard: Option<String>,

    #[command(flatten)]
    tiers: TierArguments,

    #[command(flatten)]
    server: ServerArguments,
}

impl ControllerArguments {
    pub(super) fn run(self, log: Log) -> anyhow::Result<()> {
        let catalogue = self.tiers.read()?;
        let ControllerArguments {
            listen,
            state,
            metrics,
            dashboard,
            tiers: _,
            server,
        } = self;
        server.serve(
            log,
            |cluster_key| async move {
                let config = ControllerConfig {
                    listen,
                    cluster_key,
                    catalogue,
                    state,
                    metrics,
                    dashboard,
                    ..ControllerConfig::default()
                };
                Ok(Controller::start(config).await?)
            },
            |running| {
                vec![Announcement {
                    metrics: running.metrics_endpoint(),
                    dashboard: running.dashboard_endpoint(),
                    ..Announcement::new("controller", running.endpoint())
                }]
            },
            async |_| pending().await,
            RunningController::stop,
        )
    }
}
