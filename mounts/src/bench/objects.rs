//! Section d: whole files put and got one after the other, with the latency of each.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::scene::{Phase, Scene};
use super::sections::Row;
use super::sections::Unit::{MebibytesPerSecond, Microseconds};
use super::sequential::noise;
use super::statistics::percentile;
use super::worker::{Outcome, Task};

pub(super) const ROWS: &[Row] = &[
    Row::new("put100K_MiBs", "put 100 KiB", MebibytesPerSecond),
    Row::new("put100K_p50us", "put 100 KiB, p50", Microseconds),
    Row::new("put100K_p99us", "put 100 KiB, p99", Microseconds),
    Row::new("get100K_warm_p50us", "get 100 KiB again, p50", Microseconds),
    Row::new("get100K_MiBs", "get 100 KiB cold", MebibytesPerSecond),
    Row::new("get100K_p50us", "get 100 KiB cold, p50", Microseconds),
    Row::new("get100K_p99us", "get 100 KiB cold, p99", Microseconds),
    Row::new("put1K_MiBs", "put 1 KiB", MebibytesPerSecond),
    Row::new("put1K_p50us", "put 1 KiB, p50", Microseconds),
    Row::new("put1K_p99us", "put 1 KiB, p99", Microseconds),
    Row::new("get1K_warm_p50us", "get 1 KiB again, p50", Microseconds),
    Row::new("get1K_MiBs", "get 1 KiB cold", MebibytesPerSecond),
    Row::new("get1K_p50us", "get 1 KiB cold, p50", Microseconds),
    Row::new("get1K_p99us", "get 1 KiB cold, p99", Microseconds),
];

/// Objects of each size at full scale.
const OBJECTS: u64 = 2000;

/// The seed of the order in which objects are got.
const ORDER_SEED: u64 = 7;

/// The rows of one size of objects.
struct Keys {
    bytes: usize,
    put: [&'static str; 3],
    get_again: &'static str,
    get: [&'static str; 3],
}

const SIZES: [Keys; 2] = [
    Keys {
        bytes: 100 * 1024,
        put: ["put100K_MiBs", "put100K_p50us", "put100K_p99us"],
        get_again: "get100K_warm_p50us",
        get: ["get100K_MiBs", "get100K_p50us", "get100K_p99us"],
    },
    Keys {
        bytes: 1024,
        put: ["put1K_MiBs", "put1K_p50us", "put1K_p99us"],
        get_again: "get1K_warm_p50us",
        get: ["get1K_MiBs", "get1K_p50us", "get1K_p99us"],
    },
];

/// Puts or gets objects of one directory. Counts objects, and takes the time of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ObjectTask {
    directory: PathBuf,
    objects: u64,
    bytes: usize,
    direction: Direction,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Direction {
    /// Create or truncate, one write, close.
    Put,
    /// Open, read to the known size, close; in random order.
    Get,
}

/// Plays the section.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let mut crew = scene.crew(1)?;
    for keys in &SIZES {
        let playground = scene.playground()?;
        let bytes = keys.bytes;
        let task = |direction, objects| {
            let directory = playground.path().to_owned();
            vec![Task::Objects(ObjectTask {
                directory,
                objects,
                bytes,
                direction,
            })]
        };
        let phase = scene.warm(
            &mut crew,
            task(Direction::Put, scene.settings().scaled(OBJECTS, 16)),
        )?;
        record(scene, keys.put, &phase, bytes);
        let objects = phase.count();
        let phase = scene.warm(&mut crew, task(Direction::Get, objects))?;
        record_percentile(scene, keys.get_again, &phase, 0.5);
        let phase = scene.cold(&mut crew, task(Direction::Get, objects))?;
        record(scene, keys.get, &phase, bytes);
    }
    Ok(())
}

fn record(scene: &mut Scene<'_>, [rate, p50, p99]: [&'static str; 3], phase: &Phase, bytes: usize) {
    scene.record(rate, phase.mebibytes_per_second() * bytes as f64);
    record_percentile(scene, p50, phase, 0.5);
    record_percentile(scene, p99, phase, 0.99);
}

fn record_percentile(scene: &mut Scene<'_>, key: &'static str, phase: &Phase, fraction: f64) {
    let latencies = phase
        .outcomes
        .iter()
        .flat_map(|outcome| outcome.latencies_us.iter().copied());
    if let Some(latency_us) = percentile(&latencies.collect::<Vec<_>>(), fraction) {
        scene.record(key, latency_us);
    }
}

impl ObjectTask {
    /// Puts or gets every object, or as many as the time allows.
    pub(super) fn perform(&self, cap: Duration) -> anyhow::Result<Outcome> {
        let mut order: Vec<u64> = (0..self.objects).collect();
        if matches!(self.direction, Direction::Get) {
            order.shuffle(&mut StdRng::seed_from_u64(ORDER_SEED));
        }
        let content = noise(self.bytes);
        let mut buffer = vec![0; self.bytes + 1];
        let mut latencies_us = Vec::with_capacity(order.len());
        let start = Instant::now();
        for index in order {
            let path = self.directory.join(format!("o{index:05}"));
            let begin = Instant::now();
            match self.direction {
                Direction::Put => put(&path, &content),
                Direction::Get => get(&path, &mut buffer, self.bytes),
            }
            .with_context(|| format!("{:?} of {}", self.direction, path.display()))?;
            latencies_us.push(begin.elapsed().as_secs_f64() * 1e6);
            if start.elapsed() > cap {
                break;
            }
        }
        Ok(Outcome {
            count: latencies_us.len() as u64,
            seconds: start.elapsed().as_secs_f64(),
            latencies_us,
        })
    }
}

fn put(path: &PathBuf, content: &[u8]) -> anyhow::Result<()> {
    let written = File::create(path)?.write(content)?;
    ensure!(
        written == content.len(),
        "{written} of {} bytes were written",
        content.len()
    );
    Ok(())
}

fn get(path: &PathBuf, buffer: &mut [u8], bytes: usize) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while filled < bytes {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    ensure!(filled == bytes, "{filled} of {bytes} bytes were read");
    Ok(())
}
