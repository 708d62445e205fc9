//! The steps of registering and of ending a job: each is one look at the state, and says what to
//! wait for if it cannot be done yet.

use std::time::{Duration, Instant};

use pocket_policy::{
    self as policy, Allocation, Demand, JobTerms, MetadataDemand, MetadataLoad, Placement,
    StorageSpace, Ticket,
};
use pocket_proto::{
    Failure, JobId, ServerId, Status,
    control::{
        CreateJobRequest, DeregisterJobRequest, RegisterJobReply, RegisterJobRequest, StorageClass,
    },
};
use tracing::info;

use super::{
    Action, Cluster, Command,
    account::EpochNote,
    jobs::{Job, Phase},
    pool::Offer,
    reservation::Reservation,
    servers::Server,
};

/// More than any cluster runs; bounds what is remembered.
const JOBS_MAX: usize = 100_000;
/// What a metadata server does on one core (paper, section 6.2).
const METADATA_OPERATIONS_PER_SECOND: u64 = 90_000;
/// Inodes that its 16 GB of memory hold at some 400 bytes each (m5.xlarge, as there).
const METADATA_INODES: u64 = 40_000_000;
/// Where no other metadata server answers, one that failed is asked again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a registration does next.
#[derive(Debug)]
pub(crate) enum RegisterStep {
    /// The job runs. The credential is the caller's to add.
    Done(Box<RegisterJobReply>),
    /// Try again after a change or at the time given; if patience ends, fail with this.
    Wait(Failure, Option<Instant>),
    /// The job is [`Phase::Creating`] until the outcome of this is told.
    Create(Command),
    /// It cannot be done.
    Refused(Failure),
}

/// What ending a job does next.
#[derive(Debug)]
pub(crate) enum EndStep {
    /// There is no such job (any more).
    Gone,
    /// This job is ending; wait for a change. If patience ends, fail with this.
    Wait(JobId, Failure),
    /// There is no such job, but a metadata server not heard from yet may have it: try again then.
    /// If patience ends before, fail with this.
    Unknown(Failure, Instant),
    /// It is ending but cannot end soon.
    Stuck(Failure),
}

impl Cluster {
    /// Looks what can be done about `request`, of which `terms` is the checked form. `ticket` is its
    /// place in the queue, kept from step to step and to be given to [`Cluster::leave_queue`] in the
    /// end.
    pub(crate) fn register_step(
        &mut self,
        request: &RegisterJobRequest,
        terms: &JobTerms,
        ticket: &mut Option<Ticket>,
        now: Instant,
    ) -> RegisterStep {
        let step = self.next_step(request, terms, ticket, now);
        match &step {
            // Only joining ends at once.
            RegisterStep::Done(_) => self.decisions.joined += 1,
            RegisterStep::Refused(_) => self.decisions.refused += 1,
            RegisterStep::Wait(..) | RegisterStep::Create(_) => {}
        }
        step
    }

    fn next_step(
        &mut self,
        request: &RegisterJobRequest,
        terms: &JobTerms,
        ticket: &mut Option<Ticket>,
        now: Instant,
    ) -> RegisterStep {
        if let Some(job) = self.jobs.named(&terms.name) {
            let id = job.id;
            return self.join(id, request, now);
        }
        if self.is_settling(now) {
            return RegisterStep::Wait(unsettled(), Some(self.settled_at()));
        }
        if request.existing_only {
            let message = format!(
                "there is no job '{}' to join (pocket jobs lists those there are)",
                terms.name
            );
            return RegisterStep::Refused(Failure::new(Status::NotFound, message));
        }
        self.create(terms, ticket, now)
    }

    fn join(&mut self, id: JobId, request: &RegisterJobRequest, now: Instant) -> RegisterStep {
        let Some(job) = self.jobs.get_mut(id) else {
            return RegisterStep::Refused(Status::Internal.into());
        };
        let name = &job.spec.name;
        if job.phase == Phase::Creating {
            let message = format!("job '{name}' is being created and its metadata server is slow");
            return RegisterStep::Wait(Failure::new(Status::Unavailable, message), None);
        }
        match self.servers.get(job.metadata_server) {
            Some(server) if server.alive => {
                job.touched = now;
                let endpoint = server.endpoint.clone();
                let notice = job.notice_for(request, now);
                RegisterStep::Done(Box::new(reply(job, endpoint, false, notice)))
            }
            silent => {
                let message = format!(
                    "job '{name}' is on a metadata server that is {}: wait until it is back, \
                     or end the job (pocket job deregister {name})",
                    silence(silent, now)
                );
                RegisterStep::Wait(Failure::new(Status::Unavailable, message), None)
            }
        }
    }

    fn create(
        &mut self,
        terms: &JobTerms,
        ticket: &mut Option<Ticket>,
        now: Instant,
    ) -> RegisterStep {
        let unavailable = |message: String| Failure::new(Status::Unavailable, message);
        if self.jobs.len() >= JOBS_MAX {
            let message = format!("the cluster has {JOBS_MAX} jobs, the most there may be");
            return RegisterStep::Refused(Failure::new(Status::LimitReached, message));
        }
        let class = self.class_of_newcomer(terms.persist);
        // Others have waited for longer: nothing to look for.
        if !self.queue.may_go(class, *ticket) {
            let name = &terms.name;
            let why = format!("job '{name}' waits for room, and others have waited for longer");
            return self.wait_in_turn(Failure::new(Status::NoSpace, why), terms, ticket, now);
        }
        let past = self.history.forecast(&terms.profile);
        let demand = policy::demand(&terms.hints, &self.catalogue, past.as_ref());
        if self.servers.alive_metadata().next().is_none() {
            let message = "no metadata server is alive: start one (pocket meta)";
            return RegisterStep::Wait(unavailable(message.into()), None);
        }
        let spaces = self.spaces_for_a_newcomer(class);
        let since = self.waits_since(*ticket);
        let offer = self.offer_of(class, now);
        let explained = |failure| policy::explain_class(failure, class, self.has_long_running());
        match self.place(&terms.name, &demand, &spaces, offer, since, now) {
            Placement::Placed(mut allocation) => {
                if class == StorageClass::LongRunning {
                    let reason = "on long-running servers, as it persists";
                    allocation.reasons.push(reason.to_owned());
                }
                let metadata = MetadataDemand {
                    capacity_bytes: allocation.capacity_bytes,
                    bytes_per_second: allocation.bytes_per_second,
                    tasks: terms.hints.max_tasks,
                    object_bytes: past.as_ref().and_then(|past| measured(past.object_bytes)),
                };
                let server = match self.metadata_server_for_a_job(metadata, now) {
                    Ok(server) => server,
                    Err(step) => return step,
                };
                // What earlier runs used is what is reserved; a run that needs more must not fail for it
                // before the next look, so it may hold what it could without them.
                let without_past = past.is_some().then(|| {
                    let demand = policy::demand(&terms.hints, &self.catalogue, None);
                    policy::allocate(&terms.name, demand, &spaces)
                });
                let may_hold = without_past.and_then(Result::ok);
                let may_hold = may_hold.map_or(0, |allocation| allocation.capacity_bytes);
                let mut reservation =
                    Reservation::new(&demand, &terms.hints, &allocation, may_hold);
                reservation.wait_for(self.there_can_be(class, now));
                let step = self.begin(terms, allocation, reservation, server, now);
                if let RegisterStep::Create(command) = &step
                    && let Some(job) = self.jobs.get_mut(command.job)
                {
                    job.object_bytes = metadata.object_bytes;
                }
                step
            }
            Placement::Start(counts) => {
                let count: u32 = counts.iter().sum();
                let name = &terms.name;
                let why =
                    format!("job '{name}' waits for storage servers that start: {count} more");
                self.wait_in_turn(Failure::new(Status::NoSpace, why), terms, ticket, now)
            }
            Placement::Wait(failure) => self.wait_in_turn(explained(failure), terms, ticket, now),
            Placement::Never(failure) => RegisterStep::Refused(explained(failure)),
        }
    }

    /// Decides about a job that has waited since then: as simulations do, but that here servers may not
    /// come that could be started.
    fn place(
        &self,
        name: &str,
        demand: &Demand,
        spaces: &[StorageSpace],
        offer: Option<Offer>,
        since: Option<Instant>,
        now: Instant,
    ) -> Placement {
        let decide = |offer: Option<Offer>| {
            let market = offer.as_ref().map(|offer| offer.market(&self.catalogue));
            policy::place(name, demand, spaces, market)
        };
        let found = decide(offer);
        let without = offer.and_then(|offer| offer.without_servers(since, now));
        if let (Placement::Start(_), Some(_)) = (&found, without)
            && let placed @ Placement::Placed(_) = decide(without)
        {
            return placed;
        }
        found
    }

    fn begin(
        &mut self,
        terms: &JobTerms,
        allocation: Allocation,
        reservation: Reservation,
        server: ServerId,
        now: Instant,
    ) -> RegisterStep {
        let weights = policy::weights(&allocation.shares);
        let spec = CreateJobRequest {
            job: JobId::random().0,
            name: terms.name.clone(),
            hints: Some(terms.hints),
            capacity_bytes: reservation.capacity_bytes_max,
            bandwidth_bytes_per_second: allocation.bytes_per_second,
            block_bytes: terms.block_bytes.get(),
            weight_map: Some(self.weight_map(1, &weights)),
            lease_seconds: terms.lease.seconds,
            keep: terms.lease.keep,
            reasons: allocation.reasons,
            profile: terms.profile.clone(),
            delete_after_read: terms.delete_after_read,
            persist: terms.persist,
            reservation: Some(reservation.write()),
        };
        let mut job = Job::new(spec.clone(), reservation, server, Phase::Creating, now);
        let bill = self.bill(&allocation.shares);
        job.account.set_bill(bill, now);
        job.account.note_epoch(EpochNote {
            epoch: 1,
            published: now,
            servers: weights.len(),
            reason: "the job was created".to_owned(),
        });
        job.shares = allocation.shares;
        job.notice = allocation.notice;
        job.weighed_for = self.generation;
        let command = self.command(&job, Action::Create(Box::new(spec)));
        self.jobs.insert(job);
        // What others grew by or gave back is this job's from now on.
        self.take_back_lent(now);
        self.set_quotas();
        match command {
            Some(command) => RegisterStep::Create(command),
            None => RegisterStep::Refused(Status::Internal.into()),
        }
    }

    /// The reply for the mount whose registration created the job, if it still runs.
    pub(crate) fn created(&mut self, id: JobId, now: Instant) -> Option<RegisterJobReply> {
        let job = self.jobs.get_mut(id)?;
        if job.phase != Phase::Running {
            return None;
        }
        job.touched = now;
        let endpoint = self.servers.get(job.metadata_server)?.endpoint.clone();
        info!(job = %id, name = job.spec.name, capacity_bytes = job.spec.capacity_bytes,
            metadata = endpoint, "job created");
        Some(reply(job, endpoint, true, job.notice.clone()))
    }

    /// Where such a job goes, or what to wait for.
    fn metadata_server_for_a_job(
        &self,
        demand: MetadataDemand,
        now: Instant,
    ) -> Result<ServerId, RegisterStep> {
        let unavailable = |message: String, until| {
            RegisterStep::Wait(Failure::new(Status::Unavailable, message), until)
        };
        let load = |server: &Server| {
            let jobs = self
                .jobs
                .all()
                .filter(|job| job.metadata_server == server.id);
            let (mut count, mut inodes, mut predicted) = (0, 0u64, 0u64);
            for job in jobs {
                let demand = job.metadata_demand();
                count += 1;
                inodes = inodes.saturating_add(job.inodes.max(demand.inodes()));
                predicted = predicted.saturating_add(demand.operations_per_second());
            }
            MetadataLoad {
                server: server.id,
                jobs: count,
                inodes,
                // What it does now, should that be more than anybody predicted.
                operations_per_second: predicted.max(server.usage.operations_per_second),
                operations_per_second_max: METADATA_OPERATIONS_PER_SECOND,
                inodes_max: METADATA_INODES,
                suspect: server.is_suspect(now),
            }
        };
        let loads = self.servers.alive_metadata().map(load).collect();
        let order = policy::order_of_preference(loads, demand);
        let first = order.first().and_then(|server| self.servers.get(*server));
        let Some(server) = first else {
            let message = "no metadata server is alive: start one (pocket meta)";
            return Err(unavailable(message.to_owned(), None));
        };
        match server.failed_at.map(|at| at + ASK_AGAIN_AFTER) {
            Some(until) if now < until => {
                let endpoint = server.control_endpoint().unwrap_or_default();
                let message =
                    format!("no metadata server answers (the last one asked was {endpoint})");
                Err(unavailable(message, Some(until)))
            }
            _ => Ok(server.id),
        }
    }

    /// Sees to it that a job ends, and looks how far that is. Whoever asks by name goes on with
    /// the id answered: a new job may take the name meanwhile.
    pub(crate) fn end_step(&mut self, request: &DeregisterJobRequest, now: Instant) -> EndStep {
        let found = match request.job {
            0 => self.named_or_ending(&request.name),
            id => self.jobs.get(JobId(id)),
        };
        let Some((id, phase)) = found.map(|job| (job.id, job.phase)) else {
            return match self.is_settling(now) {
                true => EndStep::Unknown(unsettled(), self.settled_at()),
                false => EndStep::Gone,
            };
        };
        if phase == Phase::Running {
            info!(job = %id, "job deregistered");
            self.jobs.end(id, now);
        }
        self.end_of(id, now)
    }

    fn named_or_ending(&self, name: &str) -> Option<&Job> {
        let ending = || self.jobs.ending().find(|job| job.spec.name == name);
        self.jobs.named(name).or_else(ending)
    }

    fn end_of(&self, id: JobId, now: Instant) -> EndStep {
        let Some(job) = self.jobs.get(id) else {
            return EndStep::Gone;
        };
        let name = &job.spec.name;
        let failure = |message: String| Failure::new(Status::Unavailable, message);
        if job.phase == Phase::Creating {
            return EndStep::Wait(id, failure(format!("job '{name}' is only being created")));
        }
        let why = match (self.servers.get(job.metadata_server), &job.last_failure) {
            (Some(server), None) if server.alive => {
                let message = format!("job '{name}' is ending, which takes long");
                return EndStep::Wait(id, failure(message));
            }
            (Some(server), Some(last)) if server.alive => last.message.clone(),
            (server, _) => format!("its metadata server is {}", silence(server, now)),
        };
        EndStep::Stuck(failure(format!(
            "job '{name}' will end as soon as its metadata server lets it ({why})"
        )))
    }
}

/// A figure of earlier runs, of which 0 says that nobody measured it.
pub(super) fn measured(figure: u64) -> Option<u64> {
    (figure > 0).then_some(figure)
}

fn unsettled() -> Failure {
    let message = "the controller has just started and may not know of all jobs yet: \
                   try again in some seconds";
    Failure::new(Status::Unavailable, message)
}

fn reply(job: &Job, metadata_endpoint: String, created: bool, notice: String) -> RegisterJobReply {
    RegisterJobReply {
        job: job.id.0,
        created,
        metadata_endpoint,
        credential: Default::default(),
        allocation: Some(job.allocation()),
        notice,
        queued: None,
    }
}

/// "silent for 12 s (10.0.0.1:7301)".
fn silence(server: Option<&Server>, now: Instant) -> String {
    server.map_or_else(
        || "gone".to_owned(),
        |server| {
            let silent = policy::age(server.silent_for(now));
            format!("silent for {silent} ({})", server.endpoint)
        },
    )
}
