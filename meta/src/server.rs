//! Starting and stopping a metadata server.

use std::sync::Arc;
use std::time::Duration;

use pocket_controller_client::{
    ControllerError, Report, ServerAgent, ServerIdentity, Totals, UsageMeter,
};
use pocket_proto::control::metadata_control_server::MetadataControlServer;
use pocket_proto::control::{HeartbeatReply, ServerRole, StorageClass};
use pocket_proto::{ClusterKey, ServerId};
use pocket_storage_client::{ClusterStorage, StorageClientOptions};
use pocket_wire::{ServerLimits, serve};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::server::{Server, TcpIncoming};
use tracing::{info, warn};

use crate::blocks::BlockRemover;
use crate::control::ControlService;
use crate::environment::Environment;
use crate::evacuation::Evacuation;
use crate::jobs::Jobs;
use crate::limits::ORPHAN_GRACE;
use crate::metrics::MetaMetrics;
use crate::service::MetaService;

/// Longest request of a mount: an extended attribute's value and name, with room to spare.
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// How long stopping waits for the controller's commands under way.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// A controller that vanished without a word is noticed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The shortest lease time: below, signs of life come too late on a busy machine.
const LEASE_MS_MIN: u32 = 50;

/// What a metadata server has to know.
#[derive(Clone, Debug)]
pub struct MetaConfig {
    /// Where to listen to mounts, "host:port"; port 0 takes any.
    pub listen: String,
    /// Where to listen to the controller, "host:port"; port 0 takes any.
    pub control_listen: String,
    /// The server's id.
    pub server: ServerId,
    /// The cluster's key: credentials of other clusters are refused.
    pub cluster_key: ClusterKey,
    /// The controller to report to, where there is one.
    pub controller: Option<String>,
    /// A mount not heard of for so many milliseconds is ended; also the longest lease.
    pub lease_ms: u32,
    /// "host:port" (or "host", with the port listened on) that mounts reach this server at, and
    /// "host" that the controller does, where it is not the address listened on.
    pub advertise: Option<String>,
}

impl Default for MetaConfig {
    fn default() -> Self {
        MetaConfig {
            listen: "0.0.0.0:7301".to_owned(),
            control_listen: "0.0.0.0:7302".to_owned(),
            server: ServerId::random(),
            cluster_key: ClusterKey::open(),
            controller: None,
            lease_ms: 5000,
            advertise: None,
        }
    }
}

/// Why a metadata server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Sessions would end all the time.
    #[error("a lease of {0} ms is too short: use {LEASE_MS_MIN} ms or more")]
    Lease(u32),
    /// The controller's endpoint makes no sense.
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// Starts metadata servers.
#[derive(Debug)]
pub struct MetaServer;

/// A metadata server at work. Dropping it stops it as [`RunningMeta::stop`] does, without waiting.
pub struct RunningMeta {
    endpoint: String,
    control_endpoint: String,
    metrics: MetaMetrics,
    environment: Arc<Environment>,
    agent: Option<ServerAgent>,
    tasks: TaskTracker,
    stop: DropGuard,
}

/// A port that is listened on, and what others call it.
struct Port {
    listener: TcpListener,
    endpoint: String,
}

impl MetaServer {
    /// Starts a server; it serves when this returns. A controller that is away is waited for in
    /// the background. Must be called within a tokio runtime.
    pub async fn start(config: MetaConfig) -> Result<RunningMeta, StartError> {
        let storage = ClusterStorage::new(&config.cluster_key, StorageClientOptions::default());
        Self::start_with(config, Arc::new(storage)).await
    }

    /// As [`MetaServer::start`], with another way to drop blocks.
    pub async fn start_with(
        config: MetaConfig,
        blocks: Arc<dyn BlockRemover>,
    ) -> Result<RunningMeta, StartError> {
        if config.lease_ms < LEASE_MS_MIN {
            return Err(StartError::Lease(config.lease_ms));
        }
        let mounts = Port::open(&config.listen, config.advertise.as_deref()).await?;
        let advertised_host = config.advertise.as_deref().map(host_of);
        let control = Port::open(&config.control_listen, advertised_host).await?;

        let stop = CancellationToken::new();
        let environment = Environment::new(blocks, stop.clone());
        let lease = Duration::from_millis(u64::from(config.lease_ms));
        let jobs = Arc::new(Jobs::new(lease, ORPHAN_GRACE, Arc::clone(&environment)));
        let incarnation = environment.vouching.issuer;
        let service = Arc::new(MetaService::new(
            Arc::clone(&jobs),
            config.cluster_key.clone(),
            config.server,
            incarnation,
            Arc::clone(&environment.counts),
        ));
        let identity = ServerIdentity {
            server: config.server,
            incarnation,
            role: ServerRole::Metadata,
            endpoint: mounts.endpoint.clone(),
            control_endpoint: control.endpoint.clone(),
            tier: String::new(),
            capacity_bytes: 0,
            bandwidth_bytes_per_second: 0,
            class: StorageClass::Regular,
            cluster_key: config.cluster_key.clone(),
        };
        let agent = match &config.controller {
            Some(controller) => Some(report(controller, identity, &jobs, &environment)?),
            None => None,
        };
        let metrics = MetaMetrics {
            jobs: Arc::clone(&jobs),
            environment: Arc::clone(&environment),
        };
        info!(server = %config.server, endpoint = mounts.endpoint,
            control_endpoint = control.endpoint, "metadata server started");

        let tasks = TaskTracker::new();
        let limits = ServerLimits {
            body_bytes_max: REQUEST_BYTES_MAX,
            ..ServerLimits::default()
        };
        tasks.spawn(serve(mounts.listener, service, limits, stop.clone()));
        let control_service = ControlService {
            jobs: Arc::clone(&jobs),
            cluster_key: config.cluster_key,
        };
        tasks.spawn(serve_control(
            control.listener,
            control_service,
            stop.clone(),
        ));
        tasks.spawn(
            stop.clone()
                .run_until_cancelled_owned(async move { jobs.keep_house().await }),
        );
        Ok(RunningMeta {
            endpoint: mounts.endpoint,
            control_endpoint: control.endpoint,
            metrics,
            environment,
            agent,
            tasks,
            stop: stop.drop_guard(),
        })
    }
}

impl RunningMeta {
    /// Where mounts reach it, "host:port".
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where the controller reaches it, "host:port".
    pub fn control_endpoint(&self) -> &str {
        &self.control_endpoint
    }

    /// What it counts, for a page of metrics.
    pub fn metrics(&self) -> &MetaMetrics {
        &self.metrics
    }

    /// Waits until the controller knows this server; returns at once if it has none.
    pub async fn registered(&self) {
        if let Some(agent) = &self.agent {
            agent.registered().await;
        }
    }

    /// Ends all connections and forgets all jobs; returns when that is done.
    pub async fn stop(self) {
        drop(self.stop);
        if let Some(agent) = self.agent {
            agent.stopped().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.environment.stopped().await;
    }
}

impl Port {
    async fn open(listen: &str, advertise: Option<&str>) -> Result<Port, StartError> {
        let cannot_listen = |source| StartError::Listen {
            listen: listen.to_owned(),
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let endpoint = match advertise {
            None => address.to_string(),
            Some(full) if host_of(full) != full => full.to_owned(),
            Some(host) => format!("{host}:{}", address.port()),
        };
        Ok(Port { listener, endpoint })
    }
}

/// The host of "host:port" or "host", which may be an IPv6 address in brackets.
fn host_of(endpoint: &str) -> &str {
    match endpoint.rsplit_once(':') {
        Some((host, _)) if !endpoint.ends_with(']') => host,
        _ => endpoint,
    }
}

fn report(
    controller: &str,
    identity: ServerIdentity,
    jobs: &Arc<Jobs>,
    environment: &Arc<Environment>,
) -> Result<ServerAgent, ControllerError> {
    let meter = UsageMeter::new();
    let (jobs, counts) = (Arc::clone(jobs), Arc::clone(&environment.counts));
    let evacuation = Evacuation::new(Arc::clone(&jobs), Arc::clone(environment));
    let emptied = Arc::clone(&evacuation);
    let report = move || Report {
        usage: meter.sample(Totals {
            network_bytes: None,
            operations: counts.operations(),
            used_bytes: jobs.allocated_bytes(),
        }),
        jobs: jobs.reports(),
        leave: None,
        traffic: Vec::new(),
        evacuated: emptied.done(),
    };
    let liveness = Arc::clone(&environment.liveness);
    let follow = move |reply: HeartbeatReply| {
        liveness.update(&reply.storage_servers);
        evacuation.follow(reply.evacuate);
    };
    ServerAgent::spawn(
        controller,
        identity,
        report,
        follow,
        environment.stop.clone(),
    )
}

async fn serve_control(listener: TcpListener, service: ControlService, stop: CancellationToken) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(MetadataControlServer::new(service))
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        outcome = server => {
            if let Err(error) = outcome {
                warn!(%error, "the port for controllers failed");
            }
        }
        () = overdue => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_what_stands_before_the_port() {
        for (endpoint, host) in [
            ("node1", "node1"),
            ("node1:7301", "node1"),
            ("10.0.0.1:7301", "10.0.0.1"),
            ("[fd00::1]:7301", "[fd00::1]"),
            ("[fd00::1]", "[fd00::1]"),
        ] {
            assert_eq!(host_of(endpoint), host);
        }
    }
}
