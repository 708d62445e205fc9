//! Section a: streams of 1 MiB writes and reads, one and four at a time.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::scene::Scene;
use super::sections::Row;
use super::sections::Unit::MebibytesPerSecond;
use super::worker::{Outcome, Task};

pub(super) const ROWS: &[Row] = &[
    Row::new("write1_MiBs", "write, 1 stream", MebibytesPerSecond),
    Row::new(
        "read1_warm_MiBs",
        "read again, 1 stream",
        MebibytesPerSecond,
    ),
    Row::new("read1_cold_MiBs", "read cold, 1 stream", MebibytesPerSecond),
    Row::new("write4_MiBs", "write, 4 streams", MebibytesPerSecond),
    Row::new(
        "read4_cold_MiBs",
        "read cold, 4 streams",
        MebibytesPerSecond,
    ),
];

/// Size of one read or write.
const CHUNK_BYTES: usize = 1 << 20;

/// Total size at full scale.
const TOTAL_MIB: u64 = 1024;

/// Streams of the parallel rows.
const STREAMS: u64 = 4;

/// One stream, for a worker. Counts bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum SequentialTask {
    /// Creates or truncates a file, writes it and calls fsync.
    Write { path: PathBuf, mib: u64 },
    /// Reads a file to its end.
    Read { path: PathBuf },
}

/// Plays the section.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let playground = scene.playground()?;
    let total_mib = scene.settings().scaled(TOTAL_MIB, STREAMS);
    let mut crew = scene.crew(STREAMS as usize)?;

    let single = playground.path().join("single");
    let phase = scene.warm(&mut crew, vec![write(single.clone(), total_mib)])?;
    scene.record("write1_MiBs", phase.mebibytes_per_second());
    let phase = scene.warm(&mut crew, vec![read(single.clone())])?;
    scene.record("read1_warm_MiBs", phase.mebibytes_per_second());
    let phase = scene.cold(&mut crew, vec![read(single.clone())])?;
    scene.record("read1_cold_MiBs", phase.mebibytes_per_second());
    fs::remove_file(&single).context("cannot remove the first stream's file")?;

    let paths: Vec<_> = (0..STREAMS)
        .map(|stream| playground.path().join(format!("stream{stream}")))
        .collect();
    let writes = paths
        .iter()
        .map(|path| write(path.clone(), total_mib / STREAMS))
        .collect();
    let phase = scene.warm(&mut crew, writes)?;
    scene.record("write4_MiBs", phase.mebibytes_per_second());
    let reads = paths.iter().map(|path| read(path.clone())).collect();
    let phase = scene.cold(&mut crew, reads)?;
    scene.record("read4_cold_MiBs", phase.mebibytes_per_second());
    Ok(())
}

fn write(path: PathBuf, mib: u64) -> Task {
    Task::Sequential(SequentialTask::Write { path, mib })
}

fn read(path: PathBuf) -> Task {
    Task::Sequential(SequentialTask::Read { path })
}

impl SequentialTask {
    /// Does the work of one stream.
    pub(super) fn perform(&self, cap: Duration) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let count = match self {
            SequentialTask::Write { path, mib } => write_stream(path, *mib, cap)
                .with_context(|| format!("cannot write {}", path.display()))?,
            SequentialTask::Read { path } => {
                read_stream(path, cap).with_context(|| format!("cannot read {}", path.display()))?
            }
        };
        Ok(Outcome {
            count,
            seconds: start.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }
}

/// Writes `mib` chunks, or as many as the time allows; returns the bytes that are surely written.
pub(super) fn write_stream(path: &PathBuf, mib: u64, cap: Duration) -> std::io::Result<u64> {
    let chunk = noise(CHUNK_BYTES);
    let start = Instant::now();
    let mut file = File::create(path)?;
    let mut written = 0;
    while written < mib * CHUNK_BYTES as u64 && start.elapsed() < cap {
        file.write_all(&chunk)?;
        written += CHUNK_BYTES as u64;
    }
    file.sync_all()?;
    Ok(written)
}

fn read_stream(path: &PathBuf, cap: Duration) -> std::io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let start = Instant::now();
    let mut file = File::open(path)?;
    let mut read = 0;
    while start.elapsed() < cap {
        match file.read(&mut chunk)? {
            0 => break,
            count => read += count as u64,
        }
    }
    Ok(read)
}

/// Bytes that do not compress, the same in every run (the generator is xorshift64).
pub(super) fn noise(bytes: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut noise = Vec::with_capacity(bytes + size_of::<u64>());
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
