//! The gRPC service: one call each, and failures as statuses.

use std::sync::Arc;

use pocket_proto::{
    Failure,
    control::{
        DeregisterJobReply, DeregisterJobRequest, DrainServerReply, DrainServerRequest,
        HeartbeatReply, HeartbeatRequest, ListJobsReply, ListJobsRequest, ListRunsReply,
        ListRunsRequest, ListServersReply, ListServersRequest, PoolStatus, RegisterJobReply,
        RegisterJobRequest, RegisterServerReply, RegisterServerRequest, ReportPoolReply,
        controller_server::Controller,
    },
};
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::acting::Acting;

/// Serves [`Acting`] to the world.
pub(crate) struct Service(pub(crate) Arc<Acting>);

#[async_trait::async_trait]
impl Controller for Service {
    async fn register_job(
        &self,
        request: Request<RegisterJobRequest>,
    ) -> Result<Response<RegisterJobReply>, Status> {
        answer(self.0.register_job(request.into_inner()).await)
    }

    async fn deregister_job(
        &self,
        request: Request<DeregisterJobRequest>,
    ) -> Result<Response<DeregisterJobReply>, Status> {
        answer(self.0.deregister_job(request.into_inner()).await)
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsReply>, Status> {
        answer(Ok(self.0.list_jobs(&request.into_inner().name)))
    }

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsReply>, Status> {
        answer(Ok(self.0.list_runs(&request.into_inner().profile)))
    }

    async fn list_servers(
        &self,
        _: Request<ListServersRequest>,
    ) -> Result<Response<ListServersReply>, Status> {
        answer(Ok(self.0.list_servers()))
    }

    async fn drain_server(
        &self,
        request: Request<DrainServerRequest>,
    ) -> Result<Response<DrainServerReply>, Status> {
        answer(self.0.drain_server(&request.into_inner()).await)
    }

    async fn report_pool(
        &self,
        request: Request<PoolStatus>,
    ) -> Result<Response<ReportPoolReply>, Status> {
        self.0.report_pool(request.into_inner());
        answer(Ok(ReportPoolReply {}))
    }

    async fn register_server(
        &self,
        request: Request<RegisterServerRequest>,
    ) -> Result<Response<RegisterServerReply>, Status> {
        let request = request.into_inner();
        answer(
            self.0
                .register_server(&request)
                .map(|()| RegisterServerReply {}),
        )
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatReply>, Status> {
        answer(self.0.heartbeat(request.into_inner()))
    }
}

fn answer<T>(outcome: Result<T, Failure>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|failure| {
        debug!("refused: {failure}");
        failure.into()
    })
}
