//! How commands reach metadata servers.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;
use pocket_meta_client::MetaControlClient;
use pocket_proto::{
    ClusterKey, Failure, JobId,
    control::CreateJobRequest,
    session::{StorageServer, WeightMap},
};

/// Connections kept; past that all are dropped and opened again as needed.
const CLIENTS_MAX: usize = 1_000;

/// What the controller asks of metadata servers, each named by its endpoint for commands. Every
/// call may be repeated.
#[async_trait]
pub(crate) trait MetadataServers: Send + Sync + 'static {
    /// Opens a namespace.
    async fn create_job(&self, endpoint: &str, job: CreateJobRequest) -> Result<(), Failure>;
    /// Drops a job with its blocks; from the storage servers given if it is not known there.
    async fn drop_job(
        &self,
        endpoint: &str,
        job: JobId,
        storage_servers: Vec<StorageServer>,
    ) -> Result<(), Failure>;
    /// Publishes an epoch.
    async fn set_weight_map(
        &self,
        endpoint: &str,
        job: JobId,
        map: WeightMap,
    ) -> Result<(), Failure>;
}

/// Metadata servers over the wire.
#[derive(Debug)]
pub(crate) struct RemoteMetadataServers {
    cluster_key: ClusterKey,
    clients: Mutex<HashMap<String, MetaControlClient>>,
}

impl RemoteMetadataServers {
    pub(crate) fn new(cluster_key: ClusterKey) -> Self {
        RemoteMetadataServers {
            cluster_key,
            clients: Mutex::new(HashMap::new()),
        }
    }

    fn client(&self, endpoint: &str) -> Result<MetaControlClient, Failure> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(endpoint) {
            return Ok(client.clone());
        }
        let client = MetaControlClient::connect(endpoint, &self.cluster_key)?;
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(endpoint.to_owned(), client.clone());
        Ok(client)
    }
}

#[async_trait]
impl MetadataServers for RemoteMetadataServers {
    async fn create_job(&self, endpoint: &str, job: CreateJobRequest) -> Result<(), Failure> {
        self.client(endpoint)?.create_job(job).await
    }

    async fn drop_job(
        &self,
        endpoint: &str,
        job: JobId,
        storage_servers: Vec<StorageServer>,
    ) -> Result<(), Failure> {
        let client = self.client(endpoint)?;
        client.drop_job(job, storage_servers).await.map(|_| ())
    }

    async fn set_weight_map(
        &self,
        endpoint: &str,
        job: JobId,
        map: WeightMap,
    ) -> Result<(), Failure> {
        self.client(endpoint)?.set_weight_map(job, map).await
    }
}
