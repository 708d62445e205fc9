//! Acting on the state: waits that requests need, and the commands to metadata servers.
//!
//! The one lock guards [`Cluster`] and is never held across an await. Whoever waits for the state
//! to change subscribes before it looks.

mod place;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pocket_metrics::Page;
use pocket_policy::{self as policy, History};
use pocket_proto::{
    ClusterKey, Credential, Failure, JobId, Scope, ServerId, SessionScope, Status,
    control::{
        DeregisterJobReply, DeregisterJobRequest, DrainServerReply, DrainServerRequest,
        HeartbeatReply, HeartbeatRequest, ListJobsReply, ListRunsReply, ListServersReply,
        PoolStatus, RegisterJobReply, RegisterJobRequest, RegisterServerRequest,
    },
};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::place::{Bells, Place};
use crate::{
    ControllerConfig,
    cluster::{Action, Cluster, Command, EndStep, OfTier, RegisterStep},
    metadata::MetadataServers,
};

/// How long a registration waits for servers, room or another registration. With the command
/// that may follow it stays below the 9 s that clients give it.
const REGISTER_PATIENCE: Duration = Duration::from_secs(4);
/// How long a deregistration waits, below the 7 s that clients give it.
const END_PATIENCE: Duration = Duration::from_secs(6);
/// How long a drain waits until the server has heard of it: longer than heartbeats are apart, and
/// below the 5 s that clients give it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// A metadata server answers these from memory.
const COMMAND_DEADLINE: Duration = Duration::from_secs(2);
/// Dropping a job waits for its storage servers.
const DROP_DEADLINE: Duration = Duration::from_millis(5_500);
/// Commands under way at a time, so that a thousand jobs do not fall on a metadata server at once.
const COMMANDS_MAX: usize = 32;
/// Time between two looks at what is to be done.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(200);
/// If so much passes between two looks, the machine stood still and heartbeats are still queued.
const STANDSTILL: Duration = Duration::from_secs(1);

/// A controller's state with what it takes to act on it.
pub(crate) struct Acting {
    cluster: Mutex<Cluster>,
    /// Told after whatever may let a waiting request go on ...
    changes: watch::Sender<()>,
    /// ... and of those that wait for room only the one whose turn it is.
    bells: Bells,
    /// Upkeep has something to do before its time.
    hurry: Notify,
    metadata: Arc<dyn MetadataServers>,
    cluster_key: ClusterKey,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Acting {
    pub(crate) fn new(
        config: &ControllerConfig,
        history: History,
        metadata: Arc<dyn MetadataServers>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Acting {
            cluster: Mutex::new(Cluster::new(config, Instant::now()).with_history(history)),
            changes: watch::Sender::new(()),
            bells: Bells::default(),
            hurry: Notify::new(),
            metadata,
            cluster_key: config.cluster_key.clone(),
            tasks,
            stop,
        }
    }

    pub(crate) async fn register_job(
        self: &Arc<Self>,
        request: RegisterJobRequest,
    ) -> Result<RegisterJobReply, Failure> {
        let terms = policy::check_request(&request)?;
        let give_up = Instant::now() + REGISTER_PATIENCE;
        let mut changes = self.changes.subscribe();
        let mut place = Place::resume(self, &request);
        if request.gives_up {
            return Ok(RegisterJobReply::default());
        }
        loop {
            changes.mark_unchanged();
            let ticket = &mut place.ticket;
            match self.with(|cluster, now| cluster.register_step(&request, &terms, ticket, now)) {
                RegisterStep::Done(reply) => return Ok(self.with_credential(*reply)),
                RegisterStep::Refused(failure) => return Err(failure),
                RegisterStep::Wait(failure, until) if place.ticket.is_none() => {
                    self.wait(&mut changes, until, give_up, failure).await?;
                }
                RegisterStep::Wait(failure, until) => match place.wait(until, failure).await? {
                    None => {}
                    Some(queued) => {
                        return Ok(RegisterJobReply {
                            queued: Some(queued),
                            ..RegisterJobReply::default()
                        });
                    }
                },
                RegisterStep::Create(command) => {
                    if let Some(reply) = self.create(command, give_up).await? {
                        return Ok(self.with_credential(reply));
                    }
                }
            }
        }
    }

    /// Tells a metadata server of a new job. `None`: it did not answer, but there is time to try
    /// another one.
    async fn create(
        self: &Arc<Self>,
        command: Command,
        give_up: Instant,
    ) -> Result<Option<RegisterJobReply>, Failure> {
        let id = command.job;
        // A task of its own: it comes to its end also if the client hangs up.
        let this = Arc::clone(self);
        let outcome = self.tasks.spawn(async move { this.perform(command).await });
        match outcome.await {
            Ok(Ok(())) => Ok(self.with(|cluster, now| cluster.created(id, now))),
            Ok(Err(failure)) if failure.status.is_transient() && Instant::now() < give_up => {
                Ok(None)
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Status::Internal.into()),
        }
    }

    pub(crate) async fn deregister_job(
        &self,
        mut request: DeregisterJobRequest,
    ) -> Result<DeregisterJobReply, Failure> {
        let give_up = Instant::now() + END_PATIENCE;
        let mut changes = self.changes.subscribe();
        let mut existed = false;
        loop {
            changes.mark_unchanged();
            match self.with(|cluster, now| cluster.end_step(&request, now)) {
                EndStep::Gone => return Ok(DeregisterJobReply { existed }),
                EndStep::Stuck(failure) => return Err(failure),
                EndStep::Unknown(failure, settled) => {
                    self.wait(&mut changes, Some(settled), give_up, failure)
                        .await?;
                }
                EndStep::Wait(job, failure) => {
                    existed = true;
                    request.job = job.0;
                    self.hurry.notify_one();
                    self.wait(&mut changes, None, give_up, failure).await?;
                }
            }
        }
    }

    /// Waits for a change or for `until`; fails with `failure` when patience ends.
    async fn wait(
        &self,
        changes: &mut watch::Receiver<()>,
        until: Option<Instant>,
        give_up: Instant,
        failure: Failure,
    ) -> Result<(), Failure> {
        if Instant::now() >= give_up {
            return Err(failure);
        }
        let until = until.unwrap_or(give_up).min(give_up);
        tokio::select! {
            // The sender lives as long as self.
            _ = changes.changed() => Ok(()),
            () = sleep_until(until.into()) => Ok(()),
            () = self.stop.cancelled() => Err(stopping()),
        }
    }

    pub(crate) fn list_jobs(&self, name: &str) -> ListJobsReply {
        self.with(|cluster, now| cluster.list_jobs(name, now))
    }

    pub(crate) fn list_runs(&self, profile: &str) -> ListRunsReply {
        self.with(|cluster, _| cluster.list_runs(profile))
    }

    pub(crate) fn list_servers(&self) -> ListServersReply {
        self.with(|cluster, now| cluster.list_servers(now))
    }

    pub(crate) fn metrics(&self) -> Page {
        self.with(|cluster, now| cluster.metrics(now))
    }

    /// What the living storage servers of each tier hold and move.
    pub(crate) fn tiers(&self) -> BTreeMap<&'static str, OfTier> {
        self.with(|cluster, _| cluster.tiers())
    }

    /// What is remembered of earlier runs, if that is another edition.
    pub(crate) fn history_after(&self, edition: u64) -> Option<History> {
        self.with(|cluster, _| cluster.history_after(edition))
    }

    /// Answers when the server has heard of it, which then keeps it whatever becomes of this
    /// controller, or after a while.
    pub(crate) async fn drain_server(
        &self,
        request: &DrainServerRequest,
    ) -> Result<DrainServerReply, Failure> {
        let give_up = Instant::now() + DRAIN_PATIENCE;
        let mut changes = self.changes.subscribe();
        let reply = self.with(|cluster, now| cluster.drain_server(request, now))?;
        // Jobs get maps without it now, not at the next look.
        self.hurry.notify_one();
        let server = ServerId(reply.server);
        while !self.with(|cluster, _| cluster.has_heard_of_leaving(server)) {
            let silent = Failure::from(Status::Unavailable);
            if self
                .wait(&mut changes, None, give_up, silent)
                .await
                .is_err()
            {
                break;
            }
            changes.mark_unchanged();
        }
        Ok(reply)
    }

    pub(crate) fn report_pool(&self, status: PoolStatus) {
        self.with(|cluster, now| cluster.report_pool(status, now));
    }

    pub(crate) fn register_server(&self, request: &RegisterServerRequest) -> Result<(), Failure> {
        self.check_cluster_credential(&request.credential)?;
        self.with(|cluster, now| cluster.register_server(request, now))
    }

    pub(crate) fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatReply, Failure> {
        self.check_cluster_credential(&request.credential)?;
        Ok(self.with(|cluster, now| cluster.heartbeat(request, now)))
    }

    /// Does what is to be done as time passes, until stopped.
    pub(crate) async fn keep_up(self: Arc<Self>) {
        let mut ticks = interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.hurry.notified() => {}
                () = self.stop.cancelled() => return,
            }
            let gap = last.elapsed();
            last = Instant::now();
            self.keep_up_once(gap);
        }
    }

    fn keep_up_once(self: &Arc<Self>, gap: Duration) {
        let room = COMMANDS_MAX.saturating_sub(self.tasks.len());
        let commands = self.with(|cluster, now| {
            if gap > STANDSTILL {
                cluster.forgive(gap, now);
            }
            cluster.upkeep(now, room)
        });
        for command in commands {
            let this = Arc::clone(self);
            // The outcome is in the state; nobody else waits for it.
            self.tasks.spawn(async move { this.perform(command).await });
        }
    }

    /// Carries a command out and tells the state what came of it.
    async fn perform(&self, command: Command) -> Result<(), Failure> {
        let endpoint = command.endpoint.as_str();
        let (deadline, call) = match command.action.clone() {
            Action::Create(job) | Action::Change(job) => {
                (COMMAND_DEADLINE, self.metadata.create_job(endpoint, *job))
            }
            Action::Drop(servers) => {
                let call = self.metadata.drop_job(endpoint, command.job, servers);
                (DROP_DEADLINE, call)
            }
            Action::SetWeightMap(map) => {
                let call = self.metadata.set_weight_map(endpoint, command.job, map);
                (COMMAND_DEADLINE, call)
            }
        };
        let outcome = tokio::select! {
            outcome = timeout(deadline, call) => outcome.unwrap_or_else(|_| {
                let message =
                    format!("metadata server {endpoint} did not answer within {deadline:?}");
                Err(Failure::new(Status::Unavailable, message))
            }),
            () = self.stop.cancelled() => Err(stopping()),
        };
        self.with(|cluster, now| cluster.finished(&command, outcome.clone(), now));
        self.hurry.notify_one();
        outcome
    }

    fn with_credential(&self, mut reply: RegisterJobReply) -> RegisterJobReply {
        let credential = Credential::issue(&self.cluster_key, Scope::Job(JobId(reply.job)));
        reply.credential = credential.as_bytes().to_vec().into();
        reply
    }

    fn check_cluster_credential(&self, credential: &[u8]) -> Result<(), Failure> {
        let denied = |message: String| Err(Failure::new(Status::Denied, message));
        match Credential::verify(&self.cluster_key, credential) {
            Ok(Scope::Cluster) => Ok(()),
            Ok(Scope::Job(job) | Scope::Session(SessionScope { job, .. })) => denied(format!(
                "the credential of job {job} does not make a server: use the cluster key"
            )),
            Err(error) => denied(error.to_string()),
        }
    }

    /// Looks at the state or changes it; who waits for a change is told of it.
    fn with<T>(&self, act: impl FnOnce(&mut Cluster, Instant) -> T) -> T {
        let (outcome, changed, woken) = {
            let mut cluster = self.cluster.lock();
            let outcome = act(&mut cluster, Instant::now());
            let changed = cluster.take_changed();
            (outcome, changed, cluster.take_woken(changed))
        };
        if changed {
            self.changes.send_replace(());
        }
        self.bells.ring(&woken);
        outcome
    }
}

fn stopping() -> Failure {
    Failure::new(Status::Unavailable, "the controller is stopping")
}
