//! Servers that leave: told to close, then to seal, and dismissed when no job needs them.
//!
//! A storage server that is leaving takes no part in new maps. When it is empty, or its deadline has
//! come, it is sealed; then every metadata server moves what its jobs have there, and says when none
//! of them needs the server. A metadata server that is leaving is given no new jobs, and its jobs stay
//! until they end: nothing is moved, whatever time that takes. When it has none it is sealed, which is
//! to refuse one that was sent earlier and comes late, and dismissed when it says that it has none
//! then. The server knows how far it is and says so when it registers, so that a new controller goes
//! on where the last one was.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use pocket_proto::{
    Failure, ServerId, Status,
    control::{DrainServerReply, DrainServerRequest, Leave, LeaveStage, StorageClass},
    session::StorageServer,
};
use tracing::info;

use super::{
    Cluster,
    jobs::{Job, Phase},
    servers::Server,
};

/// While a server leaves, heartbeats come so often: each step of it waits for some.
const HEARTBEAT_WHILE_LEAVING: Duration = Duration::from_millis(200);

/// The leaving of a server.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    since: Instant,
    reason: String,
    /// When its blocks are moved; none: never, and so of every metadata server.
    deadline: Option<Duration>,
    /// What it is told.
    told: LeaveStage,
    /// What it last said.
    reached: LeaveStage,
    /// Of a storage server: metadata servers whose jobs do not need it.
    done_with: HashSet<ServerId>,
    /// Of a metadata server: the jobs that it held when it said what it has reached; none: it has not
    /// said yet.
    holds_jobs: Option<usize>,
}

impl Leaving {
    /// As a server that registers says it.
    pub(crate) fn read(leave: &Leave, now: Instant) -> Option<Self> {
        let since = Duration::from_secs(leave.since_seconds);
        (leave.stage() != LeaveStage::Stays).then(|| Leaving {
            since: now.checked_sub(since).unwrap_or(now),
            reason: leave.reason.clone(),
            deadline: leave.deadline_seconds.map(Duration::from_secs),
            told: leave.stage(),
            reached: leave.stage(),
            done_with: HashSet::new(),
            holds_jobs: None,
        })
    }

    /// For the server, and for people.
    pub(crate) fn show(&self, now: Instant) -> Leave {
        Leave {
            stage: self.told.into(),
            reason: self.reason.clone(),
            since_seconds: now.saturating_duration_since(self.since).as_secs(),
            deadline_seconds: self.deadline.map(|deadline| deadline.as_secs()),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.deadline
            .is_some_and(|deadline| now.saturating_duration_since(self.since) >= deadline)
    }
}

impl Cluster {
    /// Has a server leave, or stay after all.
    pub(crate) fn drain_server(
        &mut self,
        request: &DrainServerRequest,
        now: Instant,
    ) -> Result<DrainServerReply, Failure> {
        let id = self.living_server_called(&request.server)?;
        match request.undo {
            true => self.stay(id)?,
            false => self.leave(id, request, now)?,
        }
        let server = self.servers.get(id).ok_or(Status::Internal)?;
        Ok(DrainServerReply {
            server: id.0,
            endpoint: server.endpoint.clone(),
            leave: server.leaving.as_ref().map(|leaving| leaving.show(now)),
            role: server.role.on_the_wire().into(),
            jobs: self.jobs_on(id),
        })
    }

    fn leave(
        &mut self,
        id: ServerId,
        request: &DrainServerRequest,
        now: Instant,
    ) -> Result<(), Failure> {
        let server = self.servers.get(id).ok_or(Status::Internal)?;
        let (is_storage, class) = (server.is_storage(), server.class());
        let stays = |server: &Server| {
            server.alive
                && server.leaving.is_none()
                && server.id != id
                && (server.is_storage(), server.class()) == (is_storage, class)
        };
        if !self.servers.all().any(stays) {
            let what = "it is the last metadata server that takes jobs: start another one first";
            return Err(match is_storage {
                true => Failure::new(Status::Invalid, self.last_of(class)),
                false => Failure::new(Status::Invalid, what),
            });
        }
        let deadline = request.deadline_seconds.map(Duration::from_secs);
        let deadline = deadline.filter(|_| is_storage);
        let server = self.servers.get_mut(id).ok_or(Status::Internal)?;
        match &mut server.leaving {
            // Said again: the newer word on when counts.
            Some(leaving) => leaving.deadline = deadline,
            leaving => {
                info!(server = %id, endpoint = %server.endpoint, reason = request.reason, "leaving");
                *leaving = Some(Leaving {
                    since: now,
                    reason: request.reason.clone(),
                    deadline,
                    told: LeaveStage::Closed,
                    reached: LeaveStage::Stays,
                    done_with: HashSet::new(),
                    holds_jobs: None,
                });
                self.servers_changed(is_storage);
            }
        }
        Ok(())
    }

    /// Why the last server of a class that takes data does not leave: jobs have no other place.
    fn last_of(&self, class: StorageClass) -> String {
        let (kind, how) = match class {
            StorageClass::LongRunning => (
                "long-running storage",
                " (pocket storage --class long-running)",
            ),
            StorageClass::Regular if self.has_long_running() => ("regular storage", ""),
            StorageClass::Regular => ("storage", ""),
        };
        format!("it is the last {kind} server that takes data: start another one first{how}")
    }

    fn stay(&mut self, id: ServerId) -> Result<(), Failure> {
        let server = self.servers.get_mut(id).ok_or(Status::Internal)?;
        match &server.leaving {
            None => Ok(()),
            Some(leaving) if leaving.told > LeaveStage::Closed => Err(Failure::new(
                Status::Invalid,
                match server.is_storage() {
                    true => format!(
                        "storage server {} is being emptied already: start another one in its place",
                        server.endpoint
                    ),
                    false => format!(
                        "metadata server {} has no job any more and is about to end: start another \
                         one in its place",
                        server.endpoint
                    ),
                },
            )),
            Some(_) => {
                info!(server = %id, endpoint = %server.endpoint, "staying after all");
                server.leaving = None;
                let is_storage = server.is_storage();
                self.servers_changed(is_storage);
                Ok(())
            }
        }
    }

    /// Whether a server knows that it is to leave, or need not.
    pub(crate) fn has_heard_of_leaving(&self, id: ServerId) -> bool {
        let leaving = self
            .servers
            .get(id)
            .and_then(|server| server.leaving.as_ref());
        leaving.is_none_or(|leaving| leaving.reached >= LeaveStage::Closed)
    }

    /// The living server of this endpoint or id.
    fn living_server_called(&self, name: &str) -> Result<ServerId, Failure> {
        let called = |server: &&Server| server.endpoint == name || server.id.to_string() == name;
        let found = self.servers.all().find(called).ok_or_else(|| {
            let what = format!("no server is called '{name}' (pocket nodes lists them)");
            Failure::new(Status::NotFound, what)
        })?;
        match found.alive {
            true => Ok(found.id),
            false => Err(Failure::new(
                Status::Invalid,
                format!("server '{name}' is dead: there is nothing to drain"),
            )),
        }
    }

    /// Jobs whose names a metadata server holds, those that are beginning or ending included.
    pub(super) fn jobs_on(&self, server: ServerId) -> u32 {
        let here = |job: &&Job| job.metadata_server == server;
        u32::try_from(self.jobs.all().filter(here).count()).unwrap_or(u32::MAX)
    }

    /// Whoever places blocks, or jobs, has other servers for it than before.
    fn servers_changed(&mut self, storage: bool) {
        match storage {
            true => self.storage_changed(),
            false => self.changed = true,
        }
    }

    /// Takes what a server says of its leaving, and how many jobs it holds. It is dismissed, and
    /// forgotten, when this answers [`LeaveStage::Gone`].
    pub(super) fn leave_of(
        &mut self,
        id: ServerId,
        said: Option<&Leave>,
        holds_jobs: usize,
        now: Instant,
    ) -> Option<Leave> {
        let server = self.servers.get_mut(id)?;
        let is_storage = server.is_storage();
        let leaving = server.leaving.as_mut()?;
        let reached = said.map_or(LeaveStage::Stays, Leave::stage);
        self.changed |= leaving.reached != reached;
        leaving.reached = reached;
        leaving.holds_jobs = Some(holds_jobs);
        let leave = leaving.show(now);
        if leave.stage() == LeaveStage::Gone {
            info!(server = %id, "left: no job needs it any more");
            self.servers.remove(id);
            self.servers_changed(is_storage);
        }
        Some(leave)
    }

    /// Takes what a metadata server says it has emptied, and answers what it is to empty.
    pub(super) fn evacuations(&mut self, metadata: ServerId, done: &[u64]) -> Vec<StorageServer> {
        let mut sealed = Vec::new();
        for server in self.servers.all_mut().filter(|s| s.is_storage()) {
            let Some(leaving) = &mut server.leaving else {
                continue;
            };
            if !server.alive || leaving.reached < LeaveStage::Sealed {
                continue;
            }
            match done.contains(&server.id.0) {
                true => leaving.done_with.insert(metadata),
                false => leaving.done_with.remove(&metadata),
            };
            sealed.push(server.to_storage_server());
        }
        sealed
    }

    /// Milliseconds until the next heartbeat is wanted; 0: as usual.
    pub(super) fn next_heartbeat_ms(&self) -> u32 {
        let leaving = |server: &Server| {
            let sealed = |leaving: &Leaving| leaving.told >= LeaveStage::Sealed;
            let mut leaving = server.leaving.iter();
            // Jobs take their time to end.
            server.alive && leaving.any(|leaving| server.is_storage() || sealed(leaving))
        };
        match self.servers.all().any(leaving) {
            true => HEARTBEAT_WHILE_LEAVING.as_millis() as u32,
            false => 0,
        }
    }

    /// Takes each server that leaves a step further, where it is time.
    pub(super) fn advance_leaving(&mut self, now: Instant) {
        if self.is_settling(now) {
            return;
        }
        let named: HashSet<ServerId> = self
            .jobs
            .all()
            .filter(|job| job.phase != Phase::Ending)
            .filter_map(|job| job.spec.weight_map.as_ref())
            .flat_map(|map| &map.servers)
            .filter_map(|weighted| Some(ServerId(weighted.server.as_ref()?.server)))
            .collect();
        let metadata: Vec<ServerId> = self.servers.all_metadata().map(|s| s.id).collect();
        let with_jobs: HashSet<ServerId> = self.jobs.all().map(|job| job.metadata_server).collect();
        for server in self.servers.all_mut() {
            if !server.is_storage() {
                advance_metadata(server, with_jobs.contains(&server.id));
                continue;
            }
            let used_bytes = server.usage.used_bytes;
            let Some(leaving) = &mut server.leaving else {
                continue;
            };
            let closed = leaving.reached == LeaveStage::Closed;
            let told_less = leaving.told < LeaveStage::Sealed;
            if closed && told_less && (used_bytes == 0 || leaving.is_due(now)) {
                info!(server = %server.id, used_bytes, "takes no more changes");
                leaving.told = LeaveStage::Sealed;
            }
            let sealed = leaving.reached == LeaveStage::Sealed;
            let needed = named.contains(&server.id)
                || metadata.iter().any(|id| !leaving.done_with.contains(id));
            if sealed && !needed {
                leaving.told = LeaveStage::Gone;
            }
        }
    }
}

/// Takes a metadata server that leaves a step further, if it has no job.
fn advance_metadata(server: &mut Server, has_jobs: bool) {
    let Some(leaving) = &mut server.leaving else {
        return;
    };
    let (Some(holds_jobs), false) = (leaving.holds_jobs, has_jobs) else {
        return;
    };
    match leaving.reached {
        LeaveStage::Closed if leaving.told == LeaveStage::Closed => {
            info!(server = %server.id, "has no job any more, and takes none");
            leaving.told = LeaveStage::Sealed;
        }
        // What it was sent while it was closed it may still have.
        LeaveStage::Sealed if holds_jobs == 0 => leaving.told = LeaveStage::Gone,
        _ => {}
    }
}
