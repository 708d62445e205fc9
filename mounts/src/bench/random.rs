//! Section c: reads and writes of 4 KiB in random order over one file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::scene::{Phase, Scene};
use super::sections::Row;
use super::sections::Unit::PerSecond;
use super::sequential::{noise, write_stream};
use super::worker::{Outcome, Task};

pub(super) const ROWS: &[Row] = &[
    Row::new("rand_read_qd1_iops", "read cold, 1 at a time", PerSecond),
    Row::new("rand_read_qd16_iops", "read cold, 16 at a time", PerSecond),
    Row::new(
        "rand_write_qd1_iops",
        "write + fsync at the end, 1 process",
        PerSecond,
    ),
    Row::new(
        "rand_write_4p_iops",
        "write + fsync at the end, 4 processes",
        PerSecond,
    ),
];

/// Size of one read or write.
const BLOCK_BYTES: u64 = 4096;

/// Size of the file at full scale.
const FILE_MIB: u64 = 256;

/// Threads that read at the same time in the parallel row.
const READERS: u64 = 16;

/// Processes that write at the same time in the parallel row.
const WRITERS: u64 = 4;

/// Longest time of a row: random I/O settles within seconds.
const CAP: Duration = Duration::from_secs(4);

/// One pass over a range of blocks, each once, in an order given by the seed. Counts blocks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RandomTask {
    path: PathBuf,
    first_block: u64,
    end_block: u64,
    seed: u64,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Access {
    /// By one thread.
    Read,
    /// By [`READERS`] threads, each over its part of the range.
    ReadParallel,
    /// By one thread, with fsync at the end.
    Write,
}

/// Plays the section.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let playground = scene.playground()?;
    let path = playground.path().join("file");
    let mib = scene.settings().scaled(FILE_MIB, 16);
    write_stream(&path, mib, scene.settings().cap)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let blocks = std::fs::metadata(&path)?.len() / BLOCK_BYTES;
    let mut crew = scene.crew(WRITERS as usize)?;
    let whole = |access, seed| {
        vec![Task::Random(RandomTask {
            path: path.clone(),
            first_block: 0,
            end_block: blocks,
            seed,
            access,
        })]
    };

    let phase = scene.cold(&mut crew, whole(Access::Read, 1))?;
    scene.record("rand_read_qd1_iops", sum_of_rates(&phase));
    let phase = scene.cold(&mut crew, whole(Access::ReadParallel, 2))?;
    scene.record("rand_read_qd16_iops", sum_of_rates(&phase));
    let phase = scene.cold(&mut crew, whole(Access::Write, 3))?;
    scene.record("rand_write_qd1_iops", sum_of_rates(&phase));
    let parts = (0..WRITERS).map(|part| {
        let (first_block, end_block) = (part * blocks / WRITERS, (part + 1) * blocks / WRITERS);
        Task::Random(RandomTask {
            path: path.clone(),
            first_block,
            end_block,
            seed: 4 + part,
            access: Access::Write,
        })
    });
    let phase = scene.warm(&mut crew, parts.collect())?;
    scene.record("rand_write_4p_iops", sum_of_rates(&phase));
    Ok(())
}

/// Each worker's own rate counts: preparing the order of the blocks is no I/O.
fn sum_of_rates(phase: &Phase) -> f64 {
    phase
        .outcomes
        .iter()
        .map(|outcome| outcome.count as f64 / outcome.seconds)
        .sum()
}

impl RandomTask {
    /// Does the pass, for [`CAP`] at the longest.
    pub(super) fn perform(&self, cap: Duration) -> anyhow::Result<Outcome> {
        let cap = cap.min(CAP);
        let (count, elapsed) = match self.access {
            Access::Read => self.read(cap),
            Access::ReadParallel => self.read_parallel(cap),
            Access::Write => self.write(cap),
        }
        .with_context(|| format!("{:?} of {}", self.access, self.path.display()))?;
        Ok(Outcome {
            count,
            seconds: elapsed.as_secs_f64(),
            ..Outcome::default()
        })
    }

    fn read(&self, cap: Duration) -> anyhow::Result<(u64, Duration)> {
        let file = open_for_random_reads(&self.path)?;
        let mut buffer = [0; BLOCK_BYTES as usize];
        self.each_block(cap, |offset| Ok(file.read_exact_at(&mut buffer, offset)?))
    }

    fn read_parallel(&self, cap: Duration) -> anyhow::Result<(u64, Duration)> {
        let blocks = self.end_block - self.first_block;
        let parts = (0..READERS).map(|part| RandomTask {
            first_block: self.first_block + part * blocks / READERS,
            end_block: self.first_block + (part + 1) * blocks / READERS,
            seed: self.seed + part,
            ..self.clone()
        });
        let parts: Vec<_> = parts.collect();
        let start = Instant::now();
        let counts = std::thread::scope(|scope| {
            let readers: Vec<_> = parts
                .iter()
                .map(|part| scope.spawn(|| part.read(cap)))
                .collect();
            let joined = readers
                .into_iter()
                .map(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?);
            joined
                .map(|result| result.map(|(count, _)| count))
                .sum::<anyhow::Result<u64>>()
        })?;
        Ok((counts, start.elapsed()))
    }

    fn write(&self, cap: Duration) -> anyhow::Result<(u64, Duration)> {
        let content = noise(BLOCK_BYTES as usize);
        let file = File::options().write(true).open(&self.path)?;
        let start = Instant::now();
        let (count, _) = self.each_block(cap, |offset| Ok(file.write_all_at(&content, offset)?))?;
        file.sync_all()?;
        Ok((count, start.elapsed()))
    }

    /// Calls `access` with the offset of each block in random order until the time is up.
    fn each_block(
        &self,
        cap: Duration,
        mut access: impl FnMut(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<(u64, Duration)> {
        let mut blocks: Vec<u64> = (self.first_block..self.end_block).collect();
        blocks.shuffle(&mut StdRng::seed_from_u64(self.seed));
        let start = Instant::now();
        let mut count = 0;
        for block in blocks {
            access(block * BLOCK_BYTES)?;
            count += 1;
            if start.elapsed() > cap {
                break;
            }
        }
        Ok((count, start.elapsed()))
    }
}

/// Opens a file and tells the kernel that reading ahead is of no use.
fn open_for_random_reads(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path)?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
    Ok(file)
}
