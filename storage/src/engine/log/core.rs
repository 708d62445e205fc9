//! What all parts of an engine share.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use pocket_proto::{Failure, JobId, Status};
use tokio::sync::Semaphore;
use tracing::error;

use super::{
    format::Superblock,
    job::LogJob,
    record::Record,
    segment::{CLEANING_RESERVE, Space},
};
use crate::engine::{capacity::Capacity, device::Device, jobs::JobTable};

/// Failures of the medium after which nothing new is taken: one or two are repaired by the medium
/// itself, more are the beginning of its end.
const ERRORS_MAX: u32 = 8;
/// What is longer is not kept in memory when it has been written: reading it back is no slower than
/// sending it.
const RECENT_BYTES_MAX: usize = 64 << 10;
/// What a record kept in memory takes beside its bytes.
const RECENT_OVERHEAD_BYTES: usize = 256;

/// How a medium wants to be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// Batches of one job with the medium at a time. More are written sooner, fewer are longer.
    pub(super) batches_in_flight: usize,
    /// Payload of a batch, unless one record is longer.
    pub(super) batch_bytes_max: usize,
    /// Bytes recently written that are kept in memory.
    pub(super) recent_bytes: usize,
}

/// The shared part of an engine.
pub(super) struct Core {
    pub(super) device: Arc<dyn Device>,
    pub(super) space: Arc<Space>,
    pub(super) capacity: Capacity,
    pub(super) jobs: JobTable<LogJob>,
    pub(super) jobs_with_blocks: AtomicUsize,
    pub(super) tuning: Tuning,
    pub(super) clock: AtomicU64,
    pub(super) recent: Recent,
    /// Room for bytes being fetched.
    pub(super) reading: Semaphore,
    pub(super) health: Health,
    /// Jobs that wait for a free segment.
    pub(super) starved: Mutex<Vec<Weak<LogJob>>>,
    /// Batches with the medium.
    pub(super) busy: Busy,
    pub(super) cleaner: Arc<Signal>,
    /// The engine is being given up: what is on the medium stays as it is.
    pub(super) closed: AtomicBool,
    /// Bytes written to the medium.
    pub(super) written_bytes: AtomicU64,
    pub(super) superblock: Mutex<Superblock>,
}

impl Core {
    /// A moment later than any before. Called with the job's lock held, moments of a job are in the
    /// order of what happened.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Fewer free segments have others cleaned.
    pub(super) fn low_water(&self) -> usize {
        (self.space.segments() / 16).max(2 * CLEANING_RESERVE)
    }

    /// The longest payload of a record: several fit into a segment.
    pub(super) fn record_bytes_max(&self) -> usize {
        (self.space.segment_bytes as usize / 4).min(1 << 20)
    }

    /// Whether so much more can be kept.
    pub(super) fn admit(&self, payload_bytes: usize) -> Result<(), Failure> {
        if self.health.has_failed() {
            let what = "the medium failed repeatedly, nothing more is taken";
            return Err(Failure::new(Status::ServerFull, what));
        }
        let jobs = self.jobs_with_blocks.load(Ordering::Relaxed);
        if self.space.has_room(Record::footprint(payload_bytes), jobs) {
            return Ok(());
        }
        let what = format!("no room on the medium for {payload_bytes} bytes more");
        Err(Failure::new(Status::ServerFull, what))
    }

    /// Notes that the medium failed.
    pub(super) fn note_error(&self, doing: &str, job: JobId, cause: &io::Error) {
        error!(%job, %cause, "{doing} failed");
        self.health.count();
    }
}

/// Counts failures of the medium.
#[derive(Default)]
pub(super) struct Health(AtomicU32);

impl Health {
    pub(super) fn count(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) + 1 == ERRORS_MAX {
            error!(
                errors = ERRORS_MAX,
                "the medium fails: nothing new is taken"
            );
        }
    }

    pub(super) fn errors(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.errors() >= ERRORS_MAX
    }
}

/// What was written lately, kept in memory within a budget.
pub(super) struct Recent {
    budget_bytes: usize,
    queue: Mutex<RecentQueue>,
}

#[derive(Default)]
struct RecentQueue {
    records: VecDeque<(Weak<Record>, usize)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn new(budget_bytes: usize) -> Self {
        Recent {
            budget_bytes,
            queue: Mutex::default(),
        }
    }

    /// Whether bytes of a record are kept when it has been written.
    pub(super) fn keeps(&self, data: &Bytes) -> bool {
        self.budget_bytes > 0 && data.len() <= RECENT_BYTES_MAX
    }

    /// Keeps a record's bytes; the oldest go.
    pub(super) fn keep(&self, record: &Arc<Record>) {
        let taken = record.length as usize + RECENT_OVERHEAD_BYTES;
        let mut gone = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.records.push_back((Arc::downgrade(record), taken));
            queue.bytes += taken;
            while queue.bytes > self.budget_bytes
                && let Some((oldest, bytes)) = queue.records.pop_front()
            {
                queue.bytes -= bytes;
                gone.push(oldest);
            }
        }
        for record in gone.iter().filter_map(Weak::upgrade) {
            record.forget_recent();
        }
    }
}

/// Counts what is under way.
#[derive(Default)]
pub(super) struct Busy {
    count: Mutex<usize>,
    idle: Condvar,
}

impl Busy {
    pub(super) fn begin(&self) {
        *self.count.lock() += 1;
    }

    pub(super) fn end(&self) {
        let mut count = self.count.lock();
        *count -= 1;
        if *count == 0 {
            self.idle.notify_all();
        }
    }

    /// Waits until nothing is. False: it took too long.
    pub(super) fn wait_idle(&self, patience: Duration) -> bool {
        let mut count = self.count.lock();
        let waited = self
            .idle
            .wait_while_for(&mut count, |count| *count > 0, patience);
        !waited.timed_out()
    }
}

/// Wakes a thread.
#[derive(Default)]
pub(super) struct Signal {
    raised: Mutex<bool>,
    heard: Condvar,
}

impl Signal {
    pub(super) fn raise(&self) {
        *self.raised.lock() = true;
        self.heard.notify_all();
    }

    /// Waits until it is raised, or for some time; says whether it was.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let mut raised = self.raised.lock();
        self.heard
            .wait_while_for(&mut raised, |raised| !*raised, patience);
        std::mem::take(&mut *raised)
    }
}
