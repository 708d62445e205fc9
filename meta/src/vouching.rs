//! What storage servers are told of sessions: that this metadata server vouches for them, and which
//! are fenced.
//!
//! Each server that a job may have blocks on has a task that vouches every so often, and first of
//! all tells it of the fences that it has not acknowledged, and of what it is to drop (`debts`). A
//! fence holds once every server has acknowledged it or is not vouched for any more: one that cannot
//! be reached takes no changes of any session by then, and none of a fenced one when it is reached
//! again. In the same way nobody reads what was removed or cut while a server was away.

mod debts;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pocket_proto::session::StorageServer;
use pocket_proto::{Failure, Fence, Incarnation, JobId, Status, VOUCH_LASTS, Vouch};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

pub(crate) use self::debts::Debt;
use self::debts::Debts;
use crate::blocks::BlockRemover;

/// Several vouches may be lost or late.
const VOUCHES_PER_LAST: u32 = 5;
/// Pause after a server did not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// For so long a server that no job names any more is awaited, to drop what it should not have.
const DEBTS_KEPT: Duration = Duration::from_secs(3600);

/// The servers, and the tasks that speak to them.
pub(crate) struct Vouching {
    blocks: Arc<dyn BlockRemover>,
    /// The life of this metadata server, in whose name it is done.
    pub(crate) issuer: Incarnation,
    servers: Mutex<HashMap<ServerKey, Arc<Vouched>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A server's id and incarnation.
type ServerKey = (u64, u64);

/// A server.
struct Vouched {
    server: StorageServer,
    state: Mutex<State>,
    /// Wakes its task.
    work: Notify,
    /// Counts changes that fences wait for.
    changes: watch::Sender<u64>,
    retired: CancellationToken,
}

#[derive(Default)]
struct State {
    /// It may believe for so long that it is vouched for.
    until: Option<Instant>,
    /// What it has not acknowledged, the newest of each job: it says all that older ones do.
    owed: BTreeMap<JobId, Fence>,
    /// What it has not dropped.
    debts: Debts,
    /// When the last was added.
    indebted: Option<Instant>,
    /// It lives no more.
    gone: bool,
    /// No job names it any more: it is not vouched for, and forgotten once it knows that.
    unnamed: bool,
}

impl Vouching {
    pub(crate) fn new(
        blocks: Arc<dyn BlockRemover>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Vouching {
            blocks,
            issuer: Incarnation::random(),
            servers: Mutex::default(),
            tasks,
            stop,
        }
    }

    /// Vouches at a job's servers from now on; before that they are told of its fence, if there was
    /// one. Must be called within a tokio runtime.
    pub(crate) fn begin(
        self: &Arc<Self>,
        job: JobId,
        servers: Vec<StorageServer>,
        fence: Option<&Fence>,
    ) {
        let mut known = self.servers.lock();
        for server in servers {
            let vouched = known.entry(key(&server)).or_insert_with(|| {
                let vouched = Arc::new(Vouched::new(server));
                self.start(&vouched);
                vouched
            });
            if let Some(fence) = fence {
                vouched.owe(job, fence.clone());
            }
            vouched.name();
        }
    }

    fn start(self: &Arc<Self>, vouched: &Arc<Vouched>) {
        let (vouching, vouched) = (Arc::clone(self), Arc::clone(vouched));
        self.tasks.spawn(async move {
            tokio::select! {
                () = vouching.stop.cancelled() => {}
                () = vouched.retired.cancelled() => {}
                () = vouching.keep(&vouched) => {}
            }
        });
    }

    /// Forgets servers that no job names any more: `named` are those that some job does.
    pub(crate) fn retain(&self, named: impl Iterator<Item = StorageServer>) {
        let named: HashSet<_> = named.map(|server| key(&server)).collect();
        self.servers.lock().retain(|key, vouched| {
            if named.contains(key) {
                vouched.name();
                return true;
            }
            let mut state = vouched.state.lock();
            let lapsed = state.until.is_none_or(|until| until < Instant::now());
            // It is not vouched for anew in between.
            let awaited = !state.debts.is_empty()
                && state.indebted.is_some_and(|at| at.elapsed() < DEBTS_KEPT);
            let forgotten = state.gone || (state.unnamed && lapsed && !awaited);
            state.unnamed = true;
            if forgotten {
                vouched.retired.cancel();
            }
            !forgotten
        });
    }

    /// Tells the servers of a fence; returns once it holds on all of them. Servers that nobody
    /// vouches for need not be told: they take no changes.
    pub(crate) async fn fence(&self, job: JobId, servers: &[StorageServer], fence: Fence) {
        let known: Vec<_> = {
            let table = self.servers.lock();
            let known = servers.iter().filter_map(|server| table.get(&key(server)));
            known.cloned().collect()
        };
        let edition = fence.edition;
        for vouched in &known {
            vouched.owe(job, fence.clone());
        }
        for vouched in &known {
            vouched.await_fence(job, edition).await;
        }
    }

    /// Has a server that cannot be reached drop something before anybody reads or changes its blocks
    /// again. Waits until nobody does, or it is done. Must be called within a tokio runtime.
    pub(crate) async fn owe(self: &Arc<Self>, server: &StorageServer, debt: Debt) {
        self.debtor(server, debt).await_unread().await;
    }

    /// As [`Vouching::owe`], for what nobody reads any more: does not wait.
    pub(crate) fn note_debt(self: &Arc<Self>, server: &StorageServer, debt: Debt) {
        self.debtor(server, debt);
    }

    fn debtor(self: &Arc<Self>, server: &StorageServer, debt: Debt) -> Arc<Vouched> {
        let mut known = self.servers.lock();
        let vouched = known.entry(key(server)).or_insert_with(|| {
            let vouched = Arc::new(Vouched::new(server.clone()));
            vouched.state.lock().unnamed = true;
            self.start(&vouched);
            vouched
        });
        vouched.add_debt(debt);
        Arc::clone(vouched)
    }

    /// Whether the server has not yet dropped what it was to, or was given up: what it holds is not to
    /// be trusted, and it is given nothing.
    pub(crate) fn is_indebted(&self, server: &StorageServer) -> bool {
        let known = self.servers.lock();
        let vouched = known.get(&key(server));
        vouched.is_some_and(|vouched| {
            let state = vouched.state.lock();
            state.gone || state.debts.are_due()
        })
    }

    /// Whether any server that is `alive` has not yet dropped all it was to.
    pub(crate) fn are_any_indebted(&self, alive: impl Fn(&StorageServer) -> bool) -> bool {
        let known = self.servers.lock();
        let owes = |vouched: &Arc<Vouched>| {
            let state = vouched.state.lock();
            !state.gone && !state.debts.is_empty()
        };
        known.values().any(|it| alive(&it.server) && owes(it))
    }

    /// The job has ended: its blocks are dropped, and nobody changes them any more.
    pub(crate) fn forget_job(&self, job: JobId) {
        for vouched in self.servers.lock().values() {
            vouched.state.lock().owed.remove(&job);
        }
    }

    /// Speaks to one server, for as long as it lives.
    async fn keep(&self, vouched: &Vouched) {
        // What the server said last, and when it was heard.
        let mut last: Option<(u64, Instant)> = None;
        loop {
            let outcome = match vouched.next_owed() {
                Some((job, fence)) => {
                    let told = self.blocks.fence(&vouched.server, job, &fence).await;
                    told.map(|()| {
                        vouched.acknowledge(job, fence.edition);
                        Duration::ZERO
                    })
                }
                None => match vouched.next_debt() {
                    Some(debt) => {
                        let done = self.collect(&vouched.server, &debt).await;
                        done.map(|()| {
                            vouched.pay(&debt);
                            Duration::ZERO
                        })
                    }
                    None => {
                        let vouch = self.vouch(vouched, &mut last).await;
                        self.collect_job(vouched).await;
                        vouch
                    }
                },
            };
            let pause = match outcome {
                Ok(pause) => pause,
                Err(failure) if is_gone(&failure) => {
                    debug!(server = vouched.server.endpoint, %failure, "vouched for no more");
                    return vouched.end();
                }
                Err(failure) if failure.status.is_transient() => {
                    debug!(server = vouched.server.endpoint, %failure, "not vouched for");
                    RETRY_PAUSE
                }
                Err(failure) => {
                    warn!(server = vouched.server.endpoint, %failure, "not vouched for");
                    RETRY_PAUSE
                }
            };
            if !pause.is_zero() {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = vouched.work.notified() => {}
                }
            }
        }
    }

    /// Tries to have the server drop a job that has ended, but not for long: others count on being
    /// vouched for. What was asked is done, heard or not, and may be asked again.
    async fn collect_job(&self, vouched: &Vouched) {
        let debt = vouched.state.lock().debts.next_job();
        let Some(debt) = debt else {
            return;
        };
        let collected = self.collect(&vouched.server, &debt);
        match timeout(VOUCH_LASTS / VOUCHES_PER_LAST, collected).await {
            Ok(Ok(())) => vouched.pay(&debt),
            Ok(Err(failure)) => {
                debug!(server = vouched.server.endpoint, %failure, "a job is not dropped yet");
            }
            Err(_) => {}
        }
    }

    /// Has the server drop something. Of a job that was dropped as a whole there is nothing left.
    async fn collect(&self, server: &StorageServer, debt: &Debt) -> Result<(), Failure> {
        match self.drop_on(server, debt).await {
            Err(failure) if failure.status == Status::JobGone => Ok(()),
            outcome => outcome,
        }
    }

    async fn drop_on(&self, server: &StorageServer, debt: &Debt) -> Result<(), Failure> {
        let blocks = &self.blocks;
        match debt {
            Debt::Job(job) => blocks.drop_job(server, *job).await,
            Debt::Inodes(job, inodes) => blocks.remove_inodes(server, *job, inodes).await,
            Debt::Cut(job, inode, (block, keep)) => {
                let cut = blocks.truncate(server, *job, *inode, *block, *keep);
                cut.await.map(drop)
            }
            Debt::Block(job, address) => {
                let mover = blocks.mover().ok_or(Status::Unsupported)?;
                mover.drop_block(server, *job, *address).await
            }
        }
    }

    /// Vouches once, and says when to do so again.
    async fn vouch(
        &self,
        vouched: &Vouched,
        last: &mut Option<(u64, Instant)>,
    ) -> Result<Duration, Failure> {
        let period = VOUCH_LASTS / VOUCHES_PER_LAST;
        if !vouched.begin_vouch(last.map(|(_, at)| at)) {
            return Ok(period);
        }
        let vouch = Vouch {
            issuer: self.issuer,
            heard: last.map_or(0, |(heard, _)| heard),
        };
        let heard = self.blocks.vouch(&vouched.server, vouch).await?;
        let before = last.replace((heard, Instant::now()));
        // What repeats nothing, or what was said long ago, only makes a beginning.
        let counts = before.is_some_and(|(_, at)| at.elapsed() < 2 * period);
        Ok(if counts { period } else { Duration::ZERO })
    }
}

impl State {
    /// Nobody counts on the server any more: it is never vouched for again.
    fn give_up(&mut self) {
        self.gone = true;
        self.owed.clear();
        self.debts.clear();
    }
}

impl Vouched {
    fn new(server: StorageServer) -> Self {
        Vouched {
            server,
            state: Mutex::default(),
            work: Notify::new(),
            changes: watch::Sender::new(0),
            retired: CancellationToken::new(),
        }
    }

    /// Some job names it.
    fn name(&self) {
        if std::mem::take(&mut self.state.lock().unnamed) {
            self.work.notify_one();
        }
    }

    /// Before the server is told that what it said at `heard_at` was heard: notes how long it may
    /// count on that. False if it may not be told: something is owed to it, or it is not needed.
    fn begin_vouch(&self, heard_at: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        if state.gone || state.unnamed || !state.owed.is_empty() || state.debts.are_due() {
            return false;
        }
        // It counts from when it spoke, which was earlier.
        state.until = state.until.max(heard_at.map(|at| at + VOUCH_LASTS));
        true
    }

    /// Fences may come here in another order than that of their editions.
    fn owe(&self, job: JobId, fence: Fence) {
        let mut state = self.state.lock();
        let owed = state.owed.get(&job);
        let is_news = owed.is_none_or(|owed| owed.edition < fence.edition);
        if is_news && !state.gone {
            state.owed.insert(job, fence);
            self.work.notify_one();
        }
    }

    fn add_debt(&self, debt: Debt) {
        let mut state = self.state.lock();
        if !state.gone {
            state.debts.add(debt);
            state.indebted = Some(Instant::now());
            if state.debts.are_too_many() {
                warn!(
                    server = self.server.endpoint,
                    "storage server away for too long, its blocks are given up"
                );
                state.give_up();
            }
            self.work.notify_one();
        }
    }

    fn next_debt(&self) -> Option<Debt> {
        self.state.lock().debts.next()
    }

    fn pay(&self, debt: &Debt) {
        self.state.lock().debts.paid(debt);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn next_owed(&self) -> Option<(JobId, Fence)> {
        let state = self.state.lock();
        let (job, fence) = state.owed.first_key_value()?;
        Some((*job, fence.clone()))
    }

    fn acknowledge(&self, job: JobId, edition: u64) {
        let mut state = self.state.lock();
        if state
            .owed
            .get(&job)
            .is_some_and(|owed| owed.edition == edition)
        {
            state.owed.remove(&job);
        }
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn end(&self) {
        self.state.lock().give_up();
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until the job's fence of that edition, or a later one, is acknowledged, or nobody is
    /// vouched for any more.
    async fn await_fence(&self, job: JobId, edition: u64) {
        let is_owed = |state: &State| {
            let owed = state.owed.get(&job);
            owed.is_some_and(|owed| owed.edition >= edition)
        };
        self.await_not(is_owed).await;
    }

    /// Waits until every debt is paid, or nobody is vouched for any more.
    async fn await_unread(&self) {
        self.await_not(|state| state.debts.are_due()).await;
    }

    /// Waits until that is not so, or nobody is vouched for any more.
    async fn await_not(&self, is_so: impl Fn(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let until = {
                let state = self.state.lock();
                state.until.filter(|_| is_so(&state))
            };
            let Some(until) = until else {
                return;
            };
            if timeout_at(until, changes.changed()).await.is_err() {
                info!(
                    server = self.server.endpoint,
                    "storage server does not answer: nobody is to read or change anything there \
                     until it does"
                );
                return;
            }
        }
    }
}

fn key(server: &StorageServer) -> ServerKey {
    (server.server, server.incarnation)
}

/// Whether the failure says that the blocks are gone already.
pub(crate) fn is_gone(failure: &Failure) -> bool {
    matches!(failure.status, Status::Lost | Status::JobGone)
}

#[cfg(test)]
mod tests;
