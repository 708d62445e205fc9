//! The state of the controller: servers, jobs, and what is to be done about them.
//!
//! Plain data under one lock, with the time passed in. Nothing here waits or calls anyone: what
//! is to be done is returned as a [`Command`], and its outcome is told to [`Cluster::finished`].
//! What a job is given is decided in `pocket-policy`.

mod account;
mod classes;
mod heartbeat;
mod jobs;
mod leaving;
mod lent;
mod metrics;
mod pool;
mod registration;
mod reservation;
mod revision;
mod servers;
mod traffic;
mod trimming;
mod upkeep;
mod view;
mod waiting;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use pocket_policy::{
    AdmissionQueue, Catalogue, Cost, History, Share, StorageSpace, Ticket, Weight,
};
use pocket_proto::{
    Failure, JobId, ServerId,
    control::{CreateJobRequest, JobStatus, PoolStatus, RegisterServerRequest},
    session::{StorageServer, WeightMap, WeightedServer},
};

use crate::ControllerConfig;

pub(crate) use self::metrics::OfTier;
pub(crate) use self::registration::{EndStep, RegisterStep};
use self::{
    account::Bill,
    jobs::{Job, Jobs},
    metrics::Decisions,
    servers::{Role, Server, Servers},
    waiting::Waiting,
};

/// A heartbeat may have been written so long before it arrives (its deadline is 2 s): what it says
/// of younger jobs, or of such as ended since, may be outdated.
const REPORT_AGE_MAX: Duration = Duration::from_secs(5);

/// What the controller shall tell a metadata server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) job: JobId,
    pub(crate) server: ServerId,
    /// Where that server takes commands.
    pub(crate) endpoint: String,
    pub(crate) action: Action,
}

/// The commands there are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Create(Box<CreateJobRequest>),
    /// With the storage servers alive, for a metadata server that lost the job.
    Drop(Vec<StorageServer>),
    SetWeightMap(WeightMap),
    /// The job as it shall be from now on: its capacity and map.
    Change(Box<CreateJobRequest>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    started: Instant,
    heartbeat_timeout: Duration,
    forget_after: Duration,
    settle: Duration,
    servers: Servers,
    jobs: Jobs,
    /// Node types and prices.
    catalogue: Catalogue,
    /// The peaks of jobs that ended.
    history: History,
    /// Registrations that wait for room.
    queue: AdmissionQueue,
    /// What they wait with, in their order.
    waiting: BTreeMap<Ticket, Waiting>,
    /// Their places by their keys.
    places: HashMap<u64, Ticket>,
    /// Names of jobs that were created since the last look at who waits.
    registered: Vec<String>,
    /// Who starts and ends storage servers, and when that was last heard.
    pool: Option<(PoolStatus, Instant)>,
    /// Jobs that moved anything on a storage server, as it last said.
    moving: HashMap<ServerId, Vec<JobId>>,
    /// When running jobs were last compared with their reservations.
    revised: Option<Instant>,
    /// Jobs as they were at their end, the latest first.
    last_seen: VecDeque<(Instant, JobStatus)>,
    decisions: Decisions,
    /// What jobs that are gone have cost.
    spent: Cost,
    /// Ids of jobs that ended lately, against reports that are older than that.
    ended: HashMap<JobId, Instant>,
    /// Grows whenever other storage servers live than before.
    generation: u64,
    /// Something happened that a waiting request may have waited for.
    changed: bool,
}

impl Cluster {
    pub(crate) fn new(config: &ControllerConfig, now: Instant) -> Self {
        Cluster {
            started: now,
            heartbeat_timeout: config.heartbeat_timeout,
            forget_after: config.forget_after,
            settle: config.settle,
            servers: Servers::default(),
            jobs: Jobs::default(),
            catalogue: config.catalogue.clone(),
            history: History::default(),
            queue: AdmissionQueue::default(),
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            registered: Vec::new(),
            pool: None,
            moving: HashMap::new(),
            revised: None,
            last_seen: VecDeque::new(),
            decisions: Decisions::default(),
            spent: Cost::default(),
            ended: HashMap::new(),
            generation: 1,
            changed: false,
        }
    }

    /// The same with what is remembered of earlier runs.
    pub(crate) fn with_history(self, history: History) -> Self {
        Cluster { history, ..self }
    }

    /// What is remembered of earlier runs, if that is another edition.
    pub(crate) fn history_after(&self, edition: u64) -> Option<History> {
        (self.history.edition() != edition).then(|| self.history.clone())
    }

    /// Takes the registration of a server. Idempotent.
    pub(crate) fn register_server(
        &mut self,
        request: &RegisterServerRequest,
        now: Instant,
    ) -> Result<(), Failure> {
        if self.servers.register(Server::read(request, now)?)? {
            self.storage_changed();
        }
        self.changed = true;
        Ok(())
    }

    /// Whether something happened since the last call that a waiting request may wait for.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn storage_changed(&mut self) {
        self.generation += 1;
        self.changed = true;
        // Who found no room may find some now.
        self.jobs.look_again();
        self.sort_queue();
        self.trim_promises();
    }

    /// Whether servers of an earlier controller may not have reported yet.
    fn is_settling(&self, now: Instant) -> bool {
        now < self.settled_at()
    }

    fn settled_at(&self) -> Instant {
        self.started + self.settle
    }

    /// The living storage servers as policy sees them.
    fn spaces(&self) -> Vec<StorageSpace> {
        self.as_spaces(self.servers.staying_storage())
    }

    fn as_spaces<'a>(&self, servers: impl Iterator<Item = &'a Server>) -> Vec<StorageSpace> {
        let space = |server: &Server| match server.role {
            Role::Storage {
                tier,
                capacity_bytes,
                bytes_per_second,
                ..
            } => Some(StorageSpace {
                server: server.id,
                tier,
                node: None,
                capacity_bytes,
                reserved_bytes: self.jobs.ledger().reserved_bytes(server.id),
                // Nothing more goes to a server that is nearly full, if others have room.
                used_bytes: match server.full {
                    true => capacity_bytes,
                    false => server.usage.used_bytes,
                },
                bytes_per_second,
                reserved_bytes_per_second: self.jobs.ledger().reserved_bytes_per_second(server.id),
            }),
            Role::Metadata { .. } => None,
        };
        servers.filter_map(space).collect()
    }

    /// The weight map as mounts see it.
    fn weight_map(&self, epoch: u32, weights: &[Weight]) -> WeightMap {
        let servers = weights.iter().filter_map(|weight| {
            Some(WeightedServer {
                server: Some(self.servers.get(weight.server)?.to_storage_server()),
                weight: weight.weight,
                stands_for: 0,
            })
        });
        WeightMap {
            epoch,
            servers: servers.collect(),
            edition: 0,
        }
    }

    /// What these shares cost, by the first node type of each tier in the price table.
    fn bill(&self, shares: &[Share]) -> Bill {
        let mut bill = Bill::default();
        for share in shares {
            if let Some(Role::Storage { tier, .. }) =
                self.servers.get(share.server).map(|server| &server.role)
            {
                let node = self.catalogue.typical(*tier);
                let price = node.map(|node| self.catalogue.share_price(node, share.needs()));
                bill.add(*tier, share.needs(), price);
            }
        }
        bill
    }

    fn command(&self, job: &Job, action: Action) -> Option<Command> {
        let server = self.servers.get(job.metadata_server)?;
        Some(Command {
            job: job.id,
            server: server.id,
            endpoint: server.control_endpoint()?.to_owned(),
            action,
        })
    }
}

#[cfg(test)]
mod tests;
