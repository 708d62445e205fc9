//! What heartbeats tell: who lives, and which jobs the metadata servers hold.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use pocket_policy::{self as policy, Forecast};
use pocket_proto::{
    Incarnation, JobId, ServerId,
    control::{CreateJobRequest, HeartbeatReply, HeartbeatRequest, JobReport},
    session::StorageServer,
};
use tracing::{info, warn};

use super::{
    Cluster, REPORT_AGE_MAX,
    jobs::{Job, Phase},
    registration::measured,
    reservation::Reservation,
};

impl Cluster {
    /// Takes a heartbeat. A server that is not known is told so.
    pub(crate) fn heartbeat(&mut self, request: HeartbeatRequest, now: Instant) -> HeartbeatReply {
        let server = ServerId(request.server);
        let usage = Some(request.usage.unwrap_or_default());
        let incarnation = Incarnation(request.incarnation);
        let was_silent = self.servers.get(server).is_some_and(|server| !server.alive);
        self.changed |= was_silent;
        let Some(storage_changed) = self.servers.heard(server, incarnation, usage, now) else {
            return HeartbeatReply::default();
        };
        if storage_changed {
            self.storage_changed();
        }
        let mut reply = HeartbeatReply {
            known: true,
            next_in_ms: self.next_heartbeat_ms(),
            ..HeartbeatReply::default()
        };
        if self.servers.get(server).is_some_and(|s| !s.is_storage()) {
            let holds_jobs = request.jobs.len();
            self.take_reports(server, request.jobs, now);
            reply.leave = self.leave_of(server, request.leave.as_ref(), holds_jobs, now);
            reply.storage_servers = self.storage_servers(now);
            reply.evacuate = self.evacuations(server, &request.evacuated);
        } else {
            self.take_traffic(server, &request.traffic, now);
            reply.limits = self.limits(server, &request.traffic);
            reply.leave = self.leave_of(server, request.leave.as_ref(), 0, now);
        }
        reply
    }

    /// Compares what a metadata server holds with what it should.
    fn take_reports(&mut self, server: ServerId, reports: Vec<JobReport>, now: Instant) {
        let mut held = HashSet::with_capacity(reports.len());
        let mut learned = false;
        for report in reports {
            let Some(id) = report.job.as_ref().map(|job| JobId(job.job)) else {
                continue;
            };
            held.insert(id);
            if let Some(ended) = self.ended.get(&id).copied() {
                self.end_again(server, report, ended, now);
            } else if self.jobs.get(id).is_some() {
                self.update(server, report, now);
            } else if let Some(mut job) = self.adopt(report, server, now) {
                info!(job = %id, name = job.spec.name, %server, "learned of a job");
                self.changed = true;
                job.account.set_bill(self.bill(&job.shares), now);
                self.jobs.insert(job);
                learned = true;
            }
        }
        if learned {
            self.trim_promises();
        }
        let missing = |job: &&Job| {
            job.metadata_server == server
                && job.phase == Phase::Running
                && !held.contains(&job.id)
                && now.saturating_duration_since(job.confirmed) > REPORT_AGE_MAX
        };
        let missing: Vec<_> = self.jobs.all().filter(missing).map(|job| job.id).collect();
        for id in missing {
            // It is told to drop the job nevertheless, so that no block of it stays behind.
            warn!(job = %id, %server, "the job's metadata server lost it: the job has ended");
            self.jobs.end(id, now);
            self.changed = true;
        }
    }

    /// A job that a metadata server reports and this controller did not create.
    fn adopt(&self, report: JobReport, server: ServerId, now: Instant) -> Option<Job> {
        let spec = report.job.as_ref()?;
        let (reservation, past) = self.reservation_of(spec);
        let mut job = Job::adopt(report, reservation, server, now)?;
        job.object_bytes = past.and_then(|past| measured(past.object_bytes));
        Some(job)
    }

    /// What is reserved for a job that a metadata server reports, with what its earlier runs
    /// foretell.
    fn reservation_of(&self, spec: &CreateJobRequest) -> (Reservation, Option<Forecast>) {
        let past = self.history.forecast(&spec.profile);
        let hints = spec.hints.unwrap_or_default();
        let demand = policy::demand(&hints, &self.catalogue, past.as_ref());
        (Reservation::read(spec, &demand), past)
    }

    /// A job that ended is still there: either the report is older, or the drop was not heard.
    fn end_again(&mut self, server: ServerId, report: JobReport, ended: Instant, now: Instant) {
        let Some(mut job) = self.adopt(report, server, now) else {
            return;
        };
        let outdated = now.saturating_duration_since(ended) <= REPORT_AGE_MAX;
        if !outdated && self.jobs.get(job.id).is_none() {
            info!(job = %job.id, %server, "a job that ended is still held: dropping it again");
            job.phase = Phase::Ending;
            self.jobs.insert(job);
        }
    }

    fn update(&mut self, server: ServerId, report: JobReport, now: Instant) {
        let Some(spec) = report.job.as_ref() else {
            return;
        };
        let reported_epoch = spec.weight_map.as_ref().map_or(0, |map| map.epoch);
        let Some(job) = self.jobs.get_mut(JobId(spec.job)) else {
            return;
        };
        if job.phase != Phase::Running || job.metadata_server != server {
            return;
        }
        job.note(&report, now);
        job.confirmed_epoch = job.confirmed_epoch.max(reported_epoch);
        if reported_epoch > job.epoch() {
            // Another controller was here: its map is the newer one.
            let id = job.id;
            job.spec.weight_map = spec.weight_map.clone();
            job.weighed_for = 0;
            let (reservation, _) = self.reservation_of(spec);
            if let Some(job) = self.jobs.get_mut(id) {
                job.reservation = reservation;
            }
            if let Some(map) = &spec.weight_map {
                let shares = policy::shares_of_map(map, reservation.needs);
                self.jobs.set_shares(id, shares);
            }
        }
    }

    /// Every storage server alive. While this controller is new also those that jobs have blocks
    /// on and that may just not have reported yet, lest they be taken for dead.
    pub(super) fn storage_servers(&self, now: Instant) -> Vec<StorageServer> {
        let mut servers: BTreeMap<u64, StorageServer> = BTreeMap::new();
        if self.is_settling(now) {
            let maps = self
                .jobs
                .all()
                .filter_map(|job| job.spec.weight_map.as_ref());
            let presumed = maps
                .flat_map(|map| &map.servers)
                .filter_map(|s| s.server.clone());
            let unheard = presumed.filter(|s| self.servers.get(ServerId(s.server)).is_none());
            servers.extend(unheard.map(|server| (server.server, server)));
        }
        for server in self.servers.alive_storage() {
            servers.insert(server.id.0, server.to_storage_server());
        }
        servers.into_values().collect()
    }
}
