//! `pocket meta`: a metadata server as a process.

use clap::Args;
use pocket_meta::{MetaConfig, MetaServer, RunningMeta};

use super::server::{Announcement, MetricsArguments, ServerArguments, advertised};
use crate::{endpoint::ControllerArgument, logging::Log, metrics};

/// Run a metadata server: it holds the names and attributes of jobs
#[derive(Args, Debug)]
pub(super) struct MetaArguments {
    #[command(flatten)]
    control: ControllerArgument,

    /// Where to listen to mounts; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7301")]
    listen: String,

    /// Where to listen to the controller; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7302")]
    control_listen: String,

    /// What others call this host [default: the address that the controller is reached from]
    #[arg(long, value_name = "HOST[:PORT]", env = "POCKET_ADVERTISE")]
    advertise: Option<String>,

    #[command(flatten)]
    metrics: MetricsArguments,

    #[command(flatten)]
    server: ServerArguments,
}

impl MetaArguments {
    pub(super) fn run(self, log: Log) -> anyhow::Result<()> {
        let MetaArguments {
            control: ControllerArgument { controller },
            listen,
            control_listen,
            advertise,
            metrics,
            server,
        } = self;
        server.serve(
            log,
            |cluster_key| async move {
                let config = MetaConfig {
                    advertise: advertised(&listen, advertise, &controller)?,
                    listen,
                    control_listen,
                    cluster_key,
                    controller: Some(controller.to_string()),
                    ..MetaConfig::default()
                };
                let running = MetaServer::start(config).await?;
                let counted = running.metrics().clone();
                let page = move || counted.page();
                let served = metrics::serve(metrics.metrics.as_deref(), page).await?;
                Ok((running, served))
            },
            |(running, served)| {
                vec![Announcement {
                    control_endpoint: Some(running.control_endpoint().to_owned()),
                    metrics: metrics::endpoint(served.as_ref()),
                    ..Announcement::new("meta", running.endpoint())
                }]
            },
            async |(running, _): &(RunningMeta, _)| running.dismissed().await,
            |(running, _served)| running.stop(),
        )
    }
}
