//! `pocket controller`: the controller as a process.

use std::future::pending;

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

    #[command(flatten)]
    tiers: TierArguments,

    #[command(flatten)]
    server: ServerArguments,
}

impl ControllerArguments {
    pub(super) fn run(self, log: Log) -> anyhow::Result<()> {
        let listen = self.listen;
        let catalogue = self.tiers.read()?;
        self.server.serve(
            log,
            |cluster_key| async move {
                let config = ControllerConfig {
                    listen,
                    cluster_key,
                    catalogue,
                    ..ControllerConfig::default()
                };
                Ok(Controller::start(config).await?)
            },
            |running| Announcement::new("controller", running.endpoint()),
            async |_| pending().await,
            RunningController::stop,
        )
    }
}
