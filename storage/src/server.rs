//! A storage server: starts, listens, reports, stops.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use pocket_controller_client::{
    ControllerError, Report, ServerAgent, ServerIdentity, Totals, UsageMeter,
};
use pocket_proto::{
    ByteCount, ClusterKey, Incarnation, ServerId,
    control::{HeartbeatReply, ServerRole},
};
use pocket_wire::{ServerLimits, serve};
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use crate::{
    engine::{BlockEngine, DramEngine},
    fences::Fences,
    leaving::Leaving,
    pace::Paces,
    service::BlockService,
    traffic::Traffic,
};

/// Settings of a storage server.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Where to listen, "host:port"; port 0 takes any.
    pub listen: String,
    /// The server's id.
    pub server: ServerId,
    /// How much it holds.
    pub capacity: ByteCount,
    /// What its network moves, in bytes per second, in and out together: then throughput is planned
    /// and shared fairly. `None`: not known.
    pub bytes_per_second: Option<u64>,
    /// What it holds it on, for placement: "dram".
    pub tier: String,
    /// The cluster's key: credentials of other clusters are refused.
    pub cluster_key: ClusterKey,
    /// The controller to report to, where there is one.
    pub controller: Option<String>,
    /// "host:port" (or "host", with the port listened on) that clients reach this server at, where
    /// it is not the address listened on.
    pub advertise: Option<String>,
}

/// Why a storage server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nothing could be stored.
    #[error("capacity is 0: a storage server needs some, as 4GiB")]
    NoCapacity,
    /// The controller's endpoint makes no sense.
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// The storage server of the DRAM tier.
pub struct StorageServer;

impl StorageServer {
    /// Starts a server; it serves when this returns. A controller that is away is waited for in
    /// the background. Must be called within a tokio runtime.
    pub async fn start(config: StorageConfig) -> Result<RunningServer, StartError> {
        if config.capacity.0 == 0 {
            return Err(StartError::NoCapacity);
        }
        let cannot_listen = |source| StartError::Listen {
            listen: config.listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&config.listen)
            .await
            .map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let endpoint = match &config.advertise {
            None => address.to_string(),
            Some(full) if full.contains(':') => full.clone(),
            Some(host) => format!("{host}:{}", address.port()),
        };
        let engine = Arc::new(DramEngine::new(config.capacity));
        let traffic = Arc::new(Traffic::default());
        let leaving = Arc::new(Leaving::default());
        let paces = Arc::new(Paces::default());
        let incarnation = Incarnation::random();
        let stop = CancellationToken::new();
        let agent = match &config.controller {
            None => None,
            Some(controller) => Some(report(
                controller,
                identity(&config, incarnation, &endpoint),
                Arc::clone(&engine),
                Arc::clone(&traffic),
                (Arc::clone(&leaving), Arc::clone(&paces)),
                stop.clone(),
            )?),
        };
        let service = Arc::new(BlockService {
            engine: Arc::clone(&engine),
            cluster_key: config.cluster_key,
            server: config.server,
            incarnation,
            fences: Fences::new(),
            traffic,
            leaving: Arc::clone(&leaving),
            paces,
        });
        let limits = ServerLimits::default();
        let serving = tokio::spawn(serve(listener, service, limits, stop.clone()));
        info!(server = %config.server, %endpoint, capacity = %config.capacity, "storage server started");
        Ok(RunningServer {
            endpoint,
            server: config.server,
            incarnation,
            engine,
            leaving,
            agent,
            serving,
            stop: stop.drop_guard(),
        })
    }
}

/// A server at work. Dropping it stops it as [`RunningServer::stop`] does, without waiting.
pub struct RunningServer {
    endpoint: String,
    server: ServerId,
    incarnation: Incarnation,
    engine: Arc<DramEngine>,
    leaving: Arc<Leaving>,
    agent: Option<ServerAgent>,
    serving: JoinHandle<()>,
    stop: DropGuard,
}

impl RunningServer {
    /// Where clients reach it, "host:port".
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its id.
    pub fn server_id(&self) -> ServerId {
        self.server
    }

    /// The life of its data.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Bytes charged to the blocks it holds.
    pub fn used_bytes(&self) -> u64 {
        self.engine.usage().used_bytes
    }

    /// Waits until the controller knows this server; returns at once if it has none.
    pub async fn registered(&self) {
        if let Some(agent) = &self.agent {
            agent.registered().await;
        }
    }

    /// Waits until the controller says that nobody needs this server any more: it was drained.
    pub async fn dismissed(&self) {
        self.leaving.dismissed().await;
    }

    /// Ends all connections and frees all blocks; returns when that is done.
    pub async fn stop(self) {
        drop(self.stop);
        if let Some(agent) = self.agent {
            agent.stopped().await;
        }
        // Panics of connections stay in their tasks, so this one has none.
        let _ = self.serving.await;
    }
}

fn identity(config: &StorageConfig, incarnation: Incarnation, endpoint: &str) -> ServerIdentity {
    ServerIdentity {
        server: config.server,
        incarnation,
        role: ServerRole::Storage,
        endpoint: endpoint.to_owned(),
        control_endpoint: String::new(),
        tier: config.tier.clone(),
        capacity_bytes: config.capacity.0,
        bandwidth_bytes_per_second: config.bytes_per_second.unwrap_or(0),
        cluster_key: config.cluster_key.clone(),
    }
}

fn report(
    controller: &str,
    identity: ServerIdentity,
    engine: Arc<DramEngine>,
    traffic: Arc<Traffic>,
    (leaving, paces): (Arc<Leaving>, Arc<Paces>),
    stop: CancellationToken,
) -> Result<ServerAgent, ControllerError> {
    let meter = UsageMeter::new();
    let (told, paced) = (Arc::clone(&leaving), Arc::clone(&paces));
    let reported = Mutex::new(Instant::now());
    let report = move || {
        // Before what is held: nothing is added later to what a leaving server held then.
        let leave = leaving.report();
        let usage = meter.sample(Totals {
            network_bytes: Some(traffic.network_bytes()),
            operations: traffic.operations(),
            used_bytes: engine.usage().used_bytes,
        });
        let elapsed = std::mem::replace(&mut *reported.lock(), Instant::now()).elapsed();
        Report {
            usage,
            leave,
            traffic: paces.report(elapsed),
            ..Report::default()
        }
    };
    let follow = move |reply: HeartbeatReply| {
        paced.limit(&reply.limits, Instant::now());
        told.follow(reply.leave);
    };
    ServerAgent::spawn(controller, identity, report, follow, stop)
}
