//! What people are shown.

use std::{collections::HashMap, time::Instant};

use pocket_proto::{
    ServerId,
    control::{
        self, JobStatus, ListJobsReply, ListRunsReply, ListServersReply, ServerStatus, job_status,
    },
};

use super::{
    Cluster,
    jobs::{Job, Phase},
    servers::{Role, Server},
};

/// Ended jobs whose accounts are remembered, for people.
const LAST_SEEN_MAX: usize = 256;

/// The jobs of a metadata server.
#[derive(Clone, Copy, Debug, Default)]
struct OfJobs {
    jobs: u32,
    inodes: u64,
}

impl Cluster {
    /// The jobs, oldest first, that are there or still hold resources; only those of `name`
    /// unless it is empty.
    pub(crate) fn list_jobs(&self, name: &str, now: Instant) -> ListJobsReply {
        let asked =
            |job: &&Job| job.phase != Phase::Creating && (name.is_empty() || job.spec.name == name);
        let mut jobs: Vec<_> = self.jobs.all().filter(asked).collect();
        jobs.sort_by_key(|job| (job.born, job.id));
        ListJobsReply {
            jobs: jobs.into_iter().map(|job| job_status(job, now)).collect(),
            waiting: self.queue.sentences(),
            ended: self.ended_jobs(name, now),
        }
    }

    /// The final account of a job that has ended.
    pub(super) fn remember(&mut self, job: &Job, now: Instant) {
        if job.phase == Phase::Creating {
            return;
        }
        self.last_seen.truncate(LAST_SEEN_MAX - 1);
        self.last_seen.push_front((now, job_status(job, now)));
    }

    fn ended_jobs(&self, name: &str, now: Instant) -> Vec<JobStatus> {
        let asked = |job: &JobStatus| name.is_empty() || job.name == name;
        let ended = self.last_seen.iter().filter(|(_, job)| asked(job));
        ended
            .map(|(at, job)| JobStatus {
                mounts: 0,
                ended: true,
                ended_seconds_ago: now.saturating_duration_since(*at).as_secs(),
                nanodollars_per_hour: 0,
                bytes_per_second: 0,
                reserved_bytes: 0,
                reserved_bytes_per_second: 0,
                ..job.clone()
            })
            .collect()
    }

    /// What is remembered of a profile's runs, the oldest first.
    pub(crate) fn list_runs(&self, profile: &str) -> ListRunsReply {
        let runs = self.history.runs(profile).map(|run| control::Run {
            capacity_bytes: run.capacity_bytes,
            bytes_per_second: run.bytes_per_second,
            object_bytes: run.object_bytes,
        });
        ListRunsReply {
            runs: runs.collect(),
        }
    }

    /// The servers that live, and the dead until they are forgotten.
    pub(crate) fn list_servers(&self, now: Instant) -> ListServersReply {
        let wanted = self.wanted(now);
        let mut of_jobs: HashMap<ServerId, OfJobs> = HashMap::new();
        for job in self.jobs.all() {
            let sum = of_jobs.entry(job.metadata_server).or_default();
            sum.jobs += 1;
            sum.inodes = sum.inodes.saturating_add(job.inodes);
        }
        let status = |server: &Server| self.server_status(server, of_jobs.get(&server.id), now);
        ListServersReply {
            servers: self.servers.all().map(status).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: now.saturating_duration_since(self.started).as_secs(),
            pool: self.pool(now),
            pools: self.all_pools(now),
            wanted_bytes: wanted.bytes,
            waiting: wanted.waiting,
            wanted_servers: wanted.servers,
        }
    }

    fn server_status(
        &self,
        server: &Server,
        of_jobs: Option<&OfJobs>,
        now: Instant,
    ) -> ServerStatus {
        let seen = server.to_storage_server();
        let (capacity_bytes, bandwidth) = match server.role {
            Role::Metadata { .. } => (0, 0),
            Role::Storage {
                capacity_bytes,
                bytes_per_second,
                ..
            } => (capacity_bytes, bytes_per_second),
        };
        let ledger = self.jobs.ledger();
        ServerStatus {
            server: seen.server,
            role: server.role.on_the_wire().into(),
            endpoint: seen.endpoint,
            control_endpoint: server.control_endpoint().unwrap_or_default().to_owned(),
            tier: seen.tier,
            alive: server.alive,
            last_heartbeat_ms_ago: server.silent_for(now).as_millis() as u64,
            usage: Some(server.usage),
            capacity_bytes,
            incarnation: seen.incarnation,
            reserved_bytes: ledger.reserved_bytes(server.id),
            leave: server.leaving.as_ref().map(|leaving| leaving.show(now)),
            bandwidth_bytes_per_second: bandwidth,
            reserved_bandwidth_bytes_per_second: ledger.reserved_bytes_per_second(server.id),
            jobs: of_jobs.map_or(0, |load| load.jobs),
            inodes: of_jobs.map_or(0, |load| load.inodes),
            storage_class: server.class().into(),
        }
    }
}

fn job_status(job: &Job, now: Instant) -> JobStatus {
    let epochs = job.account.epochs.iter().map(|note| job_status::Epoch {
        epoch: note.epoch,
        age_seconds: now.saturating_duration_since(note.published).as_secs(),
        servers: note.servers.try_into().unwrap_or(u32::MAX),
        reason: note.reason.clone(),
    });
    let left = job.lease().left(job.idle(now));
    let reserved = job.reserved;
    let mut allocation = job.allocation();
    let counted = job.account.age(now);
    if counted < job.age(now) {
        let told = format!(
            "cost {} so far: counted for {} only, since the controller was started again",
            job.account.cost(now),
            pocket_policy::age(counted)
        );
        allocation.reasons.insert(0, told);
    }
    let tiers = job
        .account
        .tiers(now)
        .map(|(tier, used)| job_status::TierUse {
            tier: tier.name().to_owned(),
            byte_seconds: u64::try_from(used.bytes).unwrap_or(u64::MAX),
            bandwidth_bytes: u64::try_from(used.bytes_per_second).unwrap_or(u64::MAX),
        });
    JobStatus {
        job: job.id.0,
        name: job.spec.name.clone(),
        hints: job.spec.hints,
        allocation: Some(allocation),
        metadata_server: job.metadata_server.0,
        used_bytes: job.used_bytes,
        inodes: job.inodes,
        mounts: job.mounts,
        age_seconds: job.age(now).as_secs(),
        lease_seconds: job.spec.lease_seconds,
        keep: job.spec.keep,
        persist: job.spec.persist,
        delete_after_read: job.spec.delete_after_read,
        // 0 is taken for "does not lapse".
        lapses_in_seconds: left.map_or(0, |left| left.as_secs().max(1)),
        nanodollars_per_hour: job.account.price().0,
        nanodollars: job.account.cost(now).nanodollars(),
        peak_used_bytes: job.account.peak_used_bytes,
        profile: job.spec.profile.clone(),
        epochs: epochs.collect(),
        bytes_per_second: job.throughput.now(now),
        peak_bytes_per_second: job.throughput.peak_bytes_per_second,
        reserved_bytes: reserved.capacity_bytes,
        reserved_bytes_per_second: reserved.bytes_per_second,
        ended: false,
        ended_seconds_ago: 0,
        tiers: tiers.collect(),
    }
}
