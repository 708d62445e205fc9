//! Starting and stopping a controller.

use std::{io, sync::Arc, time::Duration};

use pocket_metrics::{HttpServer, MetricsServer};
use pocket_policy::History;
use pocket_proto::control::controller_server::ControllerServer;
use thiserror::Error;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::transport::server::{Server, TcpIncoming};
use tracing::{info, warn};

use crate::{
    ControllerConfig,
    acting::Acting,
    dashboard,
    metadata::{MetadataServers, RemoteMetadataServers},
    service::Service,
    state::{self, StateError},
};

/// Largest message either way: lists and heartbeats of tens of thousands of jobs.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Requests of one connection that are worked on at a time.
const REQUESTS_PER_CONNECTION_MAX: usize = 256;
/// A peer that vanished without a word is noticed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long stopping waits for requests under way; they are told to end at once.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why a controller did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The state of an earlier controller cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The address for metrics cannot be listened on.
    #[error("cannot serve metrics on {listen} ({source}): give another --metrics address")]
    Metrics {
        /// The address asked for.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address for the dashboard cannot be listened on.
    #[error("cannot serve the dashboard on {listen} ({source}): give another --dashboard address")]
    Dashboard {
        /// The address asked for.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {listen} ({source}): --listen takes an address of this machine that is free"
    )]
    Listen {
        /// The address asked for.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts controllers.
#[derive(Debug)]
pub struct Controller;

/// A controller at work. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct RunningController {
    endpoint: String,
    metrics: Option<MetricsServer>,
    dashboard: Option<HttpServer>,
    stop: DropGuard,
    tasks: TaskTracker,
    commands: TaskTracker,
}

impl Controller {
    /// Starts a controller; it serves when this returns.
    pub async fn start(config: ControllerConfig) -> Result<RunningController, StartError> {
        let metadata = RemoteMetadataServers::new(config.cluster_key.clone());
        Self::start_with(config, Arc::new(metadata)).await
    }

    /// Starts a controller with another way to metadata servers.
    pub(crate) async fn start_with(
        config: ControllerConfig,
        metadata: Arc<dyn MetadataServers>,
    ) -> Result<RunningController, StartError> {
        let listen = |source| StartError::Listen {
            listen: config.listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&config.listen).await.map_err(listen)?;
        let endpoint = listener.local_addr().map_err(listen)?.to_string();

        let history = match &config.state {
            Some(path) => state::load(path)?,
            None => History::default(),
        };
        let edition = history.edition();

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let commands = TaskTracker::new();
        let acting = Arc::new(Acting::new(
            &config,
            history,
            metadata,
            commands.clone(),
            stop.clone(),
        ));
        let metrics = match &config.metrics {
            Some(listen) => Some(serve_metrics(listen, &acting).await?),
            None => None,
        };
        let dashboard = match config.dashboard {
            Some(listen) => {
                let served = dashboard::serve(&listen, &acting, &tasks, stop.clone()).await;
                Some(served.map_err(|source| StartError::Dashboard { listen, source })?)
            }
            None => None,
        };
        if let Some(path) = config.state {
            let acting = Arc::clone(&acting);
            let latest = move |edition| acting.history_after(edition);
            tasks.spawn(state::keep(path, edition, latest, stop.clone()));
        }
        tasks.spawn(Arc::clone(&acting).keep_up());
        tasks.spawn(serve(listener, acting, stop.clone()));
        info!(endpoint, "controller started");
        Ok(RunningController {
            endpoint,
            metrics,
            dashboard,
            stop: stop.drop_guard(),
            tasks,
            commands,
        })
    }
}

async fn serve_metrics(listen: &str, acting: &Arc<Acting>) -> Result<MetricsServer, StartError> {
    let acting = Arc::clone(acting);
    let server = MetricsServer::start(listen, move || acting.metrics()).await;
    server.map_err(|source| StartError::Metrics {
        listen: listen.to_owned(),
        source,
    })
}

async fn serve(listener: TcpListener, acting: Arc<Acting>, stop: CancellationToken) {
    let service = ControllerServer::new(Service(acting))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        outcome = server => {
            if let Err(error) = outcome {
                warn!("the controller's server failed: {error}");
            }
        }
        () = overdue => {}
    }
}

impl RunningController {
    /// Where it listens, with the real port: "host:port".
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it serves metrics, with the real port: "host:port".
    pub fn metrics_endpoint(&self) -> Option<String> {
        let metrics = self.metrics.as_ref();
        metrics.map(|metrics| metrics.address().to_string())
    }

    /// Where it serves the dashboard, with the real port: "host:port".
    pub fn dashboard_endpoint(&self) -> Option<String> {
        let dashboard = self.dashboard.as_ref();
        dashboard.map(|dashboard| dashboard.address().to_string())
    }

    /// Stops it and waits until its tasks have ended. Jobs and servers go on without it.
    pub async fn stop(self) {
        drop(self.stop);
        for tasks in [&self.tasks, &self.commands] {
            tasks.close();
            tasks.wait().await;
        }
    }
}
