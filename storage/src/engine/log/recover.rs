//! Opening a medium: finds out whose blocks are on it, and makes the index again.
//!
//! Segments with a summary are known from that; others, that were being filled when the process
//! ended, are read as a whole, and of their batches those are believed whose checksums match. What
//! the entries of a job say is then applied in the order of `seq`.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use pocket_proto::{ByteCount, Incarnation, JobId, ServerId};
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::{
    LogEngine, OpenGuard,
    append::write,
    clean,
    core::{Busy, Core, Health, Recent, Tuning},
    entry::Entry,
    format::{NoSuperblock, SEGMENT_BYTES_MIN, SEGMENTS_AT, SegmentHeader, Superblock},
    job::LogJob,
    look::{Found, look_at_segments},
    read::READING_BYTES_MAX,
    replay::Replay,
    segment::{Dead, Segment, Space},
};
use crate::engine::{
    capacity::Capacity,
    device::{
        Device, Elevator, OpenError, SECTOR_BYTES, SectorBuffer, open, read_wait, write_wait,
    },
    jobs::JobTable,
};

/// Segments beside those that the capacity needs: for jobs' unfilled ones and for cleaning.
const SPARE_SEGMENTS: u64 = 32;
/// Segments that a small medium is cut into.
const SEGMENTS_AIM: u64 = 64;
/// How long what is under way may take when the engine is stopped.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How a medium wants to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Flash: many transfers at a time, of any place.
    Flash,
    /// A spindle: few long transfers, in the order of place.
    Spindle,
}

impl Medium {
    fn tuning(self, recent_bytes: usize) -> Tuning {
        match self {
            Medium::Flash => Tuning {
                batches_in_flight: 8,
                batch_bytes_max: 1 << 20,
                recent_bytes,
            },
            Medium::Spindle => Tuning {
                batches_in_flight: 1,
                batch_bytes_max: 8 << 20,
                recent_bytes,
            },
        }
    }

    fn segment_bytes_max(self) -> u64 {
        match self {
            Medium::Flash => 32 << 20,
            Medium::Spindle => 64 << 20,
        }
    }
}

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Whose blocks are kept, where there are none yet.
    pub server: ServerId,
    /// How much it holds. The medium must have an eighth more, and some segments.
    pub capacity: ByteCount,
    /// What it holds it on.
    pub medium: Medium,
    /// Memory for what was written lately.
    pub recent_bytes: usize,
    /// What is made of blocks of which some that were promised to be there may be missing.
    pub doubt: Doubt,
}

/// What is made of blocks after a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// All are dropped, so that none is taken for a hole.
    Drop,
    /// What is there is kept.
    Keep,
}

/// What became of the blocks that were here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// There were none.
    New,
    /// All that were answered for are here.
    Whole,
    /// Some may be missing: the machine went down.
    Doubtful,
}

/// An engine, and what it found.
pub struct Opened {
    /// The engine.
    pub engine: LogEngine,
    /// The server whose blocks are on the medium.
    pub server: ServerId,
    /// The life of these blocks: another one unless they are [`Survival::Whole`].
    pub incarnation: Incarnation,
    /// What became of the blocks that were here.
    pub survival: Survival,
}

/// Why a medium cannot be used.
#[derive(Debug, Error)]
pub enum OpenFailure {
    /// The path cannot be opened.
    #[error(transparent)]
    Path(#[from] OpenError),
    /// The medium cannot be read or written, or is too small.
    #[error("cannot use {path}: {source}")]
    Medium {
        /// The file or device.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "{path} holds something else than blocks of pocket: if that may go, wipe its first MiB"
    )]
    Foreign {
        /// The file or device.
        path: PathBuf,
    },
    /// It was written by another release.
    #[error(
        "{path} has format {version}, this release knows another: wipe its first MiB to reuse it"
    )]
    Version {
        /// The file or device.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

impl LogEngine {
    /// Opens a directory or a block device, and reads what blocks it has. Waits for the medium.
    pub fn open(path: &std::path::Path, config: &LogConfig) -> Result<Opened, OpenFailure> {
        let device = open(path)?;
        let device = match config.medium {
            Medium::Flash => device,
            Medium::Spindle => Arc::new(Elevator::new(device)),
        };
        Self::open_device(device, config, boot_id()).map_err(|why| why.at(path))
    }

    /// The same on a device that is open; `boot` tells one run of the machine from another.
    pub(in crate::engine) fn open_device(
        device: Arc<dyn Device>,
        config: &LogConfig,
        boot: u128,
    ) -> Result<Opened, Unusable> {
        let (mut superblock, mut survival) = match read_superblock(&*device)? {
            Some(found) => {
                let whole = found.clean || found.boot == boot;
                (
                    found,
                    if whole {
                        Survival::Whole
                    } else {
                        Survival::Doubtful
                    },
                )
            }
            None => (new_superblock(config), Survival::New),
        };
        superblock.reach(config.capacity);
        device.reach(superblock.medium_bytes())?;
        let mut found = look_at_segments(&*device, &superblock);
        if survival == Survival::New {
            found.used.clear();
            // What others left on the medium.
            for index in found.unreadable.drain(..).chain(found.foreign.drain(..)) {
                erase(&*device, &superblock, index)?;
            }
        } else if !(found.unreadable.is_empty() && found.foreign.is_empty()) {
            survival = Survival::Doubtful;
        }
        if survival == Survival::Doubtful {
            warn!("the machine went down, or the medium fails: blocks may be missing");
            superblock.incarnation = Incarnation::random().0;
        }
        superblock.boot = boot;
        superblock.clean = false;
        superblock.generation += 1;
        let opened = start(device, config, superblock, found, survival)?;
        Ok(opened)
    }

    /// Waits until everything answered is on the medium, so that a power cut does not take it.
    pub fn sync(&self) -> io::Result<()> {
        self.core.device.sync()
    }
}

/// See [`BlockEngine::stop`](crate::BlockEngine::stop).
pub(super) fn stop(core: &Arc<Core>) -> io::Result<()> {
    let in_time = core.busy.wait_idle(STOP_PATIENCE);
    for job in core.jobs.all() {
        let summary = job.state.lock().close_segment();
        write(core, &job, summary.into_iter().collect());
    }
    if !(in_time && core.busy.wait_idle(STOP_PATIENCE)) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    core.closed.store(true, Ordering::Relaxed);
    core.device.sync()?;
    let mut superblock = core.superblock.lock();
    superblock.clean = true;
    superblock.generation += 1;
    write_superblock(&*core.device, &superblock)
}

/// Why a device cannot be used; where it is, is known elsewhere.
#[derive(Debug)]
pub(in crate::engine) enum Unusable {
    Io(io::Error),
    Foreign,
    Version(u32),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Unusable::Io(error)
    }
}

impl Unusable {
    fn at(self, path: &std::path::Path) -> OpenFailure {
        let path = path.to_owned();
        match self {
            Unusable::Io(source) => OpenFailure::Medium { path, source },
            Unusable::Foreign => OpenFailure::Foreign { path },
            Unusable::Version(version) => OpenFailure::Version { path, version },
        }
    }
}

/// A number of this run of the machine.
fn boot_id() -> u128 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    // Where the system does not tell, every start is taken for one after a power cut.
    u128::from_str_radix(&digits, 16).unwrap_or_else(|_| rand::random())
}

fn new_superblock(config: &LogConfig) -> Superblock {
    let most = config.medium.segment_bytes_max();
    let segment_bytes = (config.capacity.0 / SEGMENTS_AIM).next_power_of_two();
    Superblock {
        generation: 0,
        segment_bytes: segment_bytes.clamp(SEGMENT_BYTES_MIN.into(), most) as u32,
        segments: 0,
        server: config.server.0,
        incarnation: Incarnation::random().0,
        boot: 0,
        clean: false,
    }
}

impl Superblock {
    /// Has enough segments for a capacity. Never fewer than before.
    fn reach(&mut self, capacity: ByteCount) {
        let bytes = capacity.0.saturating_add(capacity.0 / 8);
        let needed = bytes.div_ceil(self.segment_bytes.into()) + SPARE_SEGMENTS;
        self.segments = self.segments.max(u32::try_from(needed).unwrap_or(u32::MAX));
    }
}

/// The newer of the two superblocks; `None` on a blank medium.
fn read_superblock(device: &dyn Device) -> Result<Option<Superblock>, Unusable> {
    device.reach(SEGMENTS_AT)?;
    let both = read_wait(device, 0, 2 * SECTOR_BYTES)?;
    let (first, second) = both.split_at(SECTOR_BYTES);
    match (Superblock::decode(first), Superblock::decode(second)) {
        (Ok(first), Ok(second)) if first.generation > second.generation => Ok(Some(first)),
        (_, Ok(newest)) | (Ok(newest), _) => Ok(Some(newest)),
        (Err(NoSuperblock::Blank), Err(NoSuperblock::Blank)) => Ok(None),
        // The very first was not written to its end: nothing was promised yet.
        (Err(NoSuperblock::Blank), Err(NoSuperblock::Damaged)) => Ok(None),
        (Err(NoSuperblock::Version(version)), _) | (_, Err(NoSuperblock::Version(version))) => {
            Err(Unusable::Version(version))
        }
        _ => Err(Unusable::Foreign),
    }
}

fn write_superblock(device: &dyn Device, superblock: &Superblock) -> io::Result<()> {
    let mut sector = SectorBuffer::zeroed(SECTOR_BYTES);
    let bytes = superblock.encode();
    sector[..bytes.len()].copy_from_slice(&bytes);
    write_wait(device, superblock.place(), sector)?;
    device.sync()
}

/// Makes a segment free.
fn erase(device: &dyn Device, superblock: &Superblock, index: u32) -> io::Result<()> {
    let at = SEGMENTS_AT + u64::from(index) * u64::from(superblock.segment_bytes);
    write_wait(device, at, SectorBuffer::zeroed(SECTOR_BYTES))
}

fn start(
    device: Arc<dyn Device>,
    config: &LogConfig,
    superblock: Superblock,
    found: Found,
    survival: Survival,
) -> Result<Opened, Unusable> {
    let dropped = survival == Survival::Doubtful && config.doubt == Doubt::Drop;
    let mut free: BTreeSet<u32> = (0..superblock.segments).collect();
    for index in &found.unreadable {
        free.remove(index);
    }
    for index in &found.foreign {
        erase(&*device, &superblock, *index)?;
    }
    for (header, _) in &found.used {
        if dropped {
            erase(&*device, &superblock, header.index)?;
        } else {
            free.remove(&header.index);
        }
    }
    let used = if dropped { Vec::new() } else { found.used };
    let (graveyard, dead) = mpsc::channel();
    let (segment_bytes, segments) = (superblock.segment_bytes, superblock.segments);
    let space = Arc::new(Space::new(segment_bytes, segments, free, graveyard.clone()));
    let tuning = config.medium.tuning(config.recent_bytes);
    write_superblock(&*device, &superblock)?;
    let (server, incarnation) = (superblock.server, superblock.incarnation);
    let core = Arc::new(Core {
        device,
        space,
        capacity: Capacity::new(config.capacity.0),
        jobs: JobTable::default(),
        jobs_with_blocks: AtomicUsize::new(0),
        tuning,
        clock: AtomicU64::new(0),
        recent: Recent::new(tuning.recent_bytes),
        reading: Semaphore::new(READING_BYTES_MAX),
        health: Health::default(),
        starved: parking_lot::Mutex::default(),
        busy: Busy::default(),
        cleaner: Arc::default(),
        closed: AtomicBool::new(false),
        written_bytes: AtomicU64::new(0),
        superblock: parking_lot::Mutex::new(superblock),
    });
    index(&core, used, &graveyard);
    clean::start(&core, dead)?;
    let usage = core.capacity.usage();
    info!(
        blocks = usage.blocks,
        used = %ByteCount(usage.used_bytes),
        ?survival,
        "medium opened"
    );
    Ok(Opened {
        engine: LogEngine {
            open: Arc::new(OpenGuard(Arc::clone(&core))),
            core,
        },
        server: ServerId(server),
        incarnation: Incarnation(incarnation),
        survival,
    })
}

/// Makes the index of what was found.
fn index(core: &Arc<Core>, used: Vec<(SegmentHeader, Vec<Entry>)>, graveyard: &mpsc::Sender<Dead>) {
    let mut jobs: HashMap<JobId, Replay> = HashMap::new();
    let mut clock = 0;
    for (header, entries) in used {
        let written = entries.iter().map(|entry| entry.written);
        clock = written.chain([clock, header.opened]).max().unwrap_or(clock);
        let segment = Arc::new(Segment::new(header, graveyard.clone()));
        jobs.entry(header.job).or_default().add(segment, entries);
    }
    core.clock.store(clock, Ordering::Relaxed);
    for (id, replay) in jobs {
        // Nothing has been dropped yet.
        if let Ok(job) = core.jobs.get_or_make(id, || LogJob::new(id)) {
            core.jobs_with_blocks.fetch_add(1, Ordering::Relaxed);
            replay.run(core, &mut job.state.lock());
        }
    }
}
