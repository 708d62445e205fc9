//! Asking a controller, from tests: a blocking client that knows only the schema.

use std::{future::Future, time::Duration};

use pocket_proto::control::{
    DeregisterJobRequest, JobStatus, ListJobsRequest, ListServersRequest, RegisterJobReply,
    RegisterJobRequest, ServerStatus, controller_client::ControllerClient,
};
use tokio::runtime::{Builder, Runtime};
use tonic::{Status, transport::Channel};

/// No question to a controller may take longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A controller to ask. Each question opens a connection of its own, so that nothing is left over
/// from before a fault.
#[derive(Debug)]
pub struct Control {
    url: String,
    runtime: Runtime,
}

impl Control {
    /// The controller at `endpoint` ("host:port"); it need not live yet.
    pub fn new(endpoint: &str) -> Self {
        Control {
            url: format!("http://{endpoint}"),
            runtime: Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime needs no more than descriptors"),
        }
    }

    /// Every server that it knows.
    pub fn servers(&self) -> Result<Vec<ServerStatus>, Status> {
        self.ask(async |mut client| client.list_servers(ListServersRequest {}).await)
            .map(|reply| reply.servers)
    }

    /// Every job that it knows.
    pub fn jobs(&self) -> Result<Vec<JobStatus>, Status> {
        self.ask(async |mut client| client.list_jobs(ListJobsRequest::default()).await)
            .map(|reply| reply.jobs)
    }

    /// Registers or joins a job.
    pub fn register(&self, request: RegisterJobRequest) -> Result<RegisterJobReply, Status> {
        self.ask(async |mut client| client.register_job(request).await)
    }

    /// Ends a job; whether there was one.
    pub fn deregister(&self, name: &str) -> Result<bool, Status> {
        let request = DeregisterJobRequest {
            name: name.to_owned(),
            job: 0,
        };
        self.ask(async |mut client| client.deregister_job(request).await)
            .map(|reply| reply.existed)
    }

    fn ask<T, F>(&self, question: impl FnOnce(ControllerClient<Channel>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let asked = async {
            let client = ControllerClient::connect(self.url.clone()).await;
            let client = client.map_err(|error| Status::unavailable(error.to_string()))?;
            question(client).await.map(tonic::Response::into_inner)
        };
        let bounded = async { tokio::time::timeout(DEADLINE, asked).await };
        match self.runtime.block_on(bounded) {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded(format!(
                "no answer in {DEADLINE:?}"
            ))),
        }
    }
}
