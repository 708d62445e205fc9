//! `pocket-scaler`: as many storage servers on Kubernetes as the jobs need.
//!
//! A program of its own, so that whoever does not use Kubernetes does not build its client.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{ArgAction, Parser};
use kube::Client;
use pocket_metrics::{Kind, Metric, MetricsServer, Page};
use pocket_mounts::command_line::{
    ControllerArgument, Log, Signals, Verbosity, block_on, parse_capacity, parse_server_bandwidth,
    parse_time,
};
use pocket_policy::{ScalingSettings, Tier};
use pocket_proto::{Bandwidth, ByteCount, ServerId};
use pocket_scaler::{AutoscaleSettings, Autoscaler, PoolKey, Scaler};
use pocket_scaler_kubernetes::{KubernetesScaler, KubernetesSettings, LeaseSettings};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// A scaler that is gone is replaced after this time: time enough for an API server that is slow.
const LEASE_DURATION: Duration = Duration::from_secs(15);

const LEADER: Metric = Metric {
    name: "pocket_scaler_leader",
    kind: Kind::Gauge,
    unit: "",
    labels: &[],
    help: "1 where this scaler is the one of several that acts",
};

/// Start and drain storage servers on Kubernetes as jobs need them
///
/// The servers are the pods of a StatefulSet. Several of these programs may run; one acts.
/// docs/kubernetes.md tells how all of it is deployed.
#[derive(Debug, Parser)]
#[command(name = "pocket-scaler", version)]
struct Arguments {
    #[command(flatten)]
    control: ControllerArgument,

    /// The namespace of the StatefulSet
    #[arg(long, value_name = "NAME", env = "POCKET_NAMESPACE")]
    namespace: String,

    /// The StatefulSet whose pods are the storage servers
    #[arg(long, value_name = "NAME")]
    statefulset: String,

    /// Their tier; servers of others are left alone
    #[arg(long, value_name = "TIER", default_value = "dram")]
    tier: Tier,

    /// Their node type in the controller's price table [default: the first of the tier]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,

    /// The fewest storage servers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    min: u32,

    /// The most storage servers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    max: u32,

    /// Capacity of each storage server, as its pods are told it
    #[arg(
        long,
        value_name = "SIZE",
        env = "POCKET_STORAGE_CAPACITY",
        value_parser = parse_capacity
    )]
    capacity: ByteCount,

    /// What each storage server moves at most, as its pods are told it [default: not known]
    #[arg(
        long,
        value_name = "RATE",
        env = "POCKET_STORAGE_BANDWIDTH",
        value_parser = parse_server_bandwidth
    )]
    bandwidth: Option<Bandwidth>,

    /// A server that shall go has its blocks moved after this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    drain_deadline: Duration,

    /// The Lease by which one of several scalers is chosen
    #[arg(long, value_name = "NAME", default_value = "pocket-scaler")]
    lease: String,

    /// What this scaler is called in the Lease, before a part that no other has
    #[arg(
        long,
        value_name = "NAME",
        env = "POCKET_SCALER_NAME",
        default_value = "pocket-scaler"
    )]
    name: String,

    /// Serve metrics for Prometheus here, at /metrics; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_METRICS")]
    metrics: Option<String>,

    /// Say more; may be repeated
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pocket-scaler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn run(self) -> anyhow::Result<()> {
        if self.min > self.max {
            bail!("--min {} is more than --max {}", self.min, self.max);
        }
        let log = Log::start(Verbosity::Information, self.verbose)?;
        block_on(async {
            let mut signals = Signals::listen()?;
            let scaler = tokio::select! {
                started = self.start() => started?,
                _ = signals.end.received() => return Ok(()),
            };
            let _metrics = self.serve_metrics(&scaler).await?;
            let client = self.control.connect()?;
            let stop = CancellationToken::new();
            let autoscaler = Autoscaler::new(client, scaler.clone(), self.scaling());
            let running = tokio::spawn(autoscaler.run(stop.clone()));
            tokio::select! {
                signal = signals.end.received() => info!("{signal}: stopping"),
                never = log.cycle_on(&mut signals.level) => match never {},
            }
            stop.cancel();
            running.await.context("the autoscaler failed")?;
            scaler.end().await;
            Ok(())
        })
    }

    async fn start(&self) -> anyhow::Result<KubernetesScaler> {
        let client = Client::try_default().await.context(
            "cannot tell where the API server is: run this in a pod with a service account, or set \
             KUBECONFIG",
        )?;
        let settings = KubernetesSettings {
            namespace: self.namespace.clone(),
            statefulset: self.statefulset.clone(),
            lease: LeaseSettings {
                name: self.lease.clone(),
                // No two lives of a scaler are called the same.
                holder: format!("{}_{}", self.name, ServerId::random()),
                duration: LEASE_DURATION,
            },
        };
        Ok(KubernetesScaler::start(client, settings).await?)
    }

    async fn serve_metrics(
        &self,
        scaler: &KubernetesScaler,
    ) -> anyhow::Result<Option<MetricsServer>> {
        let Some(listen) = &self.metrics else {
            return Ok(None);
        };
        let scaler = scaler.clone();
        let page = move || {
            let mut page = Page::new();
            page.add(&LEADER, &[], f64::from(u8::from(scaler.leads())));
            page
        };
        let server = MetricsServer::start(listen, page).await;
        let server = server.with_context(|| format!("cannot serve metrics on {listen}"))?;
        info!("metrics are at http://{}/metrics", server.address());
        Ok(Some(server))
    }

    fn scaling(&self) -> AutoscaleSettings {
        AutoscaleSettings {
            scaling: ScalingSettings {
                servers_min: self.min,
                servers_max: self.max,
                ..ScalingSettings::default()
            },
            capacity_bytes: self.capacity.0,
            bytes_per_second: self.bandwidth.map_or(0, |rate| rate.bytes_per_second),
            drain_deadline: Some(self.drain_deadline),
            of: PoolKey {
                tier: Some(self.tier),
                ..PoolKey::STORAGE
            },
            node: self.node.clone(),
            cores: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_document_lists_what_the_endpoint_tells() {
        let document = include_str!("../../../docs/metrics.md");
        for row in pocket_metrics::table_rows(&[LEADER]) {
            assert!(document.contains(&row), "{row}");
        }
    }
}
