//! Calls of mounts, of the command line, and of the agent.

use std::time::Duration;

use pocket_proto::control::{
    DeregisterJobRequest, DrainServerReply, DrainServerRequest, HeartbeatReply, HeartbeatRequest,
    JobStatus, ListJobsReply, ListJobsRequest, ListRunsRequest, ListServersReply,
    ListServersRequest, PoolStatus, RegisterJobReply, RegisterJobRequest, RegisterServerRequest,
    Run, controller_client::ControllerClient as Stub, register_job_reply::Queued,
};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{ControllerError, endpoint};

/// A connection that is not up by then is taken for impossible.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Deadline of calls that the controller answers from memory.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// A registration may wait for a controller that has just started to hear from its servers, and
/// for two metadata servers in turn.
const REGISTER_JOB_DEADLINE: Duration = Duration::from_secs(9);
/// A deregistration waits for the storage servers to drop the job's blocks.
const DEREGISTER_JOB_DEADLINE: Duration = Duration::from_secs(7);
/// Heartbeats are due every second and a server counts as dead after three.
const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(2);
/// A registration waits so long for a controller that cannot be reached: as long as one takes to be
/// started again, and not for one that nobody starts.
const AWAY_PATIENCE: Duration = Duration::from_secs(3);
/// Who registers asks again after this when the controller is away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Notices a controller whose machine vanished without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Largest message either way: lists and heartbeats of tens of thousands of jobs.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A client of the controller. Connects when first used and again whenever needed; cheap to clone.
#[derive(Clone, Debug)]
pub struct ControllerClient {
    endpoint: String,
    stub: Stub<Channel>,
}

/// A place in the queue, as it was told last.
struct Place {
    ticket: u64,
    sentence: String,
    /// When patience ends.
    until: Instant,
}

impl Place {
    fn given_up(&self, patience: Duration) -> ControllerError {
        let (place, waited) = (&self.sentence, patience.as_secs());
        ControllerError::Refused {
            status: pocket_proto::Status::NoSpace,
            message: format!("{place} (given up after {waited} s)"),
        }
    }
}

impl ControllerClient {
    /// A client of the controller at `endpoint`: "host:port", "http://host:port" or "host".
    ///
    /// Does no I/O, so it fails only if the endpoint makes no sense. Must be called within a tokio
    /// runtime.
    pub fn connect(endpoint: &str) -> Result<Self, ControllerError> {
        let endpoint = endpoint::parse(endpoint)?;
        let channel = Endpoint::from_shared(format!("http://{endpoint}"))
            .map_err(|error| ControllerError::Endpoint {
                endpoint: endpoint.clone(),
                reason: error.to_string(),
            })?
            .connect_timeout(CONNECT_DEADLINE)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .connect_lazy();
        let stub = Stub::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(ControllerClient { endpoint, stub })
    }

    /// Where the controller is looked for, as "host:port".
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Registers a job or joins the one of that name; returns when the resources exist.
    /// Idempotent by name, so that a controller that ends meanwhile, and is back within seconds, is
    /// asked again.
    pub async fn register_job(
        &self,
        request: RegisterJobRequest,
    ) -> Result<RegisterJobReply, ControllerError> {
        let mut away_since = None;
        loop {
            match self.register_job_once(request.clone()).await {
                Err(error @ ControllerError::Unreachable { .. }) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= AWAY_PATIENCE {
                        return Err(error);
                    }
                    sleep(RETRY_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn register_job_once(
        &self,
        request: RegisterJobRequest,
    ) -> Result<RegisterJobReply, ControllerError> {
        let mut stub = self.stub.clone();
        let call = stub.register_job(request);
        self.within("register-job", REGISTER_JOB_DEADLINE, call)
            .await
    }

    /// The same, and waits in the queue for `patience` where there is no room: who asks keeps its place
    /// and is told of it, and of what is missing, whenever that changes. Dropped, or out of patience, it
    /// leaves the queue at once. A controller that starts anew has it wait at the end.
    pub async fn register_job_in_turn(
        &self,
        request: RegisterJobRequest,
        patience: Duration,
        mut told: impl FnMut(&str),
    ) -> Result<RegisterJobReply, ControllerError> {
        let mut place: Option<Place> = None;
        loop {
            let request = RegisterJobRequest {
                ticket: Some(place.as_ref().map_or(0, |place| place.ticket)),
                ..request.clone()
            };
            let call = self.register_job(request.clone());
            let reply = match &place {
                None => call.await?,
                Some(place) => match timeout_at(place.until, call).await {
                    // A controller that is away, or new, may be back soon.
                    Ok(Err(error)) if error.status() == pocket_proto::Status::Unavailable => {
                        sleep_until(place.until.min(Instant::now() + RETRY_PAUSE)).await;
                        continue;
                    }
                    Ok(reply) => reply?,
                    Err(_) => {
                        // An answer may have crossed it: the place would be kept for a while.
                        let leaves = RegisterJobRequest {
                            gives_up: true,
                            ..request.clone()
                        };
                        let _ = self.register_job_once(leaves).await;
                        return Err(place.given_up(patience));
                    }
                },
            };
            let Some(Queued { ticket, sentence }) = reply.queued else {
                return Ok(reply);
            };
            if place
                .as_ref()
                .is_none_or(|place| place.sentence != sentence)
            {
                told(&sentence);
            }
            let until = place.map_or_else(|| Instant::now() + patience, |place| place.until);
            place = Some(Place {
                ticket,
                sentence,
                until,
            });
        }
    }

    /// Ends a job, by id where not 0, else by name. Says whether there was one. Idempotent.
    pub async fn deregister_job(
        &self,
        request: DeregisterJobRequest,
    ) -> Result<bool, ControllerError> {
        let mut stub = self.stub.clone();
        let call = stub.deregister_job(request);
        let reply = self
            .within("deregister-job", DEREGISTER_JOB_DEADLINE, call)
            .await?;
        Ok(reply.existed)
    }

    /// Every job, oldest first; only the one of that name unless `name` is empty.
    pub async fn list_jobs(&self, name: &str) -> Result<Vec<JobStatus>, ControllerError> {
        Ok(self.survey(name).await?.jobs)
    }

    /// The same with the registrations that wait for room, in their order, and the jobs of that name
    /// that ended lately, the latest first.
    pub async fn survey(&self, name: &str) -> Result<ListJobsReply, ControllerError> {
        let mut stub = self.stub.clone();
        let name = name.to_owned();
        let call = stub.list_jobs(ListJobsRequest { name });
        self.within("list-jobs", CALL_DEADLINE, call).await
    }

    /// What is remembered of the earlier runs of a profile, the oldest first.
    pub async fn list_runs(&self, profile: &str) -> Result<Vec<Run>, ControllerError> {
        let mut stub = self.stub.clone();
        let profile = profile.to_owned();
        let call = stub.list_runs(ListRunsRequest { profile });
        Ok(self.within("list-runs", CALL_DEADLINE, call).await?.runs)
    }

    /// Every server, dead ones for some minutes, and the controller's own version and uptime.
    pub async fn list_servers(&self) -> Result<ListServersReply, ControllerError> {
        let mut stub = self.stub.clone();
        let call = stub.list_servers(ListServersRequest {});
        self.within("list-servers", CALL_DEADLINE, call).await
    }

    /// Has a server leave, or stay after all. Idempotent.
    pub async fn drain_server(
        &self,
        request: DrainServerRequest,
    ) -> Result<DrainServerReply, ControllerError> {
        let mut stub = self.stub.clone();
        let call = stub.drain_server(request);
        self.within("drain-server", CALL_DEADLINE, call).await
    }

    /// Says what whoever starts and ends servers can do and has decided; to be repeated every
    /// second.
    pub async fn report_pool(&self, status: PoolStatus) -> Result<(), ControllerError> {
        let mut stub = self.stub.clone();
        let call = stub.report_pool(status);
        self.within("report-pool", HEARTBEAT_DEADLINE, call).await?;
        Ok(())
    }

    /// Makes a server known. Idempotent. Servers leave this to their [`crate::ServerAgent`].
    pub async fn register_server(
        &self,
        request: RegisterServerRequest,
    ) -> Result<(), ControllerError> {
        let mut stub = self.stub.clone();
        let call = stub.register_server(request);
        self.within("register-server", HEARTBEAT_DEADLINE, call)
            .await?;
        Ok(())
    }

    /// Reports a server's use. Servers leave this to their [`crate::ServerAgent`].
    pub async fn heartbeat(
        &self,
        request: HeartbeatRequest,
    ) -> Result<HeartbeatReply, ControllerError> {
        let mut stub = self.stub.clone();
        let call = stub.heartbeat(request);
        self.within("heartbeat", HEARTBEAT_DEADLINE, call).await
    }

    async fn within<T>(
        &self,
        call: &'static str,
        deadline: Duration,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ControllerError> {
        match timeout(deadline, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(ControllerError::from_grpc(&self.endpoint, &status)),
            Err(_) => Err(ControllerError::Deadline {
                endpoint: self.endpoint.clone(),
                call,
                deadline,
            }),
        }
    }
}
