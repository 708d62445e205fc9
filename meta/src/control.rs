//! The controller's commands, over gRPC.

use std::sync::Arc;

use pocket_meta_client::CREDENTIAL_HEADER;
use pocket_proto::control::metadata_control_server::MetadataControl;
use pocket_proto::control::{
    CreateJobReply, CreateJobRequest, DropJobReply, DropJobRequest, SetWeightMapReply,
    SetWeightMapRequest,
};
use pocket_proto::{ClusterKey, Credential, Failure, JobId, Scope, SessionScope, Status};
use tonic::{Request, Response, async_trait};

use crate::jobs::Jobs;

/// The service on the port for controllers.
pub(crate) struct ControlService {
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) cluster_key: ClusterKey,
}

impl ControlService {
    /// Only who knows the cluster's key may command.
    fn authorize<T>(&self, request: &Request<T>) -> Result<(), Failure> {
        let denied = |what: String| Failure::new(Status::Denied, what);
        let credential = request
            .metadata()
            .get_bin(CREDENTIAL_HEADER)
            .and_then(|value| value.to_bytes().ok())
            .ok_or_else(|| denied(format!("no credential in '{CREDENTIAL_HEADER}'")))?;
        match Credential::verify(&self.cluster_key, &credential) {
            Ok(Scope::Cluster) => Ok(()),
            Ok(Scope::Job(job) | Scope::Session(SessionScope { job, .. })) => {
                Err(denied(format!("the credential is job {job}'s only")))
            }
            Err(error) => Err(denied(error.to_string())),
        }
    }
}

#[async_trait]
impl MetadataControl for ControlService {
    async fn create_job(
        &self,
        request: Request<CreateJobRequest>,
    ) -> Result<Response<CreateJobReply>, tonic::Status> {
        self.authorize(&request)?;
        self.jobs.create(request.into_inner())?;
        Ok(Response::new(CreateJobReply {}))
    }

    async fn drop_job(
        &self,
        request: Request<DropJobRequest>,
    ) -> Result<Response<DropJobReply>, tonic::Status> {
        self.authorize(&request)?;
        let jobs = Arc::clone(&self.jobs);
        let request = request.into_inner();
        let job = JobId(request.job);
        // In a task of its own: a caller who hangs up must not leave it half done.
        let existed = tokio::spawn(async move { jobs.end(job, request.storage_servers).await })
            .await
            .map_err(|_| Failure::from(Status::Internal))?;
        Ok(Response::new(DropJobReply { existed }))
    }

    async fn set_weight_map(
        &self,
        request: Request<SetWeightMapRequest>,
    ) -> Result<Response<SetWeightMapReply>, tonic::Status> {
        self.authorize(&request)?;
        let request = request.into_inner();
        let map = request.weight_map.unwrap_or_default();
        self.jobs.set_weight_map(JobId(request.job), map)?;
        Ok(Response::new(SetWeightMapReply {}))
    }
}
