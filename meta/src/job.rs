//! A job: its namespace and its sessions, behind one lock.
//!
//! Everything that can be done at once is done under the lock, in the order in which requests
//! come. What has to wait (for mounts that hold leases, for storage servers) waits without it, and
//! then looks again at what it wanted to do ([`execute`]). Locks: the job's, and within it only
//! the reaper's queue and the sessions' connections; none is held over an `.await`.

mod clearing;
mod evacuation;
mod execute;
mod fencing;
mod granted;
mod lifetime;
mod recall;
mod sessions;
mod truncation;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pocket_proto::control::{CreateJobRequest, JobReport};
use pocket_proto::session::{StorageServer, WeightMap};
use pocket_proto::{BlockBytes, BlockIndex, Epoch, Failure, InodeId, JobId, SessionId, Status};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

pub(crate) use evacuation::Move;
pub(crate) use execute::Executed;
pub(crate) use recall::{Awaited, Touches};
pub(crate) use sessions::Caller;
pub(crate) use truncation::{Truncated, Truncation};

use self::clearing::Clearings;
use self::fencing::Fencing;
use self::lifetime::Overdue;
use crate::environment::Environment;
use crate::growth::Growth;
use crate::layouts::{BlockRange, Layouts};
use crate::leases::Leases;
use crate::limits::{LEASES_SWEPT_MAX, OBJECT_LEASES, ORPHANS_AT_ONCE};
use crate::locks::Locks;
use crate::metrics::JobGauges;
use crate::namespace::{Inode, Namespace};
use crate::now::Now;
use crate::opens::Opens;
use crate::session::Session;
use crate::space::Space;
use crate::vouching::{Debt, is_gone};

/// Mounts are told a tenth of their session's lease less than what is remembered of their leases,
/// so that replies may travel so long.
const TRAVEL_PART: u32 = 10;

/// A job.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) lease: Duration,
    pub(crate) environment: Arc<Environment>,
    state: Mutex<JobState>,
}

/// What the job's lock protects.
pub(crate) struct JobState {
    pub(crate) namespace: Namespace,
    pub(crate) leases: Leases,
    pub(crate) opens: Opens,
    pub(crate) locks: Locks,
    pub(crate) layouts: Layouts,
    pub(crate) space: Space,
    pub(crate) growth: Growth,
    pub(crate) sessions: HashMap<SessionId, Session>,
    fencing: Fencing,
    /// As the controller said; the weight map is the newest one's epoch in `layouts`.
    order: CreateJobRequest,
    created: Instant,
    /// Inodes without names that nobody has open, and when they go.
    orphans: VecDeque<(Instant, InodeId)>,
    orphan_grace: Duration,
    overdue: Overdue,
    pub(crate) clearings: Clearings,
    /// When the last session left.
    idle_since: Option<Instant>,
    gone: bool,
    /// Blocks that are being moved: nothing is done to them.
    pub(crate) moving: HashSet<(InodeId, BlockIndex)>,
    /// Files that are being cut, and by how many at once: their blocks are not moved.
    pub(crate) truncating: HashMap<InodeId, u32>,
    /// Counts the times when objects were recalled, or blocks moved, no more.
    pub(crate) unmarked: watch::Sender<u64>,
}

impl JobState {
    /// Where the job may hold less than this, writes that do not fit wait for more.
    pub(crate) fn awaited_bytes_max(&self) -> u64 {
        let kept = self.order.reservation.as_ref();
        kept.map_or(0, |kept| kept.awaited_bytes_max)
    }
}

/// No leases yet, of a job whose sessions have this lease.
fn new_leases(lease: Duration) -> Leases {
    Leases::new(lease * OBJECT_LEASES, lease / TRAVEL_PART)
}

/// The failure that everything about a job answers once it has ended.
pub(crate) fn job_gone(job: JobId) -> Failure {
    Failure::new(
        Status::JobGone,
        format!("this metadata server does not have job {job} (any more)"),
    )
}

/// Has storage servers drop all blocks of a job; returns when each that answers has done so.
pub(crate) async fn drop_blocks(
    environment: &Arc<Environment>,
    job: JobId,
    servers: Vec<StorageServer>,
) {
    let mut drops = tokio::task::JoinSet::new();
    for server in servers {
        let environment = Arc::clone(environment);
        drops.spawn(async move {
            match environment.blocks.drop_job(&server, job).await {
                Ok(()) => {}
                Err(failure) if is_gone(&failure) => {}
                Err(failure) => {
                    info!(%job, server = server.endpoint, %failure,
                        "blocks of an ended job are dropped when the server is back");
                    environment.vouching.note_debt(&server, Debt::Job(job));
                }
            }
        });
    }
    while drops.join_next().await.is_some() {}
}

impl Job {
    /// Opens a namespace as the controller ordered. Sessions are ended when nothing is heard of
    /// them for `lease`; inodes without names and opens go after `orphan_grace`.
    pub(crate) fn new(
        mut order: CreateJobRequest,
        (lease, orphan_grace): (Duration, Duration),
        environment: Arc<Environment>,
    ) -> Result<Self, Failure> {
        let invalid = |what: String| Failure::new(Status::Invalid, what);
        let block_bytes = match order.block_bytes {
            0 => BlockBytes::DEFAULT,
            bytes => {
                BlockBytes::new(u64::from(bytes)).map_err(|error| invalid(error.to_string()))?
            }
        };
        let map = order
            .weight_map
            .take()
            .ok_or_else(|| invalid("job without a weight map".to_owned()))?;
        order.block_bytes = block_bytes.get();
        let now = Now::take();
        let mut namespace = Namespace::new(now.wall);
        if order.delete_after_read {
            namespace.make_read_once();
        }
        let state = JobState {
            namespace,
            leases: new_leases(lease),
            opens: Opens::default(),
            locks: Locks::default(),
            layouts: Layouts::new(block_bytes.get(), map)?,
            space: Space::new(order.capacity_bytes),
            growth: Growth::new(),
            sessions: HashMap::new(),
            fencing: Fencing::new(),
            orphans: VecDeque::new(),
            orphan_grace,
            overdue: Overdue::default(),
            clearings: Clearings::default(),
            created: now.tick,
            idle_since: Some(now.tick),
            gone: false,
            moving: HashSet::new(),
            truncating: HashMap::new(),
            unmarked: watch::Sender::new(0),
            order,
        };
        let job = Job {
            id: JobId(state.order.job),
            lease,
            environment,
            state: Mutex::new(state),
        };
        job.vouch();
        Ok(job)
    }

    /// The controller's word on a job that exists already: new limits, perhaps a new map.
    pub(crate) fn change(&self, mut order: CreateJobRequest) -> Result<(), Failure> {
        let mut state = self.state.lock();
        if let Some(map) = order.weight_map.take() {
            state.layouts.publish(map)?;
        }
        // Blocks lie as they lie.
        order.block_bytes = state.layouts.block_bytes();
        if order.capacity_bytes > state.space.capacity_bytes() {
            state.growth.give();
        }
        state.space.set_capacity(order.capacity_bytes);
        state.order = order;
        drop(state);
        self.vouch();
        Ok(())
    }

    /// A new weight map, for new files.
    pub(crate) fn set_weight_map(&self, map: WeightMap) -> Result<(), Failure> {
        self.state.lock().layouts.publish(map)?;
        self.vouch();
        Ok(())
    }

    /// Every storage server that may hold blocks of the job.
    pub(crate) fn storage_servers(&self) -> Vec<StorageServer> {
        self.state.lock().layouts.all_servers()
    }

    /// Has the job's storage servers take changes from its sessions.
    fn vouch(&self) {
        let (servers, fence) = {
            let state = self.state.lock();
            (state.layouts.all_servers(), state.fence(self))
        };
        let vouching = &self.environment.vouching;
        vouching.begin(self.id, servers, fence.as_ref());
    }

    /// What the controller is told with every heartbeat.
    pub(crate) fn report(&self) -> JobReport {
        let now = Instant::now();
        let state = self.state.lock();
        let idle = state.idle_since.filter(|_| state.sessions.is_empty());
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        JobReport {
            job: Some(CreateJobRequest {
                weight_map: Some(state.layouts.newest().clone()),
                ..state.order.clone()
            }),
            used_bytes: state.namespace.allocated_bytes(),
            inodes: state.namespace.inode_count(),
            mounts: u32::try_from(state.sessions.len()).unwrap_or(u32::MAX),
            idle_seconds: idle.map_or(0, seconds),
            age_seconds: seconds(state.created),
            wanted_bytes: state.growth.wanted_bytes(now),
        }
    }

    /// What it has now, for collectors of metrics.
    pub(crate) fn gauges(&self) -> JobGauges {
        let state = self.state.lock();
        let (locks_held, locks_waiting) = state.locks.counts();
        JobGauges {
            sessions: state.sessions.len(),
            inodes: state.namespace.inode_count(),
            allocated_bytes: state.namespace.allocated_bytes(),
            leased_objects: state.leases.objects(),
            locks_held,
            locks_waiting,
        }
    }

    /// The weight map for new files.
    pub(crate) fn newest_epoch(&self) -> Epoch {
        self.state.lock().newest_epoch()
    }

    /// Bytes that the job's files hold.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.state.lock().namespace.allocated_bytes()
    }

    /// Ends the job: sessions are closed at once, what it held in memory is freed in the background,
    /// and this returns when every storage server that answers has dropped the job's blocks.
    pub(crate) async fn end(self: Arc<Self>) {
        let (servers, remains) = {
            let mut state = self.state.lock();
            state.gone = true;
            for session in state.sessions.values_mut() {
                session.hang_up();
            }
            (state.layouts.all_servers(), state.take_remains(self.lease))
        };
        let environment = &self.environment;
        environment.reaper.forget_job(self.id);
        environment.vouching.forget_job(self.id);
        // Of a million files that takes a good part of a second: nobody's lock is held for it, and no
        // worker of the runtime is kept from its requests.
        environment.tasks.spawn_blocking(move || drop(remains));
        drop_blocks(environment, self.id, servers).await;
    }

    /// Ends sessions that are overdue, forgets leases that lapsed, and takes up what is to go by
    /// itself. True if more inodes are due to be dropped: others are to be heard in between.
    pub(crate) fn keep_house(self: &Arc<Self>) -> bool {
        let now = Now::take();
        let mut state = self.state.lock();
        state.fence_overdue_sessions(self, now);
        state.leases.sweep(now.tick, LEASES_SWEPT_MAX);
        self.begin_overdue(&mut state, now);
        self.begin_clearing(&mut state);
        state.wake_for_room(self);
        state.drop_due_orphans(self)
    }
}

impl JobState {
    /// All that grows with the job's files and mounts, to be dropped where nobody waits for it.
    fn take_remains(&mut self, lease: Duration) -> impl Send + use<> {
        (
            // First: there are requests that wait for a session to answer, or to end.
            std::mem::take(&mut self.sessions),
            std::mem::replace(&mut self.namespace, Namespace::new(Now::take().wall)),
            std::mem::replace(&mut self.leases, new_leases(lease)),
            std::mem::take(&mut self.opens),
            std::mem::take(&mut self.locks),
            std::mem::take(&mut self.orphans),
        )
    }

    /// The weight map for new files.
    pub(crate) fn newest_epoch(&self) -> Epoch {
        Epoch(self.layouts.newest().epoch)
    }

    /// The directory is removed: whoever had it to itself has nothing there any more.
    pub(crate) fn forget_directory(&mut self, directory: InodeId) {
        if let Some(holder) = self.leases.directory_holder(directory)
            && let Some(session) = self.sessions.get_mut(&holder)
        {
            session.directories.remove(&directory);
            let now = Instant::now();
            self.leases.end_directory(directory, holder, now, now);
        }
    }

    /// Lets go of an inode that has no names and that nobody has open, in a moment: a mount that
    /// has just looked its name up may be about to open it, and must find it as it was.
    pub(crate) fn drop_if_unused(&mut self, id: InodeId) {
        let is_named = |inode: &Inode| inode.link_count > 0;
        if self.opens.is_open(id) {
            return;
        }
        if self.namespace.inode(id).is_ok_and(is_named) {
            self.note_closed(id);
            return;
        }
        self.orphans
            .push_back((Instant::now() + self.orphan_grace, id));
    }

    /// Drops orphans that were left alone for long enough; not so many at a time that others would
    /// wait for it. True if there are more.
    pub(crate) fn drop_due_orphans(&mut self, job: &Job) -> bool {
        if self.orphans.is_empty() {
            return false;
        }
        let now = Instant::now();
        for _ in 0..ORPHANS_AT_ONCE {
            let Some((due, id)) = self.orphans.front().copied() else {
                return false;
            };
            if due > now {
                return false;
            }
            self.orphans.pop_front();
            self.drop_orphan(job, id);
        }
        true
    }

    /// Drops all orphans at once: their space is needed.
    pub(crate) fn drop_orphans(&mut self, job: &Job) {
        for (_, id) in std::mem::take(&mut self.orphans) {
            self.drop_orphan(job, id);
        }
    }

    /// Drops an inode, unless it has been opened or named again.
    fn drop_orphan(&mut self, job: &Job, id: InodeId) {
        if self.opens.is_open(id) {
            return;
        }
        let Some(inode) = self.namespace.forget(id) else {
            return;
        };
        self.leases.forget(id);
        self.locks.forget(id);
        self.tell_granted();
        let Some(file) = inode.file() else {
            return;
        };
        if file.is_empty() {
            return;
        }
        let range = BlockRange::behind(0, file.size_bytes.max(1), self.layouts.block_bytes());
        let range = range.expect("a file of some bytes has a block");
        let servers = self.layouts.servers_of(id, file, range);
        job.environment.reaper.condemn(job.id, id, servers);
    }

    /// One open less; an orphan that nobody has open any more goes.
    pub(crate) fn close(&mut self, session: SessionId, inode: InodeId, write: bool) {
        let closed = self.opens.remove(inode, session, write);
        if closed.by_session {
            self.locks.release_session(inode, session);
            self.tell_granted();
            if let Some(session) = self.sessions.get_mut(&session) {
                session.opens.remove(&inode);
            }
        }
        if closed.by_last_writer {
            self.namespace.end_reservations(inode);
        }
        if closed.by_session {
            self.drop_if_unused(inode);
        }
    }
}
