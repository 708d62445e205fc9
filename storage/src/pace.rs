//! What each job moves here, and how one that takes what others need is slowed.
//!
//! A job above its allocation is held to what the controller says, by a token bucket that may run
//! into debt: a request is always served, and then the job's connections are not read until the
//! debt is paid. So nothing fails, and who waits is the job's own mounts. A limit lasts until the next
//! reply of the controller, and not for long without one.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pocket_proto::{
    JobId,
    control::{JobLimit, JobTraffic},
};

/// The controller repeats limits every second: without a word from it they end.
const LIMIT_LASTS: Duration = Duration::from_secs(3);
/// Nobody is held to less: what a mount has in flight (some hundred MiB at most) must pass before its
/// requests are given up (30 s).
const BYTES_PER_SECOND_MIN: u64 = 16 << 20;
/// A connection is read again after this at the latest: clients take a server that is silent for three
/// seconds for dead.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// What is saved up while nothing moves, as time.
const BURST: Duration = Duration::from_millis(50);

/// Every job that moves data here.
#[derive(Default)]
pub(crate) struct Paces {
    jobs: Mutex<HashMap<JobId, Arc<Pace>>>,
}

impl Paces {
    /// The pace of a job's connections, all of which share it.
    pub(crate) fn of(&self, job: JobId) -> Arc<Pace> {
        Arc::clone(self.jobs.lock().entry(job).or_default())
    }

    /// Jobs that are connected, or were until the last report.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.lock().len()
    }

    /// What each job moved in the time since the last call, which was `elapsed` ago. Forgets jobs
    /// that have left.
    pub(crate) fn report(&self, elapsed: Duration) -> Vec<JobTraffic> {
        let mut reports = Vec::new();
        self.jobs.lock().retain(|job, pace| {
            let moved = pace.moved.swap(0, Ordering::Relaxed);
            let held_back = pace.held_back.swap(false, Ordering::Relaxed);
            if moved > 0 || held_back {
                let bytes_per_second = moved as f64 / elapsed.as_secs_f64().max(0.001);
                reports.push(JobTraffic {
                    job: job.0,
                    bytes_per_second: bytes_per_second as u64,
                    held_back,
                });
            }
            Arc::strong_count(pace) > 1
        });
        reports
    }

    /// Holds these jobs to these rates from now on, and no others.
    pub(crate) fn limit(&self, limits: &[JobLimit], now: Instant) {
        let limits: HashMap<_, _> = limits
            .iter()
            .map(|limit| (JobId(limit.job), limit.bytes_per_second))
            .collect();
        for (job, pace) in &*self.jobs.lock() {
            pace.limit(limits.get(job).copied(), now);
        }
    }
}

/// What one job moves, and how fast it may.
#[derive(Default)]
pub(crate) struct Pace {
    moved: AtomicU64,
    held_back: AtomicBool,
    /// Whether there is a bucket: spares the lock where there is none.
    limited: AtomicBool,
    bucket: Mutex<Option<Bucket>>,
}

struct Bucket {
    bytes_per_second: u64,
    /// Negative: a debt.
    tokens: f64,
    filled: Instant,
    ends: Instant,
}

impl Pace {
    /// Counts what was moved.
    pub(crate) fn count(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.limited.load(Ordering::Relaxed)
            && let Some(bucket) = &mut *self.bucket.lock()
        {
            bucket.tokens -= bytes as f64;
        }
    }

    /// For how long the job's connections shall not be read.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        if !self.limited.load(Ordering::Relaxed) {
            return None;
        }
        let mut bucket = self.bucket.lock();
        let pause = match &mut *bucket {
            Some(limit) if now < limit.ends => limit.pause(now),
            _ => {
                *bucket = None;
                self.limited.store(false, Ordering::Relaxed);
                None
            }
        };
        if pause.is_some() {
            self.held_back.store(true, Ordering::Relaxed);
        }
        pause
    }

    fn limit(&self, bytes_per_second: Option<u64>, now: Instant) {
        let mut bucket = self.bucket.lock();
        *bucket = bytes_per_second.map(|rate| {
            let rate = rate.max(BYTES_PER_SECOND_MIN);
            let before = bucket.take();
            Bucket {
                bytes_per_second: rate,
                tokens: before.as_ref().map_or(0.0, |bucket| bucket.tokens),
                filled: before.map_or(now, |bucket| bucket.filled),
                ends: now + LIMIT_LASTS,
            }
        });
        self.limited.store(bucket.is_some(), Ordering::Relaxed);
    }
}

impl Bucket {
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let rate = self.bytes_per_second as f64;
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate * BURST.as_secs_f64());
        self.filled = now;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / rate).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(7);
    const MIB: usize = 1 << 20;

    fn limit_of(mebibytes_per_second: u64) -> Vec<JobLimit> {
        vec![JobLimit {
            job: JOB.0,
            bytes_per_second: mebibytes_per_second << 20,
        }]
    }

    /// Bytes that pass in so long if the job sends a MiB whenever it is let.
    fn passes(paces: &Paces, limits: &[JobLimit], start: Instant, seconds: u64) -> usize {
        let pace = paces.of(JOB);
        let (mut now, mut passed) = (start, 0);
        while now < start + Duration::from_secs(seconds) {
            paces.limit(limits, now);
            pace.count(MIB);
            passed += MIB;
            // A wire of 1 GiB/s.
            now += pace.pause(now).unwrap_or_default() + Duration::from_micros(977);
        }
        passed
    }

    #[test]
    fn a_limited_job_moves_what_it_may_and_an_unlimited_one_what_it_can() {
        let paces = Paces::default();
        let start = Instant::now();
        let limited = passes(&paces, &limit_of(100), start, 10) / MIB;
        assert!((990..1020).contains(&limited), "{limited}");
        let free = passes(&paces, &[], start + Duration::from_secs(10), 10) / MIB;
        assert!(free > 10_000, "{free}");
    }

    #[test]
    fn a_report_tells_what_was_moved_and_whether_it_was_held_back() {
        let paces = Paces::default();
        let second = Duration::from_secs(1);
        let pace = paces.of(JOB);
        let now = Instant::now();
        assert_eq!(paces.report(second), []);
        pace.count(MIB);
        let report = |bytes_per_second: usize, held_back| JobTraffic {
            job: JOB.0,
            bytes_per_second: bytes_per_second as u64,
            held_back,
        };
        assert_eq!(paces.report(2 * second), [report(MIB / 2, false)]);
        paces.limit(&limit_of(50), now);
        pace.count(25 * MIB);
        assert_eq!(pace.pause(now), Some(second / 2));
        assert_eq!(paces.report(second), [report(25 * MIB, true)]);
        drop(pace);
        assert_eq!(paces.report(second), []);
        assert!(paces.jobs.lock().is_empty(), "the job has left");
    }

    #[test]
    fn a_limit_ends_without_a_controller_and_never_starves() {
        let paces = Paces::default();
        let pace = paces.of(JOB);
        let now = Instant::now();
        paces.limit(&limit_of(0), now);
        pace.count(8 * MIB);
        assert_eq!(pace.pause(now), Some(Duration::from_millis(500)));
        pace.count(800 * MIB);
        assert_eq!(pace.pause(now), Some(PAUSE_MAX));
        assert_eq!(pace.pause(now + LIMIT_LASTS), None);
        assert!(!pace.limited.load(Ordering::Relaxed));
    }

    #[test]
    fn what_was_saved_up_is_little() {
        let paces = Paces::default();
        let pace = paces.of(JOB);
        let now = Instant::now();
        paces.limit(&limit_of(100), now);
        let later = now + Duration::from_secs(2);
        assert_eq!(pace.pause(later), None);
        pace.count(10 * MIB);
        let pause = pace.pause(later).expect("5 MiB were saved up");
        assert_eq!(pause, Duration::from_millis(50));
    }
}
