//! Whose changes are taken: sessions that their metadata server vouches for and has not fenced. And
//! who reads: sessions that it vouches for, because while it does not this server may hold what was
//! removed or cut elsewhere.
//!
//! What is known here may be forgotten at any time, with the process or before: whoever is not
//! vouched for changes nothing, and a metadata server vouches only once its fences are known.
//! Locks: the table's, then a metadata server's; a job's is held while a block changes, so that a
//! fence that was taken up has no change behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use pocket_proto::{Failure, Fence, Incarnation, JobId, SessionScope, Status, VOUCH_LASTS, Vouch};

/// A vouch counts for so long from when this server said what it repeats: a tenth less than its
/// issuer believes, for clocks that differ.
const VOUCH_TRUSTED: Duration = VOUCH_LASTS.saturating_sub(
    // Duration has no constant division.
    Duration::from_millis(VOUCH_LASTS.as_millis() as u64 / 10),
);

/// What metadata servers have said of their sessions.
pub(crate) struct Fences {
    start: Instant,
    issuers: Mutex<HashMap<Incarnation, Arc<Issuer>>>,
}

/// A life of a metadata server.
#[derive(Default)]
struct Issuer {
    /// Microseconds after the start of this server.
    vouched_until: AtomicU64,
    jobs: Mutex<HashMap<JobId, Arc<Told>>>,
}

/// The newest fence of a job; none yet.
type Told = RwLock<Option<Fence>>;

/// A session as one of its connections refers to it.
pub(crate) struct Standing {
    scope: SessionScope,
    start: Instant,
    issuer: Arc<Issuer>,
    told: Arc<Told>,
}

impl Fences {
    pub(crate) fn new() -> Self {
        Fences {
            start: Instant::now(),
            issuers: Mutex::default(),
        }
    }

    /// What is known of a session, now and from now on.
    pub(crate) fn standing(&self, scope: SessionScope) -> Standing {
        let mut issuers = self.issuers.lock();
        let issuer = Arc::clone(issuers.entry(scope.issuer).or_default());
        let told = issuer.job(scope.job);
        Standing {
            scope,
            start: self.start,
            issuer,
            told,
        }
    }

    /// Takes a vouch, and answers what the next one is to repeat.
    pub(crate) fn vouch(&self, vouch: Vouch) -> u64 {
        let now = micros(self.start);
        let issuer = Arc::clone(self.issuers.lock().entry(vouch.issuer).or_default());
        if vouch.heard > 0 {
            let until = vouch.heard.min(now) + VOUCH_TRUSTED.as_micros() as u64;
            issuer.vouched_until.fetch_max(until, Ordering::Relaxed);
        }
        now
    }

    /// Takes a fence. When this returns, no session that it ends changes anything any more.
    pub(crate) fn fence(&self, job: JobId, fence: Fence) {
        let told = {
            let mut issuers = self.issuers.lock();
            issuers.entry(fence.issuer).or_default().job(job)
        };
        let mut newest = told.write();
        let known = newest.as_ref().map_or(0, |fence| fence.edition);
        if fence.edition > known {
            *newest = Some(fence);
        }
    }

    /// The job was dropped: its blocks are not changed any more, whoever asks.
    pub(crate) fn forget_job(&self, job: JobId) {
        let now = micros(self.start);
        self.issuers.lock().retain(|_, issuer| {
            let mut jobs = issuer.jobs.lock();
            jobs.remove(&job);
            let is_vouched = issuer.vouched_until.load(Ordering::Relaxed) > now;
            is_vouched || !jobs.is_empty() || Arc::strong_count(issuer) > 1
        });
    }
}

impl Issuer {
    fn job(&self, job: JobId) -> Arc<Told> {
        let mut jobs = self.jobs.lock();
        if let Some(told) = jobs.get(&job) {
            return Arc::clone(told);
        }
        // Jobs that nobody is connected for and nobody was fenced of need no place.
        jobs.retain(|_, told| {
            let is_told = || told.try_read().is_none_or(|fence| fence.is_some());
            Arc::strong_count(told) > 1 || is_told()
        });
        Arc::clone(jobs.entry(job).or_default())
    }
}

impl Standing {
    /// Makes a change of blocks, unless the session may not; a fence waits until it is made.
    ///
    /// Errors: [`Status::SessionEnded`] once the session is fenced, [`Status::Again`] while its
    /// metadata server does not vouch for it, and those of `change`.
    pub(crate) fn admit<R>(
        &self,
        change: impl FnOnce() -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let told = self.told.read();
        let SessionScope { session, .. } = self.scope;
        if told.as_ref().is_some_and(|fence| !fence.admits(session)) {
            return Err(Failure::new(
                Status::SessionEnded,
                format!("session {session} was fenced: the mount has to begin another"),
            ));
        }
        self.in_touch()?;
        change()
    }

    /// Whether its metadata server vouches for the session: what is here is what it should be.
    ///
    /// Errors: [`Status::Again`].
    pub(crate) fn in_touch(&self) -> Result<(), Failure> {
        if micros(self.start) < self.issuer.vouched_until.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Failure::new(
            Status::Again,
            format!(
                "the metadata server (life {}) of session {} is not in touch with this storage \
                 server: can it reach the address that this one advertises?",
                self.scope.issuer, self.scope.session
            ),
        ))
    }
}

/// Since the server's start; 0 is said of nothing that was heard.
fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use pocket_proto::SessionId;

    use super::*;

    const JOB: JobId = JobId(1);
    const ISSUER: Incarnation = Incarnation(2);

    fn standing(fences: &Fences, session: u64) -> Standing {
        fences.standing(SessionScope {
            job: JOB,
            session: SessionId(session),
            issuer: ISSUER,
        })
    }

    fn vouched() -> Fences {
        let fences = Fences::new();
        let heard = fences.vouch(Vouch {
            issuer: ISSUER,
            heard: 0,
        });
        fences.vouch(Vouch {
            issuer: ISSUER,
            heard,
        });
        fences
    }

    fn fence(edition: u64, newest: u64, live: &[u64]) -> Fence {
        Fence {
            issuer: ISSUER,
            edition,
            newest: SessionId(newest),
            live: live.iter().map(|id| SessionId(*id)).collect(),
        }
    }

    fn status(standing: &Standing) -> Status {
        match standing.admit(|| Ok(())) {
            Ok(()) => Status::Ok,
            Err(failure) => failure.status,
        }
    }

    #[test]
    fn session_that_nobody_vouches_for_changes_nothing() {
        let fences = Fences::new();
        let session = standing(&fences, 1);
        assert_eq!(status(&session), Status::Again);
        let first = Vouch {
            issuer: ISSUER,
            heard: 0,
        };
        fences.vouch(first);
        assert_eq!(status(&session), Status::Again, "nothing was heard yet");
        fences.vouch(Vouch {
            issuer: Incarnation(3),
            heard: 1,
        });
        assert_eq!(status(&session), Status::Again, "another one vouched");
    }

    #[test]
    fn vouch_counts_from_the_word_it_repeats_however_late_it_comes() {
        let mut fences = Fences::new();
        let heard = fences.vouch(Vouch {
            issuer: ISSUER,
            heard: 0,
        });
        fences.start -= VOUCH_LASTS;
        fences.vouch(Vouch {
            issuer: ISSUER,
            heard,
        });
        assert_eq!(status(&standing(&fences, 1)), Status::Again);
        // A word from the future counts from now.
        fences.vouch(Vouch {
            issuer: ISSUER,
            heard: u64::MAX,
        });
        assert_eq!(status(&standing(&fences, 1)), Status::Ok);
        fences.start -= VOUCH_TRUSTED;
        assert_eq!(status(&standing(&fences, 1)), Status::Again, "it lapsed");
    }

    #[test]
    fn fenced_session_stays_fenced_whatever_comes_late() {
        let fences = vouched();
        let (first, second) = (standing(&fences, 1), standing(&fences, 2));
        assert_eq!((status(&first), status(&second)), (Status::Ok, Status::Ok));
        fences.fence(JOB, fence(2, 2, &[2]));
        fences.fence(JOB, fence(1, 1, &[1]));
        for (standing, expected) in [
            (&first, Status::SessionEnded),
            (&second, Status::Ok),
            (&standing(&fences, 1), Status::SessionEnded),
            (&standing(&fences, 3), Status::Ok),
        ] {
            assert_eq!(status(standing), expected);
        }
        drop((first, second));
        // Others come and go; what was fenced stays known.
        fences.standing(SessionScope {
            job: JobId(9),
            session: SessionId(1),
            issuer: ISSUER,
        });
        assert_eq!(status(&standing(&fences, 1)), Status::SessionEnded);
    }

    #[test]
    fn what_is_dropped_leaves_nothing_behind() {
        let fences = Fences::new();
        fences.fence(JOB, fence(1, 2, &[2]));
        let session = standing(&fences, 2);
        fences.forget_job(JOB);
        assert_eq!(fences.issuers.lock().len(), 1, "it is connected");
        drop(session);
        fences.forget_job(JOB);
        assert_eq!(fences.issuers.lock().len(), 0);
    }

    #[test]
    fn fence_waits_for_the_change_under_way() {
        let fences = vouched();
        let session = standing(&fences, 1);
        let (begun, in_change) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let ended = std::sync::atomic::AtomicBool::new(false);
        let (admitting, flag) = (&session, &ended);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let changed = admitting.admit(|| {
                    begun.send(()).unwrap();
                    ends.recv().unwrap();
                    flag.store(true, Ordering::SeqCst);
                    Ok(())
                });
                assert_eq!(changed, Ok(()));
            });
            in_change.recv().unwrap();
            let fencing = scope.spawn(|| {
                fences.fence(JOB, fence(1, 1, &[]));
                assert!(ended.load(Ordering::SeqCst), "the change came behind");
            });
            end.send(()).unwrap();
            fencing.join().unwrap();
        });
        assert_eq!(status(&session), Status::SessionEnded);
    }
}
