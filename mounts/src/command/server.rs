//! What the server commands have in common: they say where they listen, serve until a signal, and
//! stop in an orderly way.

use std::{future::Future, io, net::UdpSocket, process};

use anyhow::{Context, bail};
use clap::Args;
use nix::sys::{prctl, signal::Signal};
use pocket_proto::ClusterKey;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::{
    cluster_key::ClusterKeyArguments, endpoint::ControllerAddress, logging::Log, output, runtime,
    signals::Signals,
};

/// Arguments of every server.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerArguments {
    #[command(flatten)]
    key: ClusterKeyArguments,

    /// Say as one line of JSON where this server listens, once it does
    #[arg(long)]
    json: bool,

    /// End when this process does
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<u32>,
}

/// Where a server serves what it counts.
#[derive(Args, Clone, Debug)]
pub(super) struct MetricsArguments {
    /// Serve metrics for Prometheus here, at /metrics; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", env = "POCKET_METRICS")]
    pub(super) metrics: Option<String>,
}

/// Where a server listens, as it says itself when it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement {
    /// "controller", "meta" or "storage".
    pub(super) role: String,
    /// "host:port", with the real port.
    pub(super) endpoint: String,
    /// Metadata servers: where the controller reaches it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) control_endpoint: Option<String>,
    /// Where it serves its dashboard.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) dashboard: Option<String>,
    /// Where it serves metrics.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) metrics: Option<String>,
    /// The process.
    pub(super) pid: u32,
}

impl Announcement {
    /// An announcement of this process.
    pub(super) fn new(role: &str, endpoint: &str) -> Self {
        Announcement {
            role: role.to_owned(),
            endpoint: endpoint.to_owned(),
            control_endpoint: None,
            dashboard: None,
            metrics: None,
            pid: process::id(),
        }
    }

    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        output::line(format_args!(
            "pocket {} listens on {}",
            self.role, self.endpoint
        ))?;
        if let Some(metrics) = &self.metrics {
            output::line(format_args!("metrics are at http://{metrics}/metrics"))?;
        }
        if let Some(dashboard) = &self.dashboard {
            output::line(format_args!("the dashboard is at http://{dashboard}/"))?;
        }
        Ok(())
    }
}

impl ServerArguments {
    /// Runs a server: starts it, announces it, and stops it when a signal asks for that or it is
    /// `over`.
    pub(super) fn serve<S, Starting, Stopping>(
        self,
        log: Log,
        start: impl FnOnce(ClusterKey) -> Starting,
        announcements: impl FnOnce(&S) -> Vec<Announcement>,
        over: impl AsyncFnOnce(&S),
        stop: impl FnOnce(S) -> Stopping,
    ) -> anyhow::Result<()>
    where
        Starting: Future<Output = anyhow::Result<S>>,
        Stopping: Future<Output = ()>,
    {
        if let Some(parent) = self.parent {
            end_with(parent)?;
        }
        let key = self.key.read()?;
        runtime::block_on(async {
            let mut signals = Signals::listen()?;
            let server = start(key).await?;
            for announcement in announcements(&server) {
                announcement.print(self.json)?;
            }
            tokio::select! {
                signal = signals.end.received() => info!("{signal}: stopping"),
                () = over(&server) => info!("nobody needs this server any more: stopping"),
                never = log.cycle_on(&mut signals.level) => match never {},
            }
            tokio::select! {
                () = stop(server) => {}
                signal = signals.end.received() => info!("{signal} again: not waiting any longer"),
            }
            Ok(())
        })
    }
}

/// Asks the kernel to end this process together with its parent.
fn end_with(parent: u32) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM).context("cannot follow the parent process")?;
    // It may have died before the kernel was asked.
    if std::os::unix::process::parent_id() != parent {
        bail!("process {parent}, which started this one, is gone");
    }
    Ok(())
}

/// What others should call this host, where it is not the address listened on: as `--advertise`
/// says; for a server that listens on every address, the one that packets to the controller leave
/// from.
pub(super) fn advertised(
    listen: &str,
    advertise: Option<String>,
    controller: &ControllerAddress,
) -> anyhow::Result<Option<String>> {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    if advertise.is_some() || !matches!(host, "0.0.0.0" | "[::]" | "") {
        return Ok(advertise);
    }
    let address = source_address(controller).with_context(|| {
        format!("cannot tell how others reach this host (give --advertise); asked {controller}")
    })?;
    Ok(Some(address))
}

/// Connecting a datagram socket sends nothing; it only chooses a route.
fn source_address(controller: &ControllerAddress) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(controller.as_str())?;
    Ok(socket.local_addr()?.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_as_others_reach_it() {
        let controller = "127.0.0.1:7300".parse().unwrap();
        for (listen, advertise, called) in [
            ("127.0.0.1:9", None, None),
            ("0.0.0.0:9", None, Some("127.0.0.1")),
            ("0.0.0.0:9", Some("node-7"), Some("node-7")),
            ("127.0.0.1:9", Some("node-7:10"), Some("node-7:10")),
        ] {
            let advertise = advertise.map(str::to_owned);
            let found = advertised(listen, advertise, &controller).unwrap();
            assert_eq!(found.as_deref(), called, "{listen}");
        }
    }
}
