//! Running jobs: their use compared with their reservation, every second.
//!
//! A job that outgrows what it was given gets more, on the next tier if need be, before a write
//! fails; one that stays far under gives its reservation back to others. Figures that were guessed
//! follow the job. What the user asked for stays the most that is reserved: of a hinted capacity the
//! job may hold no more, and throughput beyond a hint it has only while nobody else needs it.

use std::time::{Duration, Instant};

use pocket_policy::{
    self as policy, Growth, Needs, Revision, Share, Use, merge, rate_text, shrink, total,
};
use pocket_proto::{
    ByteCount, JobId,
    control::{self, StorageClass},
};
use tracing::info;

use super::{
    Cluster,
    account::EpochNote,
    jobs::{Job, Lack, Phase},
    pool::Offer,
};

/// Time between two looks at all jobs.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A job for which there was no room is looked at again after this, or when servers change.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(10);
/// Another throughput shows in what servers report after this: a heartbeat tells the limit, the
/// second after it is measured, and the next one reports it.
const THROUGHPUT_SETTLES: Duration = Duration::from_secs(3);
/// A growth below this part of what there is, as rounding makes it, is none.
const GROWTH_PART_MIN: u64 = 100;

impl Cluster {
    /// Looks at every running job, if the last look is a second ago.
    pub(super) fn revise_jobs(&mut self, now: Instant) {
        let due = self.revised.is_none_or(|last| now >= last + LOOK_INTERVAL);
        if !due || self.is_settling(now) {
            return;
        }
        self.revised = Some(now);
        let now_ms = self.milliseconds(now);
        let ids: Vec<JobId> = self.jobs.all().map(|job| job.id).collect();
        for id in ids {
            let Some(job) = self.jobs.get_mut(id) else {
                continue;
            };
            // A revision is settled before there is a next one.
            let settled = !job.calling && !job.resized && job.confirmed_epoch >= job.epoch();
            if job.phase != Phase::Running || !settled {
                continue;
            }
            let compared = Use {
                given: job.reserved,
                used: Needs {
                    capacity_bytes: job.used_bytes.max(job.wanted_bytes),
                    bytes_per_second: job.wanted_bytes_per_second(now),
                },
            };
            match job.watch.look(compared, now_ms) {
                Some(Revision::Grow(wanted)) => self.grow(id, compared, wanted, now),
                Some(Revision::GiveBack(kept)) => self.give_back(id, kept, now),
                None => {}
            }
        }
        self.set_quotas();
    }

    /// Reserves what is wanted for the job, or what of it there is.
    fn grow(&mut self, id: JobId, compared: Use, wanted: Needs, now: Instant) {
        let given = compared.given;
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let most = Needs {
            capacity_bytes: job.reservation.growth_bytes_max,
            bytes_per_second: job
                .reservation
                .hinted_bytes_per_second()
                .unwrap_or(u64::MAX),
        };
        let wanted = Needs {
            capacity_bytes: wanted.capacity_bytes.min(most.capacity_bytes),
            bytes_per_second: wanted.bytes_per_second.min(most.bytes_per_second),
        };
        let found = if is_more(given.capacity_bytes, wanted.capacity_bytes) {
            self.grow_in_capacity(id, compared, wanted, now)
        } else if is_more(given.bytes_per_second, wanted.bytes_per_second) {
            self.grow_in_throughput(id, compared, wanted, now)
        } else {
            Some(())
        };
        if let (None, Some(job)) = (found, self.jobs.get_mut(id)) {
            job.lack = Some(Lack {
                wanted,
                since: job.lack.map_or(now, |lack| lack.since),
                looked: now,
            });
        }
        // Until then nothing has changed, or does not show.
        let (pause, settled) = (
            self.milliseconds(now + NO_ROOM_PAUSE),
            self.milliseconds(now + THROUGHPUT_SETTLES),
        );
        if let Some(job) = self.jobs.get_mut(id) {
            let has = job.reserved;
            if wanted.capacity_bytes > given.capacity_bytes
                && has.capacity_bytes <= given.capacity_bytes
            {
                job.watch.rest_capacity(pause);
            }
            if has.bytes_per_second > given.bytes_per_second {
                job.watch.rest_throughput(settled);
            } else if wanted.bytes_per_second > given.bytes_per_second {
                job.watch.rest_throughput(pause);
            }
        }
    }

    /// Finds more where servers can be started, else places the whole job anew; `None` if that gives it
    /// no more.
    fn grow_in_capacity(
        &mut self,
        id: JobId,
        Use { given, used }: Use,
        wanted: Needs,
        now: Instant,
    ) -> Option<()> {
        let job = self.jobs.get(id)?;
        let holds = match job.used_bytes < used.capacity_bytes {
            true => format!(", and wants {}", ByteCount(used.capacity_bytes)),
            false => String::new(),
        };
        let holds = format!(
            "it holds {} of {}{holds}",
            ByteCount(job.used_bytes),
            ByteCount(given.capacity_bytes)
        );
        let reason = |has: Needs| {
            format!(
                "{holds}: {} are reserved now",
                ByteCount(has.capacity_bytes)
            )
        };
        let class = self.class_now(job)?;
        if let Some(offer) = self.offer_of(class, now) {
            let shares = self.extended(job, wanted, offer, now)?;
            let reason = reason(total(&shares));
            self.jobs.get_mut(id)?.why_capacity.clone_from(&reason);
            return self.grow_to(id, shares, reason, now);
        }
        let (old, tiers) = (job.shares.clone(), job.reservation.tiers);
        let needs = Needs {
            // It is not to lose what servers that are missing held of it.
            bytes_per_second: wanted
                .bytes_per_second
                .max(job.reservation.needs.bytes_per_second),
            ..wanted
        };
        self.jobs.set_shares(id, Vec::new());
        let placed = policy::reallocate(needs, &tiers, &self.spaces_of(class));
        let more = |shares: &[Share]| total(shares).capacity_bytes > given.capacity_bytes;
        self.jobs.set_shares(id, old);
        let (shares, _) = placed.filter(|(shares, _)| more(shares))?;
        let reason = reason(total(&shares));
        self.jobs.get_mut(id)?.why_capacity.clone_from(&reason);
        self.grow_to(id, shares, reason, now)
    }

    /// The job's shares with others beside them, as simulations place them; `None` if there is no room
    /// yet.
    fn extended(&self, job: &Job, wanted: Needs, offer: Offer, now: Instant) -> Option<Vec<Share>> {
        let spaces = self.spaces_of(self.class_now(job)?);
        let demand = job.reservation.demand();
        let ask = |offer: Offer| {
            let market = offer.market(&self.catalogue);
            policy::extend(job.reserved, wanted, &demand, &spaces, market).map(|(_, growth)| growth)
        };
        let since = job.lack.map(|lack| lack.since);
        let found = match (ask(offer)?, offer.without_servers(since, now)) {
            (Growth::Start(_), Some(without)) => ask(without)?,
            (found, _) => found,
        };
        let Growth::Placed(more) = found else {
            return None;
        };
        let shares = merge(job.shares.iter().copied().chain(more));
        // Throughput beyond a hint is not promised: what there is goes with the data.
        Some(match job.reservation.hinted_bytes_per_second() {
            Some(bytes_per_second) => shrink(
                &shares,
                Needs {
                    capacity_bytes: u64::MAX,
                    bytes_per_second,
                },
            ),
            None => shares,
        })
    }

    /// The job has these shares from now on, and the map that goes with them.
    fn grow_to(
        &mut self,
        id: JobId,
        shares: Vec<Share>,
        reason: String,
        now: Instant,
    ) -> Option<()> {
        let epoch = self.jobs.get(id)?.epoch().checked_add(1)?;
        let has = total(&shares);
        let map = self.weight_map(epoch, &policy::weights(&shares));
        self.reserve(id, shares, now);
        self.decisions.grown += 1;
        let job = self.jobs.get_mut(id)?;
        let needs = &mut job.reservation.needs;
        *needs = Needs {
            capacity_bytes: has.capacity_bytes,
            // It is not to lose what servers that are missing moved of it.
            bytes_per_second: has.bytes_per_second.max(needs.bytes_per_second),
        };
        let max = &mut job.reservation.capacity_bytes_max;
        *max = has.capacity_bytes.max(*max);
        job.spec.weight_map = Some(map);
        job.publish(epoch, reason, now);
        Some(())
    }

    /// Finds throughput on the job's servers, or on others as well; `None` if there is none.
    fn grow_in_throughput(
        &mut self,
        id: JobId,
        Use { given, used }: Use,
        wanted: Needs,
        now: Instant,
    ) -> Option<()> {
        let job = self.jobs.get(id)?;
        let tiers = job.reservation.tiers;
        let rate = wanted.bytes_per_second;
        let before = rate_text(given.bytes_per_second);
        let why = match job.throughput.is_held_back(now) {
            true => format!("it is held back, as others need what it takes beyond {before}"),
            false => format!("it moves {} of {before}", rate_text(used.bytes_per_second)),
        };
        let reason = |has: Needs| {
            let reserved = rate_text(has.bytes_per_second);
            format!("{why}: {reserved} are reserved now")
        };
        let class = self.class_now(job)?;
        let spaces = self.spaces_of(class);
        let widened = policy::widen(&job.shares, rate, &tiers, &spaces).filter(|widened| {
            let has = total(&widened.shares).bytes_per_second;
            is_more(given.bytes_per_second, has)
        });
        let Some(widened) = widened else {
            let shares = self.extended(job, wanted, self.offer_of(class, now)?, now)?;
            let reason = reason(total(&shares));
            self.jobs.get_mut(id)?.why_throughput.clone_from(&reason);
            return self.grow_to(id, shares, reason, now);
        };
        let has = total(&widened.shares);
        let reason = reason(has);
        self.jobs.get_mut(id)?.why_throughput.clone_from(&reason);
        if widened.moved {
            return self.grow_to(id, widened.shares, reason, now);
        }
        self.reserve(id, widened.shares, now);
        self.decisions.grown += 1;
        let job = self.jobs.get_mut(id)?;
        job.reservation.needs.bytes_per_second = has.bytes_per_second;
        info!(job = %id, "the job is given more: {reason}");
        job.changed_reservation();
        Some(())
    }

    /// Keeps only so much of the job's reservation, on the same servers in the same proportion: its
    /// map stays as it is.
    fn give_back(&mut self, id: JobId, kept: Needs, now: Instant) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let given = job.reserved;
        let shares = shrink(&job.shares, kept);
        info!(job = %id, ?kept, ?given, "the job gives back what it does not use");
        self.reserve(id, shares, now);
        self.decisions.given_back += 1;
        if let Some(job) = self.jobs.get_mut(id) {
            if kept.capacity_bytes < given.capacity_bytes {
                job.reservation.needs.capacity_bytes = kept.capacity_bytes;
                job.why_capacity = format!(
                    "it holds far less than {}: {} are reserved now",
                    ByteCount(given.capacity_bytes),
                    ByteCount(kept.capacity_bytes)
                );
            }
            if kept.bytes_per_second < given.bytes_per_second {
                job.reservation.needs.bytes_per_second = kept.bytes_per_second;
                job.why_throughput = format!(
                    "it moves far less than {}: {} are reserved now",
                    rate_text(given.bytes_per_second),
                    rate_text(kept.bytes_per_second)
                );
            }
            job.changed_reservation();
        }
        // There is room for others, who may wait for it.
        self.changed = true;
    }

    /// Promises these shares to the job from now on, at their price.
    pub(super) fn reserve(&mut self, id: JobId, shares: Vec<Share>, now: Instant) {
        let bill = self.bill(&shares);
        self.jobs.set_shares(id, shares);
        if let Some(job) = self.jobs.get_mut(id) {
            job.account.set_bill(bill, now);
        }
    }

    /// Lets jobs hold what is reserved for them and what nobody was promised: who gave back does not
    /// take what others got instead.
    pub(super) fn set_quotas(&mut self) {
        let lent = |job: &&Job| {
            let most = job.reservation.capacity_bytes_max;
            job.phase == Phase::Running
                && (job.reservation.needs.capacity_bytes < most || job.spec.capacity_bytes < most)
        };
        let lent = self.jobs.all().filter(lent);
        let lent: Vec<_> = lent
            .filter_map(|job| Some((job.id, self.class_now(job)?)))
            .collect();
        if lent.is_empty() {
            return;
        }
        let free = |space: &policy::StorageSpace| {
            space.capacity_bytes.saturating_sub(space.reserved_bytes)
        };
        let free_bytes = |class| {
            let spaces = self.spaces_of(class);
            spaces.iter().map(free).fold(0, u64::saturating_add)
        };
        let regular = free_bytes(StorageClass::Regular);
        let long_running = free_bytes(StorageClass::LongRunning);
        for (id, class) in lent {
            let free_bytes = match class {
                StorageClass::Regular => regular,
                StorageClass::LongRunning => long_running,
            };
            if let Some(job) = self.jobs.get_mut(id) {
                job.set_quota(job.reservation.quota_bytes(free_bytes));
            }
        }
    }

    /// Running jobs that found no room to grow, and what they lack.
    pub(super) fn lacking(&self, now: Instant) -> impl Iterator<Item = (&Job, Lack)> {
        let fresh = move |lack: &Lack| now.saturating_duration_since(lack.looked) <= NO_ROOM_PAUSE;
        let jobs = self.jobs.all().filter(|job| job.phase == Phase::Running);
        jobs.filter_map(move |job| Some((job, job.lack.filter(fresh)?)))
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_millis() as u64
    }
}

impl Job {
    /// It has another map, with this reason.
    fn publish(&mut self, epoch: u32, reason: String, now: Instant) {
        info!(job = %self.id, epoch, "the job is given more: {reason}");
        let servers = self
            .spec
            .weight_map
            .as_ref()
            .map_or(0, |map| map.servers.len());
        self.account.note_epoch(EpochNote {
            epoch,
            published: now,
            servers,
            reason,
        });
        self.changed_reservation();
    }

    /// Its metadata server is to know what is reserved for it.
    fn changed_reservation(&mut self) {
        self.lack = None;
        self.spec.reservation = Some(control::Reservation {
            why_capacity: self.why_capacity.clone(),
            why_throughput: self.why_throughput.clone(),
            ..self.reservation.write()
        });
        self.resized = true;
    }

    /// So much throughput is left to it, for this reason.
    pub(super) fn gave_up_throughput(&mut self, bytes_per_second: u64, reason: String) {
        self.reservation.needs.bytes_per_second = bytes_per_second;
        self.why_throughput = reason;
        self.changed_reservation();
    }

    /// It may hold so much. Less at once, more if that is worth telling.
    fn set_quota(&mut self, bytes: u64) {
        let now = self.spec.capacity_bytes;
        let most = self.reservation.capacity_bytes_max;
        if bytes < now || bytes > now + now / 16 || (bytes > now && bytes == most) {
            self.spec.capacity_bytes = bytes;
            self.resized = true;
        }
    }
}

fn is_more(has: u64, wanted: u64) -> bool {
    wanted > has && wanted - has >= has / GROWTH_PART_MIN
}
