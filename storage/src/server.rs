//! A storage server: starts, listens, reports, stops.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use pocket_controller_client::{
    ControllerError, Report, ServerAgent, ServerIdentity, Totals, UsageMeter,
};
use pocket_proto::{
    ByteCount, ClusterKey, Failure, Incarnation, ServerId,
    control::{HeartbeatReply, ServerRole, StorageClass},
};
use pocket_wire::{ServerLimits, serve};
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use crate::{
    calibrate::calibrate,
    engine::{BlockEngine, OpenFailure},
    fences::Fences,
    leaving::Leaving,
    metrics::{Counts, StorageMetrics},
    pace::Paces,
    service::BlockService,
    store::Store,
    turns::Turns,
};

/// Settings of a storage server.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Where to listen, "host:port"; port 0 takes any.
    pub listen: String,
    /// The server's id. On a disk that has blocks it is theirs instead.
    pub server: ServerId,
    /// How much it holds.
    pub capacity: ByteCount,
    /// What it holds it on.
    pub store: Store,
    /// What it moves in a second, in and out together: then throughput is planned, and shared fairly.
    pub bandwidth: StoreBandwidth,
    /// Whether it is there for jobs that persist, or for all others.
    pub class: StorageClass,
    /// The cluster's key: credentials of other clusters are refused.
    pub cluster_key: ClusterKey,
    /// The controller to report to, where there is one.
    pub controller: Option<String>,
    /// "host:port" (or "host", with the port listened on) that clients reach this server at, where
    /// it is not the address listened on.
    pub advertise: Option<String>,
}

/// How it is known what a store moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreBandwidth {
    /// It is not.
    Unknown,
    /// Its operator says so, in bytes per second.
    Said(u64),
    /// It is measured at start, which takes two seconds.
    Measured,
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
    /// The medium cannot be used.
    #[error(transparent)]
    Medium(#[from] OpenFailure),
    /// The medium cannot be measured.
    #[error("cannot measure what the medium moves: {0}")]
    Calibrate(Failure),
    /// The controller's endpoint makes no sense.
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// A storage server of any tier.
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
        let store = config.store.open(config.server, config.capacity).await?;
        let (server, incarnation) = (store.server, store.incarnation);
        let engine = store.engine;
        let bandwidth = match config.bandwidth {
            StoreBandwidth::Unknown => 0,
            StoreBandwidth::Said(bytes) => bytes,
            StoreBandwidth::Measured => calibrate(&engine).await.map_err(StartError::Calibrate)?,
        };
        let counts = Arc::new(Counts::default());
        let leaving = Arc::new(Leaving::default());
        let paces = Arc::new(Paces::default());
        let stop = CancellationToken::new();
        let agent = match &config.controller {
            None => None,
            Some(controller) => Some(report(
                controller,
                identity(&config, (server, incarnation), bandwidth, &endpoint),
                Arc::clone(&engine),
                Arc::clone(&counts),
                (Arc::clone(&leaving), Arc::clone(&paces)),
                stop.clone(),
            )?),
        };
        let service = Arc::new(BlockService {
            engine: Arc::clone(&engine),
            cluster_key: config.cluster_key,
            server,
            incarnation,
            fences: Fences::new(),
            turns: Turns::default(),
            counts: Arc::clone(&counts),
            leaving: Arc::clone(&leaving),
            paces: Arc::clone(&paces),
        });
        let limits = ServerLimits::default();
        let serving = tokio::spawn(serve(listener, service, limits, stop.clone()));
        let (tier, capacity) = (config.store.tier(), config.capacity);
        let class = config.class.name();
        info!(%server, %endpoint, tier, class, %capacity, bandwidth, "storage server started");
        Ok(RunningServer {
            endpoint,
            server,
            incarnation,
            metrics: StorageMetrics {
                tier,
                counts,
                engine: Arc::clone(&engine),
                paces,
            },
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
    metrics: StorageMetrics,
    engine: Arc<dyn BlockEngine>,
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

    /// What it counts, for a page of metrics.
    pub fn metrics(&self) -> &StorageMetrics {
        &self.metrics
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

    /// Ends all connections, and frees all blocks that are in memory; returns when that is done.
    pub async fn stop(self) {
        drop(self.stop);
        if let Some(agent) = self.agent {
            agent.stopped().await;
        }
        // Panics of connections stay in their tasks, so this one has none.
        let _ = self.serving.await;
        let engine = self.engine;
        let stopped = tokio::task::spawn_blocking(move || engine.stop()).await;
        if let Ok(Err(error)) = stopped {
            warn!(%error, "the medium was not left in order: the next start looks through it");
        }
    }
}

fn identity(
    config: &StorageConfig,
    (server, incarnation): (ServerId, Incarnation),
    bandwidth_bytes_per_second: u64,
    endpoint: &str,
) -> ServerIdentity {
    ServerIdentity {
        server,
        incarnation,
        role: ServerRole::Storage,
        endpoint: endpoint.to_owned(),
        control_endpoint: String::new(),
        tier: config.store.tier().to_owned(),
        capacity_bytes: config.capacity.0,
        bandwidth_bytes_per_second,
        class: config.class,
        cluster_key: config.cluster_key.clone(),
    }
}

fn report(
    controller: &str,
    identity: ServerIdentity,
    engine: Arc<dyn BlockEngine>,
    counts: Arc<Counts>,
    (leaving, paces): (Arc<Leaving>, Arc<Paces>),
    stop: CancellationToken,
) -> Result<ServerAgent, ControllerError> {
    let meter = UsageMeter::new();
    let (told, paced) = (Arc::clone(&leaving), Arc::clone(&paces));
    let reported = Mutex::new(Instant::now());
    let report = move || {
        // Before what is held: nothing is added later to what a leaving server held then.
        let leave = leaving.report();
        let held = engine.usage();
        // Placement leaves full servers out, and so one whose medium fails.
        let used_bytes = match engine.medium().failed {
            true => held.capacity_bytes,
            false => held.used_bytes,
        };
        let usage = meter.sample(Totals {
            network_bytes: Some(counts.network_bytes()),
            operations: counts.operations(),
            used_bytes,
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
