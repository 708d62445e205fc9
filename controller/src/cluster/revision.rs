//! Running jobs: their use compared with their reservation, every second.
//!
//! A job that outgrows what it was given gets more, on the next tier if need be, before a write
//! fails; one that stays far under gives its reservation back to others. A capacity that the user
//! hinted stays the most that the job may hold; one that was guessed follows the job.

use std::time::{Duration, Instant};

use pocket_policy::{self as policy, Needs, Revision, Share, Use, Wanted, WatchSettings};
use pocket_proto::{ByteCount, JobId, control::Hints};
use tracing::info;

use super::{Cluster, account::EpochNote, jobs::Phase};

/// Time between two looks at all jobs.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A job for which there was no room is looked at again after this.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(10);

impl Cluster {
    /// Looks at every running job, if the last look is a second ago.
    pub(super) fn revise_jobs(&mut self, now: Instant) {
        let due = self.revised.is_none_or(|last| now >= last + LOOK_INTERVAL);
        if !due || self.is_settling(now) {
            return;
        }
        self.revised = Some(now);
        let started = self.started;
        let now_ms = now.saturating_duration_since(started).as_millis() as u64;
        let mut revisions = Vec::new();
        let ids: Vec<JobId> = self.jobs.all().map(|job| job.id).collect();
        for id in ids {
            let Some(job) = self.jobs.get_mut(id) else {
                continue;
            };
            // A revision is settled before there is a next one.
            let settled = !job.calling && !job.resized && job.confirmed_epoch >= job.epoch();
            if job.phase != Phase::Running || !settled || now < job.revise_at {
                continue;
            }
            let capacity_only = |capacity_bytes| Needs {
                capacity_bytes,
                bytes_per_second: 0,
            };
            let now_used = Use {
                given: capacity_only(sum(&job.shares)),
                used: capacity_only(job.used_bytes),
            };
            let settings = match job.guessed {
                true => WatchSettings::guessed(),
                false => WatchSettings::told(),
            };
            if let Some(revision) = job.watch.look(now_used, &settings, now_ms) {
                revisions.push((id, revision));
            }
        }
        for (id, revision) in revisions {
            let done = match revision {
                Revision::Grow(needs) => self.grow(id, needs.capacity_bytes, now),
                Revision::GiveBack(needs) => self.give_back(id, needs.capacity_bytes, now),
            };
            if done.is_none()
                && let Some(job) = self.jobs.get_mut(id)
            {
                job.revise_at = now + NO_ROOM_PAUSE;
            }
        }
    }

    /// Reserves `wanted_bytes` for the job, or what of it there is. `None` if that is not more than
    /// it has.
    fn grow(&mut self, id: JobId, wanted_bytes: u64, now: Instant) -> Option<()> {
        let job = self.jobs.get(id)?;
        let hints = job.spec.hints.unwrap_or_default();
        let most = match self.guess(&hints) {
            None => job.spec.capacity_bytes,
            Some(guess) => guess.max(job.spec.capacity_bytes),
        };
        let (before, old) = (sum(&job.shares), job.shares.clone());
        let wanted = Needs {
            capacity_bytes: wanted_bytes.min(most),
            bytes_per_second: job.spec.bandwidth_bytes_per_second,
        };
        if wanted.capacity_bytes <= before {
            return None;
        }
        let (used_bytes, epoch) = (job.used_bytes, job.epoch().checked_add(1)?);
        let tiers = policy::demand(&hints, &self.catalogue, None).tiers;
        self.jobs.set_shares(id, Vec::new());
        let placed = policy::reallocate(wanted, &tiers, &self.spaces());
        let Some((shares, weights)) = placed.filter(|(shares, _)| sum(shares) > before) else {
            self.jobs.set_shares(id, old);
            return None;
        };
        let (price, reserved) = (self.price(&shares), sum(&shares));
        self.jobs.set_shares(id, shares);
        self.decisions.grown += 1;
        let map = self.weight_map(epoch, &weights);
        let job = self.jobs.get_mut(id)?;
        let note = EpochNote {
            epoch,
            published: now,
            servers: map.servers.len(),
            reason: format!(
                "it holds {} of {}: {} are reserved now",
                ByteCount(used_bytes),
                ByteCount(before),
                ByteCount(reserved)
            ),
        };
        info!(job = %id, epoch, "the job is given more: {}", note.reason);
        job.account.note_epoch(note);
        job.account.set_price(price, now);
        job.spec.weight_map = Some(map);
        if reserved > job.spec.capacity_bytes {
            job.spec.capacity_bytes = reserved;
            job.resized = true;
        }
        Some(())
    }

    /// Keeps only `kept_bytes` of the job's reservation, on the same servers in the same proportion:
    /// its map stays as it is.
    fn give_back(&mut self, id: JobId, kept_bytes: u64, now: Instant) -> Option<()> {
        let job = self.jobs.get(id)?;
        let before = sum(&job.shares);
        let kept = |share: &Share| Share {
            bytes: part(share.bytes, kept_bytes, before).max(1),
            ..*share
        };
        let shares: Vec<Share> = job.shares.iter().map(kept).collect();
        let price = self.price(&shares);
        info!(job = %id, reserved_bytes = sum(&shares), "the job gives back what it does not use");
        self.jobs.set_shares(id, shares);
        self.decisions.given_back += 1;
        let job = self.jobs.get_mut(id)?;
        job.account.set_price(price, now);
        // There is room for others, who may wait for it.
        self.changed = true;
        Some(())
    }

    /// The capacity that a rule guesses for these hints; `None` if the user said it.
    pub(super) fn guess(&self, hints: &Hints) -> Option<u64> {
        match policy::demand(hints, &self.catalogue, None).capacity_bytes {
            Wanted::Exactly(_) => None,
            Wanted::Expected(bytes) | Wanted::UpTo(bytes) => Some(bytes),
        }
    }
}

fn sum(shares: &[Share]) -> u64 {
    shares.iter().map(|share| share.bytes).sum()
}

fn part(amount: u64, of: u64, all: u64) -> u64 {
    (u128::from(amount) * u128::from(of) / u128::from(all.max(1))) as u64
}
