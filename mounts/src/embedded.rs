//! A whole cluster inside this process: for `pocket-mount` without a controller, and for tests.
//!
//! The roles are the same as in processes of their own and speak over loopback, so that other
//! mounts of this host can join. Its data live as long as this value.

use std::time::Duration;

use pocket_controller::{Controller, ControllerConfig, RunningController};
use pocket_meta::{MetaConfig, MetaServer, RunningMeta};
use pocket_proto::{ByteCount, ClusterKey, ServerId, control::StorageClass};
use pocket_storage::{RunningServer, StorageConfig, StorageServer, Store, StoreBandwidth};
use thiserror::Error;

use crate::machine;

/// Any free port of this host alone.
const LISTEN: &str = "127.0.0.1:0";
/// How long the servers may take to register with a controller in the same process.
const REGISTER_DEADLINE: Duration = Duration::from_secs(10);

/// Settings of an embedded cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Number of storage servers, at least one.
    pub storage_servers: u16,
    /// Capacity of all storage servers together.
    pub capacity: ByteCount,
    /// The secret of the cluster. A job's credential is issued with it; mounts need not know it.
    pub cluster_key: ClusterKey,
    /// A mount that its metadata server has not heard from for so long is ended, in milliseconds;
    /// also the longest lease on names and attributes.
    pub lease_ms: u32,
}

impl Default for ClusterConfig {
    /// One storage server of half the free memory, and a key of its own.
    fn default() -> Self {
        let secret = format!("{}{}", ServerId::random(), ServerId::random());
        ClusterConfig {
            storage_servers: 1,
            capacity: machine::memory_for_stores(),
            cluster_key: ClusterKey::from_passphrase(&secret),
            lease_ms: 5000,
        }
    }
}

/// Why an embedded cluster did not start.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The controller did not.
    #[error(transparent)]
    Controller(#[from] pocket_controller::StartError),
    /// The metadata server did not.
    #[error(transparent)]
    Meta(#[from] pocket_meta::StartError),
    /// A storage server did not.
    #[error(transparent)]
    Storage(#[from] pocket_storage::StartError),
    /// The controller did not hear of all servers in time.
    #[error("the servers did not register within {} s", REGISTER_DEADLINE.as_secs())]
    Late,
}

/// Controller, metadata server and storage servers of this process. Dropping it stops them
/// without waiting.
pub struct Cluster {
    capacity: ByteCount,
    controller: RunningController,
    meta: RunningMeta,
    storage: Vec<RunningServer>,
}

impl Cluster {
    /// Starts every role and waits until the controller knows all servers. Must be called within
    /// a runtime.
    pub async fn start(config: ClusterConfig) -> Result<Self, ClusterError> {
        let controller = Controller::start(ControllerConfig {
            listen: LISTEN.to_owned(),
            cluster_key: config.cluster_key.clone(),
            // No job can be older than this controller.
            settle: Duration::ZERO,
            ..ControllerConfig::default()
        })
        .await?;
        let address = controller.endpoint().to_owned();
        let meta = MetaServer::start(MetaConfig {
            listen: LISTEN.to_owned(),
            control_listen: LISTEN.to_owned(),
            server: ServerId::random(),
            cluster_key: config.cluster_key.clone(),
            controller: Some(address.clone()),
            lease_ms: config.lease_ms,
            advertise: None,
        })
        .await?;
        let servers = u64::from(config.storage_servers.max(1));
        let mut storage = Vec::new();
        for _ in 0..servers {
            let server = StorageServer::start(StorageConfig {
                listen: LISTEN.to_owned(),
                server: ServerId::random(),
                capacity: ByteCount(config.capacity.0.div_ceil(servers)),
                store: Store::Dram,
                bandwidth: StoreBandwidth::Unknown,
                class: StorageClass::Regular,
                cluster_key: config.cluster_key.clone(),
                controller: Some(address.clone()),
                advertise: None,
            });
            storage.push(server.await?);
        }
        let cluster = Cluster {
            capacity: config.capacity,
            controller,
            meta,
            storage,
        };
        cluster.registered().await?;
        Ok(cluster)
    }

    /// Where the controller listens, "host:port".
    pub fn controller(&self) -> &str {
        self.controller.endpoint()
    }

    /// Capacity of all storage servers together.
    pub fn capacity(&self) -> ByteCount {
        self.capacity
    }

    /// The metadata server.
    pub fn meta(&self) -> &RunningMeta {
        &self.meta
    }

    /// The storage servers.
    pub fn storage(&self) -> &[RunningServer] {
        &self.storage
    }

    /// Stops every role and waits until its tasks have ended. All data are gone.
    pub async fn stop(self) {
        self.meta.stop().await;
        for server in self.storage {
            server.stop().await;
        }
        self.controller.stop().await;
    }

    async fn registered(&self) -> Result<(), ClusterError> {
        let registered = async {
            self.meta.registered().await;
            for server in &self.storage {
                server.registered().await;
            }
        };
        let bounded = tokio::time::timeout(REGISTER_DEADLINE, registered).await;
        bounded.map_err(|_| ClusterError::Late)
    }
}
