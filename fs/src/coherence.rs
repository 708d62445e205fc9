//! What the kernel may cache, and how a recall takes it back.
//!
//! Replies of the metadata server carry leases; handing one to the kernel and taking a lease back
//! must not cross. So a reply remembers how many recalls had come before it ([`Leased`]); it is
//! handed over under a shared lock and, if a recall has come since, without any validity. A recall
//! takes the lock for writing first and drops what the kernel holds after: whatever was handed
//! over before is there to be dropped, whatever comes later is not cached.

use std::time::{Duration, Instant};

use parking_lot::RwLock;
use pocket_proto::{InodeId, SessionId};

use crate::inode_cache::Tick;

/// The kernel's caches of one mount, as far as recalls reach into them.
///
/// What may wait for other operations of the mount is called where blocking is allowed, and never
/// from inside an operation; but for pages, which wait for reads and writes only.
pub trait KernelCache: Send + Sync {
    /// Drops a name, present or absent. May block while an operation in that directory is under
    /// way.
    fn drop_name(&self, parent: InodeId, name: &[u8]);
    /// Drops an inode's attributes. Waits for nothing, so it may be called from anywhere.
    fn drop_attributes(&self, inode: InodeId);
    /// Drops an inode's attributes and pages; dirty ones are written through the mount first.
    fn drop_data(&self, inode: InodeId);
    /// Has the next listing of a directory asked for, even by who has it open. Waits for who is just
    /// being given names that are kept.
    fn drop_listing(&self, directory: InodeId);
    /// Drops every name at once. Does not block. False where the kernel cannot do that.
    fn drop_all_names(&self) -> bool;
}

/// For uses without a mount: nothing is cached, nothing to drop.
#[derive(Debug, Default)]
pub struct NoKernelCache;

impl KernelCache for NoKernelCache {
    fn drop_name(&self, _: InodeId, _: &[u8]) {}
    fn drop_attributes(&self, _: InodeId) {}
    fn drop_data(&self, _: InodeId) {}
    fn drop_listing(&self, _: InodeId) {}
    fn drop_all_names(&self) -> bool {
        true
    }
}

/// A value with what is needed to tell, when it is handed to the kernel, how long it may stay.
#[derive(Clone, Debug)]
pub struct Leased<T> {
    /// What the server answered.
    pub value: T,
    /// Recalls that had arrived before the answer.
    pub(crate) stamp: u64,
    /// When the request went out: leases run from no later than this.
    pub(crate) asked: Instant,
    /// The same moment in this mount's own order of events.
    pub(crate) since: Tick,
    /// The session it was asked in: each loss of a session begins another.
    pub(crate) session: u64,
    /// The server's session in which it was done, if it was asked.
    pub(crate) done_in: Option<SessionId>,
}

impl<T> Leased<T> {
    /// Another value from the same answer.
    pub(crate) fn with<U>(&self, value: U) -> Leased<U> {
        Leased {
            value,
            stamp: self.stamp,
            asked: self.asked,
            since: self.since,
            session: self.session,
            done_in: self.done_in,
        }
    }

    /// Turns the value into another, or fails.
    pub(crate) fn map<U, E>(self, f: impl FnOnce(T) -> Result<U, E>) -> Result<Leased<U>, E> {
        let Leased {
            value,
            stamp,
            asked,
            since,
            session,
            done_in,
        } = self;
        Ok(Leased {
            value: f(value)?,
            stamp,
            asked,
            since,
            session,
            done_in,
        })
    }
}

/// How much of a lease is left at the moment of handing over.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    elapsed: Duration,
    /// It is of another session.
    lost: bool,
    pub(crate) recalled: bool,
    /// For how long the server keeps the session in any case.
    in_touch: Duration,
    /// Some file went through since; it may be the one spoken of.
    pub(crate) shared: bool,
    /// Number of the session that this mount has now.
    pub(crate) session: u64,
    /// It was done in that session: what was opened counts in it.
    pub(crate) counts: bool,
}

impl Freshness {
    /// For how long the kernel may keep what the server leased for `lease_ms`: no longer than this
    /// mount is known to be in touch with the server, as it may be stopped the next moment.
    pub fn validity(&self, lease_ms: u32) -> Duration {
        self.lease_left(lease_ms).min(self.in_touch)
    }

    /// For how long this mount may keep it, while it is in touch.
    pub(crate) fn lease_left(&self, lease_ms: u32) -> Duration {
        match self.recalled {
            true => Duration::ZERO,
            false => self.lease_left_unless_recalled(lease_ms),
        }
    }

    /// The same, for who knows of recalls by himself.
    pub(crate) fn lease_left_unless_recalled(&self, lease_ms: u32) -> Duration {
        match self.lost {
            true => Duration::ZERO,
            false => Duration::from_millis(u64::from(lease_ms)).saturating_sub(self.elapsed),
        }
    }
}

/// Numbers of the newest recalls, and the lock that orders replies and recalls.
#[derive(Debug, Default)]
pub(crate) struct Coherence {
    newest: RwLock<Newest>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    /// Sessions lost so far.
    session: u64,
    /// What the server calls the session of that number; nothing between two sessions.
    name: Option<SessionId>,
    /// The newest recall.
    recall: u64,
    /// The newest recall that made a file go through, or pause.
    through: u64,
}

impl Coherence {
    /// Hands `leased` over: `give` runs while no recall can begin. The session lasts for `in_touch`
    /// in any case.
    pub(crate) fn hand_over<T, R>(
        &self,
        leased: &Leased<T>,
        in_touch: Duration,
        give: impl FnOnce(&T, Freshness) -> R,
    ) -> R {
        let newest = self.newest.read();
        let lost = newest.session != leased.session;
        let freshness = Freshness {
            elapsed: leased.asked.elapsed(),
            lost,
            recalled: lost || newest.recall > leased.stamp,
            shared: lost || newest.through > leased.stamp,
            in_touch,
            session: newest.session,
            counts: newest.name.is_some() && newest.name == leased.done_in,
        };
        give(&leased.value, freshness)
    }

    /// Runs `f` with the numbers of the newest recall and of the session, while neither can change:
    /// recalls take what they name out of the caches ([`Coherence::begin_recall`]), so what `f`
    /// finds there is as good as answered at this moment.
    pub(crate) fn stamped<R>(&self, f: impl FnOnce(u64, u64) -> R) -> R {
        let newest = self.newest.read();
        f(newest.recall, newest.session)
    }

    /// The server knows this mount's session by this name from now on.
    pub(crate) fn name_session(&self, name: SessionId) {
        self.newest.write().name = Some(name);
    }

    /// Runs `f` while no recall can begin.
    pub(crate) fn steady<R>(&self, f: impl FnOnce() -> R) -> R {
        let _newest = self.newest.read();
        f()
    }

    /// Sessions lost so far: to be noted in requests.
    pub(crate) fn session(&self) -> u64 {
        self.newest.read().session
    }

    /// A recall arrived: nothing older than it is cached from here on; `through` says that it makes
    /// files go through. `forget` takes what it names out of this mount's own caches, before
    /// anyone could take that for newer than the recall.
    pub(crate) fn begin_recall(&self, stamp: u64, through: bool, forget: impl FnOnce()) {
        let mut newest = self.newest.write();
        newest.recall = newest.recall.max(stamp);
        if through {
            newest.through = newest.through.max(stamp);
        }
        forget();
    }

    /// The session is lost: nothing that was answered in it is cached from here on. `forget` empties
    /// this mount's own caches. Answers the number of the session to come.
    pub(crate) fn begin_session(&self, forget: impl FnOnce()) -> u64 {
        let mut newest = self.newest.write();
        newest.session += 1;
        newest.name = None;
        forget();
        newest.session
    }
}
