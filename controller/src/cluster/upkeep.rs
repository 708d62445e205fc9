//! What is to be done as time passes: servers die, leases lapse, maps are weighed anew, and
//! commands that failed are repeated.

use std::{
    cell::LazyCell,
    collections::HashSet,
    time::{Duration, Instant},
};

use pocket_policy::{self as policy, Growth, Share, StorageSpace, Weight};
use pocket_proto::{
    Failure, JobId, ServerId, Status,
    control::StorageClass,
    session::{StorageServer, WeightMap},
};
use tracing::{info, warn};

use super::{
    Action, Cluster, Command, REPORT_AGE_MAX,
    account::EpochNote,
    jobs::{Job, Phase},
    pool::Offer,
    reservation::Reservation,
};

/// Pause after a command that failed; doubles with every failure in a row, five times at most.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_DOUBLINGS_MAX: u32 = 5;
/// Jobs looked at in one go, so that the lock is not held for long where there are thousands.
const LOOKS_MAX: usize = 512;
/// The ids of ended jobs are remembered for so long, and not more than so many. A metadata server that was away for longer
/// and still holds such a job gets it adopted, and its lease ends it.
const ENDED_REMEMBERED_FOR: Duration = Duration::from_secs(3_600);
const ENDED_MAX: usize = 1 << 20;

impl Cluster {
    /// Brings the state up to now and returns at most `commands_max` commands, each of whose
    /// outcome is to be told to [`Cluster::finished`].
    pub(crate) fn upkeep(&mut self, now: Instant, commands_max: usize) -> Vec<Command> {
        self.expire_servers(now);
        self.lapse_leases(now);
        self.advance_leaving(now);
        self.lapse_places(now);
        self.revise_jobs(now);
        let remembered_for = match self.ended.len() {
            0..ENDED_MAX => ENDED_REMEMBERED_FOR,
            _ => REPORT_AGE_MAX,
        };
        self.ended
            .retain(|_, at| now.saturating_duration_since(*at) < remembered_for);
        self.commands(now, commands_max)
    }

    /// The controller itself stood still for `gap`: nobody is to blame for silence in it.
    pub(crate) fn forgive(&mut self, gap: Duration, now: Instant) {
        info!(
            ?gap,
            "the controller stood still: silence in that time does not count"
        );
        self.servers.forgive(gap, now);
    }

    fn expire_servers(&mut self, now: Instant) {
        let expired = self
            .servers
            .expire(now, self.heartbeat_timeout, self.forget_after);
        if expired.storage_died {
            self.storage_changed();
        }
        self.changed |= !expired.forgotten.is_empty();
        for server in expired.forgotten {
            info!(server = %server.id, endpoint = %server.endpoint, "forgotten");
            if server.is_storage() {
                continue;
            }
            let orphans = self
                .jobs
                .all()
                .filter(|job| job.metadata_server == server.id);
            let orphans: Vec<_> = orphans.map(|job| job.id).collect();
            for id in orphans {
                self.lose(id, server.replaced_by, now);
            }
        }
    }

    /// The job's metadata server is forgotten. If another took its place it is gone for good, and
    /// the other one drops the job's blocks; else it may come back with the job, so that nothing
    /// of it must be touched.
    fn lose(&mut self, id: JobId, successor: Option<ServerId>, now: Instant) {
        warn!(job = %id, "the job's metadata server is gone, and the job with it");
        match (successor, self.jobs.get_mut(id)) {
            (Some(successor), Some(job)) => {
                job.metadata_server = successor;
                self.jobs.end(id, now);
            }
            _ => {
                if let Some(job) = self.jobs.remove(id) {
                    self.spent += job.account.cost(now);
                }
            }
        }
    }

    fn lapse_leases(&mut self, now: Instant) {
        let has_lapsed = |job: &&Job| {
            // A mount that has come since the last report is not known yet.
            let left = job.lease().left(job.idle(job.reported));
            job.phase == Phase::Running
                && left == Some(Duration::ZERO)
                // Of a silent server nobody knows whether its jobs have mounts.
                && self.servers.get(job.metadata_server).is_some_and(|server| server.alive)
        };
        if self.is_settling(now) {
            return;
        }
        let lapsed: Vec<_> = self
            .jobs
            .all()
            .filter(has_lapsed)
            .map(|job| job.id)
            .collect();
        for id in lapsed {
            info!(job = %id, "the job's lease lapsed");
            self.changed = true;
            self.jobs.end(id, now);
        }
    }

    fn commands(&mut self, now: Instant, commands_max: usize) -> Vec<Command> {
        let mut commands = Vec::new();
        let ready = |job: &&Job| {
            !job.calling
                && job.retry_at <= now
                && self
                    .servers
                    .get(job.metadata_server)
                    .is_some_and(|server| server.alive)
        };
        // Ending first: it makes room.
        let ending = self.jobs.ending().filter(ready).map(|job| job.id);
        let stale = |job: &&Job| {
            job.phase == Phase::Running
                && (job.resized
                    || job.confirmed_epoch < job.epoch()
                    || job.weighed_for != self.generation)
        };
        let running = self
            .jobs
            .all()
            .filter(stale)
            .filter(ready)
            .map(|job| job.id);
        let due: Vec<_> = ending.chain(running).take(LOOKS_MAX).collect();
        for id in due {
            if commands.len() == commands_max {
                break;
            }
            commands.extend(self.command_for(id, now));
        }
        commands
    }

    fn command_for(&mut self, id: JobId, now: Instant) -> Option<Command> {
        let job = self.jobs.get(id)?;
        let action = match job.phase {
            Phase::Creating => return None,
            Phase::Ending => Action::Drop(self.storage_servers(now)),
            Phase::Running if job.resized => Action::Change(Box::new(job.spec.clone())),
            // An epoch is confirmed before there is a next one.
            Phase::Running if job.confirmed_epoch < job.epoch() => {
                Action::SetWeightMap(job.spec.weight_map.clone()?)
            }
            Phase::Running if self.is_settling(now) => return None,
            Phase::Running => Action::SetWeightMap(self.weigh_anew(id, now)?),
        };
        let command = self.command(self.jobs.get(id)?, action)?;
        self.jobs.get_mut(id)?.calling = true;
        Some(command)
    }

    /// A new epoch of the job's map, if the living servers call for one.
    fn weigh_anew(&mut self, id: JobId, now: Instant) -> Option<WeightMap> {
        let generation = self.generation;
        let job = self.jobs.get_mut(id)?;
        job.weighed_for = generation;
        if self.map_suits(id, now) {
            // Of a job that was learned of, servers may have come to be known only now.
            let bill = self.bill(&self.jobs.get(id)?.shares);
            self.jobs.get_mut(id)?.account.set_bill(bill, now);
            return None;
        }
        let job = self.jobs.get(id)?;
        let shares = job.shares.clone();
        // What a dead server held is reserved again elsewhere.
        let reservation = job.reservation;
        let epoch = job.epoch().checked_add(1)?;
        let class = self.class_wanted(job);
        // Its own promises are no obstacle to it.
        self.jobs.set_shares(id, Vec::new());
        let Some((new, weights)) = self.placed_anew(&reservation, class, now) else {
            warn!(job = %id, "no storage server is alive: the job's map stays as it is");
            self.jobs.set_shares(id, shares);
            return None;
        };
        self.reserve(id, new, now);
        let map = self.weight_map(epoch, &weights);
        info!(job = %id, epoch, servers = map.servers.len(), "the job is weighed anew");
        self.decisions.weighed_anew += 1;
        let job = self.jobs.get_mut(id)?;
        job.spec.weight_map = Some(map.clone());
        job.account.note_epoch(EpochNote {
            epoch,
            published: now,
            servers: map.servers.len(),
            reason: "other storage servers live, or have room, than before".to_owned(),
        });
        Some(map)
    }

    /// Where a running job that has no shares goes on servers of this class. Where servers are started
    /// and ended as needed, it fills gaps, as when it was admitted.
    fn placed_anew(
        &self,
        reservation: &Reservation,
        class: StorageClass,
        now: Instant,
    ) -> Option<(Vec<Share>, Vec<Weight>)> {
        let (needs, spaces) = (reservation.needs, self.spaces_of(class));
        if self.offer_of(class, now).is_some() {
            let nothing = Offer::default();
            let market = nothing.market(&self.catalogue);
            let found = policy::grow(needs, &reservation.demand(), &spaces, market);
            if let Growth::Placed(shares) = found {
                let weights = policy::weights(&shares);
                return Some((shares, weights));
            }
        }
        policy::reallocate(needs, &reservation.tiers, &spaces)
    }

    /// Whether the map names no server that died or changed or is of another class than the job's, and
    /// misses none that has room. Where servers are started and ended as needed, another one is no reason
    /// for another map: jobs on few servers leave the others free to go.
    fn map_suits(&self, id: JobId, now: Instant) -> bool {
        let Some(job) = self.jobs.get(id) else {
            return false;
        };
        let Some(map) = job.spec.weight_map.as_ref() else {
            return false;
        };
        let class = self.class_wanted(job);
        let named: HashSet<_> = named_by(map).map(|server| server.server).collect();
        let lives = |named: &StorageServer| {
            let server = self.servers.get(ServerId(named.server));
            server.is_some_and(|server| {
                server.alive && server.leaving.is_none() && server.to_storage_server() == *named
            })
        };
        let full = |named: &StorageServer| {
            let server = self.servers.get(ServerId(named.server));
            server.is_some_and(|server| server.full)
        };
        let spaces = LazyCell::new(|| self.spaces_of(class));
        let has_room = |space: &StorageSpace| {
            let server = self.servers.get(space.server);
            server.is_some_and(|server| !server.full)
        };
        let others_have_room = || spaces.iter().any(has_room);
        if named_by(map).any(full) && others_have_room() {
            return false;
        }
        let missed = |space: &StorageSpace| {
            space.reserved_bytes < space.capacity_bytes
                && !named.contains(&space.server.0)
                && has_room(space)
        };
        let could_be_on_more =
            named.len() < policy::SPREAD_SERVERS_MAX && self.offer_of(class, now).is_none();
        !named.is_empty()
            && named_by(map).all(lives)
            && self.is_within(map, class)
            && !(could_be_on_more && spaces.iter().any(missed))
    }

    /// Takes the outcome of a command.
    pub(crate) fn finished(
        &mut self,
        command: &Command,
        outcome: Result<(), Failure>,
        now: Instant,
    ) {
        let id = command.job;
        self.changed = true;
        let outcome = match (&command.action, outcome) {
            // Not there is what was wanted.
            (Action::Drop(_), Err(failure)) if is_gone(failure.status) => Ok(()),
            (_, outcome) => outcome,
        };
        match (&command.action, outcome) {
            (Action::Create(_), Ok(())) => {
                if let Some(job) = self.jobs.get_mut(id) {
                    job.confirmed = now;
                    job.touched = now;
                    job.idle_since = now;
                }
                self.jobs.run(id);
                self.decisions.created += 1;
                let name = self.jobs.get(id).map(|job| job.spec.name.clone());
                self.registered.extend(name);
            }
            (Action::Create(_), Err(failure)) => {
                // It may exist all the same: if it is reported it is dropped.
                self.jobs.remove(id);
                self.ended.insert(id, now);
                self.note_failure(command, &failure, now);
            }
            (Action::Drop(_), Ok(())) => {
                if let Some(job) = self.jobs.remove(id) {
                    self.history.record(&job.spec.profile, job.run());
                    self.remember(&job, now);
                    self.spent += job.account.cost(now);
                    self.decisions.ended += 1;
                }
                self.ended.insert(id, now);
            }
            (Action::Change(changed), Ok(())) => {
                if let Some(job) = self.jobs.get_mut(id) {
                    let epoch = changed.weight_map.as_ref().map_or(0, |map| map.epoch);
                    job.calling = false;
                    // It may have been changed again meanwhile.
                    job.resized = job.spec != **changed;
                    job.failures = 0;
                    job.confirmed_epoch = job.confirmed_epoch.max(epoch);
                }
            }
            (Action::SetWeightMap(map), Ok(())) => {
                if let Some(job) = self.jobs.get_mut(id) {
                    job.calling = false;
                    job.failures = 0;
                    job.confirmed_epoch = job.confirmed_epoch.max(map.epoch);
                }
            }
            (Action::Drop(_) | Action::SetWeightMap(_) | Action::Change(_), Err(failure)) => {
                self.note_failure(command, &failure, now);
            }
        }
    }

    fn note_failure(&mut self, command: &Command, failure: &Failure, now: Instant) {
        warn!(job = %command.job, server = %command.server, "metadata server failed: {failure}");
        if failure.status.is_transient() {
            self.servers.failed(command.server, now);
        }
        if let Some(job) = self.jobs.get_mut(command.job) {
            job.calling = false;
            job.retry_at = now + RETRY_PAUSE * (1 << job.failures.min(RETRY_DOUBLINGS_MAX));
            job.failures += 1;
            job.last_failure = Some(failure.clone());
        }
    }
}

pub(super) fn named_by(map: &WeightMap) -> impl Iterator<Item = &StorageServer> {
    map.servers.iter().filter_map(|s| s.server.as_ref())
}

fn is_gone(status: Status) -> bool {
    matches!(status, Status::NotFound | Status::JobGone)
}
