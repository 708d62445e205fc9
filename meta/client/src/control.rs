//! The controller's commands to a metadata server, over gRPC.

use std::time::Duration;

use pocket_proto::control::metadata_control_client::MetadataControlClient;
use pocket_proto::control::{CreateJobRequest, DropJobRequest, SetWeightMapRequest};
use pocket_proto::session::{StorageServer, WeightMap};
use pocket_proto::{ClusterKey, Credential, Failure, JobId, Scope, Status};
use tonic::Request;
use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// The header that carries the caller's credential (cluster scope).
pub const CREDENTIAL_HEADER: &str = "x-pocket-credential-bin";

/// No metadata server on a healthy network takes longer to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Dropping a job waits for its storage servers, each of which has 4 s to answer.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// A controller's way to one metadata server. Connects when first used, and again when lost;
/// cheap to clone.
#[derive(Clone, Debug)]
pub struct MetaControlClient {
    endpoint: String,
    client: MetadataControlClient<Channel>,
    credential: BinaryMetadataValue,
}

impl MetaControlClient {
    /// Prepares to speak to `endpoint` ("host:port"); must be called within a tokio runtime.
    pub fn connect(endpoint: &str, cluster_key: &ClusterKey) -> Result<Self, Failure> {
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))
            .map_err(|error| {
                Failure::new(
                    Status::Invalid,
                    format!("'{endpoint}' is not a metadata server's host:port: {error}"),
                )
            })?
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(CALL_DEADLINE)
            .tcp_nodelay(true)
            .connect_lazy();
        let credential = Credential::issue(cluster_key, Scope::Cluster);
        Ok(MetaControlClient {
            endpoint: endpoint.to_owned(),
            client: MetadataControlClient::new(channel),
            credential: MetadataValue::from_bytes(credential.as_bytes()),
        })
    }

    /// Opens a job's namespace, or changes the limits of a known one.
    pub async fn create_job(&self, job: CreateJobRequest) -> Result<(), Failure> {
        let request = self.request(job);
        match self.client.clone().create_job(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failure(&status)),
        }
    }

    /// Ends a job; true if the server had it. Its blocks are gone from every storage server that
    /// answers: those of the job's maps, or those given if the server does not know the job.
    pub async fn drop_job(
        &self,
        job: JobId,
        storage_servers: Vec<StorageServer>,
    ) -> Result<bool, Failure> {
        let request = self.request(DropJobRequest {
            job: job.0,
            storage_servers,
        });
        match self.client.clone().drop_job(request).await {
            Ok(reply) => Ok(reply.into_inner().existed),
            Err(status) => Err(self.failure(&status)),
        }
    }

    /// Publishes a new epoch of a job's weight map.
    pub async fn set_weight_map(&self, job: JobId, weight_map: WeightMap) -> Result<(), Failure> {
        let request = self.request(SetWeightMapRequest {
            job: job.0,
            weight_map: Some(weight_map),
        });
        match self.client.clone().set_weight_map(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failure(&status)),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert_bin(CREDENTIAL_HEADER, self.credential.clone());
        request
    }

    /// What the server answered, or that it could not be asked; names the endpoint.
    fn failure(&self, status: &tonic::Status) -> Failure {
        let answered = Failure::from_grpc(status);
        let (kind, message) = match &answered {
            Some(failure) => (failure.status, failure.message.as_str()),
            None => (Status::Unavailable, status.message()),
        };
        Failure::new(
            kind,
            format!("metadata server {}: {message}", self.endpoint),
        )
    }
}
