//! Section b: thousands of files of 4 KiB, each operation in its own pass, by one process and by four.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::scene::Scene;
use super::sections::Row;
use super::sections::Unit::PerSecond;
use super::sequential::noise;
use super::worker::{Crew, Outcome, Task};

pub(super) const ROWS: &[Row] = &[
    Row::new("create1", "create + write + close, 1 process", PerSecond),
    Row::new("stat1_warm", "stat again, 1 process", PerSecond),
    Row::new("stat1_cold", "stat cold, 1 process", PerSecond),
    Row::new(
        "read1_cold",
        "open + read + close cold, 1 process",
        PerSecond,
    ),
    Row::new("rename1", "rename, 1 process", PerSecond),
    Row::new("unlink1", "unlink, 1 process", PerSecond),
    Row::new("create4", "create + write + close, 4 processes", PerSecond),
    Row::new("stat4_warm", "stat again, 4 processes", PerSecond),
    Row::new("stat4_cold", "stat cold, 4 processes", PerSecond),
    Row::new(
        "read4_cold",
        "open + read + close cold, 4 processes",
        PerSecond,
    ),
    Row::new("rename4", "rename, 4 processes", PerSecond),
    Row::new("unlink4", "unlink, 4 processes", PerSecond),
];

/// Files of all processes together, at full scale.
const FILES: u64 = 5000;

/// Size of a file.
const FILE_BYTES: usize = 4096;

/// The rows of one number of processes, by step.
struct Keys {
    processes: usize,
    create: &'static str,
    stat_warm: &'static str,
    stat_cold: &'static str,
    read_cold: &'static str,
    rename: &'static str,
    unlink: &'static str,
}

const SINGLE: Keys = Keys {
    processes: 1,
    create: "create1",
    stat_warm: "stat1_warm",
    stat_cold: "stat1_cold",
    read_cold: "read1_cold",
    rename: "rename1",
    unlink: "unlink1",
};

const PARALLEL: Keys = Keys {
    processes: 4,
    create: "create4",
    stat_warm: "stat4_warm",
    stat_cold: "stat4_cold",
    read_cold: "read4_cold",
    rename: "rename4",
    unlink: "unlink4",
};

/// What is done to each file of a directory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Step {
    Create,
    Stat,
    Read,
    Rename,
    Unlink,
}

/// One step over the files of one directory, for a worker. Counts files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SmallFileTask {
    step: Step,
    directory: PathBuf,
    files: u64,
}

/// Plays the section.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    for keys in [SINGLE, PARALLEL] {
        play_with(scene, &keys)?;
    }
    Ok(())
}

fn play_with(scene: &mut Scene<'_>, keys: &Keys) -> anyhow::Result<()> {
    let playground = scene.playground()?;
    let mut crew: Crew = scene.crew(keys.processes)?;
    let files = scene.settings().scaled(FILES, 16) / keys.processes as u64;
    let mut shares = Vec::new();
    for process in 0..keys.processes {
        let directory = playground.path().join(format!("d{process}"));
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        shares.push((directory, files));
    }

    let phase = scene.warm(&mut crew, tasks(Step::Create, &shares))?;
    scene.record(keys.create, phase.rate());
    // A capped creation leaves fewer files for the other steps.
    for (share, outcome) in shares.iter_mut().zip(&phase.outcomes) {
        share.1 = outcome.count;
    }
    let phase = scene.warm(&mut crew, tasks(Step::Stat, &shares))?;
    scene.record(keys.stat_warm, phase.rate());
    let phase = scene.cold(&mut crew, tasks(Step::Stat, &shares))?;
    scene.record(keys.stat_cold, phase.rate());
    let phase = scene.cold(&mut crew, tasks(Step::Read, &shares))?;
    scene.record(keys.read_cold, phase.rate());
    let phase = scene.warm(&mut crew, tasks(Step::Rename, &shares))?;
    scene.record(keys.rename, phase.rate());
    let phase = scene.warm(&mut crew, tasks(Step::Unlink, &shares))?;
    scene.record(keys.unlink, phase.rate());
    Ok(())
}

fn tasks(step: Step, shares: &[(PathBuf, u64)]) -> Vec<Task> {
    let task = |(directory, files): &(PathBuf, u64)| SmallFileTask {
        step,
        directory: directory.clone(),
        files: *files,
    };
    shares
        .iter()
        .map(|share| Task::SmallFiles(task(share)))
        .collect()
}

impl SmallFileTask {
    /// Does the step to every file; only creation may be cut short.
    pub(super) fn perform(&self, cap: Duration) -> anyhow::Result<Outcome> {
        let content = noise(FILE_BYTES);
        let start = Instant::now();
        let mut count = 0;
        for index in 0..self.files {
            let path = self.directory.join(format!("f{index:05}"));
            self.step(&path, index, &content)
                .with_context(|| format!("{:?} of {}", self.step, path.display()))?;
            count += 1;
            if matches!(self.step, Step::Create) && start.elapsed() > cap {
                break;
            }
        }
        Ok(Outcome {
            count,
            seconds: start.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }

    fn step(&self, path: &Path, index: u64, content: &[u8]) -> anyhow::Result<()> {
        match self.step {
            Step::Create => File::create_new(path)?.write_all(content)?,
            Step::Stat => {
                fs::metadata(path)?;
            }
            Step::Read => {
                let mut buffer = [0; 2 * FILE_BYTES];
                let count = File::open(path)?.read(&mut buffer)?;
                ensure!(
                    buffer[..count] == *content,
                    "{count} bytes with other content than was written"
                );
            }
            Step::Rename => fs::rename(path, self.renamed(index))?,
            Step::Unlink => fs::remove_file(self.renamed(index))?,
        }
        Ok(())
    }

    fn renamed(&self, index: u64) -> PathBuf {
        self.directory.join(format!("g{index:05}"))
    }
}
