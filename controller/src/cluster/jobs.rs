//! The jobs that are known, by id and by name.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use pocket_policy::{
    self as policy, Lease, Ledger, MetadataDemand, Needs, Run, Share, Watch, WatchSettings, total,
};
use pocket_proto::{
    ByteCount, Failure, JobId, ServerId,
    control::{Allocation, CreateJobRequest, Hints, JobReport, RegisterJobRequest},
};

use super::{account::Account, reservation::Reservation, traffic::Throughput};

/// So many files tell the mean size of a job's objects; until then earlier runs do.
const INODES_TELL: u64 = 100;

/// How far the life of a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its metadata server is being told.
    Creating,
    /// Mounts may use it.
    Running,
    /// Its metadata server is being told to drop it. Its name is free again.
    Ending,
}

/// What a running job does not get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lack {
    /// In all.
    pub(crate) wanted: Needs,
    pub(crate) since: Instant,
    /// When it was last looked for.
    pub(crate) looked: Instant,
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// As its metadata server has it, or shall have it: the weight map may be a newer epoch.
    pub(crate) spec: CreateJobRequest,
    pub(crate) metadata_server: ServerId,
    /// What is to be held free for it.
    pub(crate) reservation: Reservation,
    /// What is promised to it on each storage server.
    pub(crate) shares: Vec<Share>,
    /// The sum of them, since [`Jobs`] has the job.
    pub(crate) reserved: Needs,
    pub(crate) phase: Phase,
    pub(crate) born: Instant,
    /// When its metadata server first confirmed to have it.
    pub(crate) confirmed: Instant,
    /// When its metadata server last told of it.
    pub(crate) reported: Instant,
    /// When a mount last registered: it has a whole lease to connect.
    pub(crate) touched: Instant,
    /// Since when it has no mounts, as last reported; meaningless while it has.
    pub(crate) idle_since: Instant,
    pub(crate) mounts: u32,
    pub(crate) used_bytes: u64,
    /// What it would hold if writes had not to wait for more; 0 if none does.
    pub(crate) wanted_bytes: u64,
    pub(crate) inodes: u64,
    /// The newest epoch that its metadata server is known to have.
    pub(crate) confirmed_epoch: u32,
    /// The generation of living storage servers that its map was last compared with.
    pub(crate) weighed_for: u64,
    /// What the user who creates it should know at once; empty for nothing.
    pub(crate) notice: String,
    pub(crate) account: Account,
    pub(crate) throughput: Throughput,
    /// Mean size of the objects of earlier runs, where known.
    pub(crate) object_bytes: Option<u64>,
    /// Compares its use with its reservation.
    pub(crate) watch: Watch,
    /// Why its reservation is another one than at first: sentences for people, else empty.
    pub(crate) why_capacity: String,
    pub(crate) why_throughput: String,
    /// What it needs and for which there was no room.
    pub(crate) lack: Option<Lack>,
    /// Its metadata server shall learn of another capacity or reservation.
    pub(crate) resized: bool,
    /// A command about it is under way.
    pub(crate) calling: bool,
    /// No command before then, after so many that failed in a row.
    pub(crate) retry_at: Instant,
    pub(crate) failures: u32,
    /// Why the last command failed.
    pub(crate) last_failure: Option<Failure>,
}

impl Job {
    /// A job that is known since `now`; whoever makes one sets what else is known of it.
    pub(crate) fn new(
        spec: CreateJobRequest,
        reservation: Reservation,
        metadata_server: ServerId,
        phase: Phase,
        now: Instant,
    ) -> Self {
        Job {
            id: JobId(spec.job),
            confirmed_epoch: spec.weight_map.as_ref().map_or(0, |map| map.epoch),
            spec,
            watch: Watch::new(
                WatchSettings::of(reservation.capacity),
                WatchSettings::of(reservation.throughput),
            ),
            reservation,
            metadata_server,
            shares: Vec::new(),
            reserved: Needs::default(),
            phase,
            born: now,
            confirmed: now,
            reported: now,
            touched: now,
            idle_since: now,
            mounts: 0,
            used_bytes: 0,
            wanted_bytes: 0,
            inodes: 0,
            weighed_for: 0,
            notice: String::new(),
            account: Account::new(now),
            throughput: Throughput::default(),
            object_bytes: None,
            why_capacity: String::new(),
            why_throughput: String::new(),
            lack: None,
            resized: false,
            calling: false,
            retry_at: now,
            failures: 0,
            last_failure: None,
        }
    }

    /// A job that a metadata server reports and this controller did not create.
    pub(crate) fn adopt(
        report: JobReport,
        reservation: Reservation,
        server: ServerId,
        now: Instant,
    ) -> Option<Self> {
        let spec = report.job.clone()?;
        let mut job = Job::new(spec, reservation, server, Phase::Running, now);
        if let Some(map) = &job.spec.weight_map {
            job.shares = policy::shares_of_map(map, reservation.needs);
        }
        if let Some(kept) = &job.spec.reservation {
            job.why_capacity.clone_from(&kept.why_capacity);
            job.why_throughput.clone_from(&kept.why_throughput);
        }
        let age = Duration::from_secs(report.age_seconds);
        job.born = now.checked_sub(age).unwrap_or(now);
        job.touched = job.born;
        job.note(&report, now);
        Some(job)
    }

    /// Takes over what a metadata server counts.
    pub(crate) fn note(&mut self, report: &JobReport, now: Instant) {
        self.reported = now;
        let idle = Duration::from_secs(report.idle_seconds);
        self.idle_since = now.checked_sub(idle).unwrap_or(self.born);
        self.mounts = report.mounts;
        self.used_bytes = report.used_bytes;
        self.wanted_bytes = report.wanted_bytes;
        self.account.note_use(report.used_bytes, report.inodes);
        self.inodes = report.inodes;
    }

    /// What is to be remembered of it.
    pub(crate) fn run(&self) -> Run {
        Run {
            capacity_bytes: self.account.peak_used_bytes,
            bytes_per_second: self.throughput.peak_bytes_per_second,
            object_bytes: self.account.object_bytes(),
        }
    }

    /// What it was given, as people and mounts see it.
    pub(crate) fn allocation(&self) -> Allocation {
        let later = [&self.why_capacity, &self.why_throughput];
        let later = later.into_iter().filter(|reason| !reason.is_empty());
        Allocation {
            capacity_bytes: self.spec.capacity_bytes,
            bandwidth_bytes_per_second: self.spec.bandwidth_bytes_per_second,
            weight_map: self.spec.weight_map.clone(),
            reasons: self.spec.reasons.iter().chain(later).cloned().collect(),
        }
    }

    /// Bytes per second to compare with what is reserved: what it would move if nobody held it back,
    /// as far as it may be promised that.
    pub(crate) fn wanted_bytes_per_second(&self, now: Instant) -> u64 {
        let wanted = self.throughput.wanted(&self.shares, now);
        match self.reservation.hinted_bytes_per_second() {
            Some(hinted) => wanted.min(hinted),
            None => wanted,
        }
    }

    /// What it asks of its metadata server, as far as its reservation tells.
    pub(crate) fn metadata_demand(&self) -> MetadataDemand {
        let measured = || Some(self.account.object_bytes()).filter(|_| self.inodes >= INODES_TELL);
        MetadataDemand {
            capacity_bytes: self.reserved.capacity_bytes,
            bytes_per_second: self.reserved.bytes_per_second,
            tasks: self.spec.hints.and_then(|hints| hints.max_tasks),
            object_bytes: measured().or(self.object_bytes),
        }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.spec.weight_map.as_ref().map_or(0, |map| map.epoch)
    }

    pub(crate) fn lease(&self) -> Lease {
        Lease::new(self.spec.lease_seconds, self.spec.keep)
    }

    /// For how long it has had no mount; `None` while it has one.
    pub(crate) fn idle(&self, now: Instant) -> Option<Duration> {
        let since = self.idle_since.max(self.touched);
        (self.mounts == 0).then(|| now.saturating_duration_since(since))
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    /// The sentence for a mount that joins and said something else than the job is; else empty.
    pub(crate) fn notice_for(&self, request: &RegisterJobRequest, now: Instant) -> String {
        let ours = self.spec.hints.unwrap_or_default();
        let theirs = request.hints.unwrap_or_default();
        let terms_differ = (request.keep && !self.spec.keep)
            || (request.persist && !self.spec.persist)
            || (request.delete_after_read && !self.spec.delete_after_read)
            || differs(
                nonzero(request.lease_seconds),
                Some(self.spec.lease_seconds),
            )
            || differs(nonzero(request.block_bytes), Some(self.spec.block_bytes));
        if !terms_differ && !hints_differ(&theirs, &ours) {
            return String::new();
        }
        format!(
            "job '{}' exists already ({}, since {}): joined it, the hints of this mount are \
             ignored",
            self.spec.name,
            ByteCount(self.spec.capacity_bytes),
            policy::age(self.age(now)),
        )
    }
}

fn hints_differ(theirs: &Hints, ours: &Hints) -> bool {
    differs(theirs.latency_sensitive, ours.latency_sensitive)
        || differs(theirs.max_tasks, ours.max_tasks)
        || differs(theirs.task_capacity_bytes, ours.task_capacity_bytes)
        || differs(
            theirs.task_bandwidth_bytes_per_second,
            ours.task_bandwidth_bytes_per_second,
        )
        || differs(theirs.capacity_bytes, ours.capacity_bytes)
        || differs(theirs.capacity_bytes_max, ours.capacity_bytes_max)
        || differs(
            theirs.bandwidth_bytes_per_second,
            ours.bandwidth_bytes_per_second,
        )
}

/// Whether something was said, and it is not what holds.
fn differs<T: PartialEq>(said: Option<T>, holds: Option<T>) -> bool {
    said.is_some() && said != holds
}

fn nonzero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// The jobs, with what they were promised summed per server.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    by_id: HashMap<JobId, Job>,
    /// Jobs that are not ending. More than one of a name only if two metadata servers reported
    /// one each: the oldest has the name, and the others end when their mounts leave.
    by_name: HashMap<String, Vec<JobId>>,
    ending: HashSet<JobId>,
    ledger: Ledger,
}

impl Jobs {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        self.by_id.get(&id)
    }

    /// For changes of anything but phase, name and shares.
    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.by_id.get_mut(&id)
    }

    /// The job of that name that is not ending.
    pub(crate) fn named(&self, name: &str) -> Option<&Job> {
        self.by_id.get(self.by_name.get(name)?.first()?)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Job> {
        self.by_id.values()
    }

    pub(crate) fn ending(&self) -> impl Iterator<Item = &Job> {
        self.ending.iter().filter_map(|id| self.by_id.get(id))
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Adds a job of a new id.
    pub(crate) fn insert(&mut self, mut job: Job) {
        debug_assert!(!self.by_id.contains_key(&job.id));
        self.ledger.take(&job.shares);
        job.reserved = total(&job.shares);
        if job.phase == Phase::Ending {
            self.ending.insert(job.id);
        } else {
            let names = self.by_name.entry(job.spec.name.clone()).or_default();
            names.push(job.id);
            let age = |id: &JobId| self.by_id.get(id).unwrap_or(&job).born;
            names.sort_by_key(|id| (age(id), *id));
        }
        self.by_id.insert(job.id, job);
    }

    /// A job that was being created is there.
    pub(crate) fn run(&mut self, id: JobId) {
        if let Some(job) = self.by_id.get_mut(&id)
            && job.phase == Phase::Creating
        {
            job.phase = Phase::Running;
        }
    }

    /// The job shall end: its name is free, its resources are not yet. Idempotent.
    pub(crate) fn end(&mut self, id: JobId, now: Instant) {
        let Some(job) = self.by_id.get_mut(&id) else {
            return;
        };
        if job.phase != Phase::Ending {
            job.phase = Phase::Ending;
            job.retry_at = now;
            job.failures = 0;
            job.last_failure = None;
            self.ending.insert(id);
            let name = job.spec.name.clone();
            self.free_name(&name, id);
        }
    }

    /// The job is gone, with all it was promised.
    pub(crate) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.by_id.remove(&id)?;
        self.ledger.give_back(&job.shares);
        self.ending.remove(&id);
        self.free_name(&job.spec.name, id);
        Some(job)
    }

    /// Promises other shares to a job than before.
    pub(crate) fn set_shares(&mut self, id: JobId, shares: Vec<Share>) {
        if let Some(job) = self.by_id.get_mut(&id) {
            self.ledger.give_back(&job.shares);
            self.ledger.take(&shares);
            job.reserved = total(&shares);
            job.shares = shares;
        }
    }

    /// No job's capacity is left as it is for want of room.
    pub(crate) fn look_again(&mut self) {
        for job in self.by_id.values_mut() {
            job.watch.rest_capacity(0);
        }
    }

    fn free_name(&mut self, name: &str, id: JobId) {
        if let Some(ids) = self.by_name.get_mut(name) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_name.remove(name);
            }
        }
    }
}
