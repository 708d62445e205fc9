//! Section h: the same names looked at again and again, as compilers, build tools and `git status` do: what leases on
//! names and attributes save. By one process, after a pass that is not counted.

use std::fs::{self, File};
use std::io::Read;
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
    Row::new("again_stat", "stat", PerSecond),
    Row::new("again_stat_deep", "stat, six directories down", PerSecond),
    Row::new(
        "again_absent",
        "stat of a name that is not there",
        PerSecond,
    ),
    Row::new("again_list", "readdir, per entry", PerSecond),
    Row::new("again_open", "open + close", PerSecond),
    Row::new(
        "again_open_deep",
        "open + close, six directories down",
        PerSecond,
    ),
    Row::new("again_read", "open + read + close", PerSecond),
];

/// Files in a directory: what a source directory may have.
const FILES: u64 = 200;

/// Passes over them at full scale.
const PASSES: u64 = 50;

/// Directories from the top to the files that lie deep.
const DEPTH: usize = 6;

/// Size of a file.
const FILE_BYTES: usize = 4096;

/// What is done to each file of a directory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Look {
    Stat,
    StatAbsent,
    List,
    Open,
    Read,
}

/// One look at every file of a directory, pass after pass, for a worker. Counts files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AgainTask {
    look: Look,
    directory: PathBuf,
    passes: u64,
}

/// Plays the section.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let playground = scene.playground()?;
    let mut crew: Crew = scene.crew(1)?;
    let passes = scene.settings().scaled(PASSES, 2);
    let flat = playground.path().join("flat");
    let deep = (0..DEPTH).fold(playground.path().to_owned(), |path, level| {
        path.join(format!("level{level}"))
    });
    for directory in [&flat, &deep] {
        fill(directory).with_context(|| format!("cannot fill {}", directory.display()))?;
    }
    for (key, look, directory) in [
        ("again_stat", Look::Stat, &flat),
        ("again_stat_deep", Look::Stat, &deep),
        ("again_absent", Look::StatAbsent, &flat),
        ("again_list", Look::List, &flat),
        ("again_open", Look::Open, &flat),
        ("again_open_deep", Look::Open, &deep),
        ("again_read", Look::Read, &flat),
    ] {
        let task = |passes| {
            let directory = directory.clone();
            vec![Task::Again(AgainTask {
                look,
                directory,
                passes,
            })]
        };
        scene.warm(&mut crew, task(1))?;
        let phase = scene.warm(&mut crew, task(passes))?;
        scene.record(key, phase.rate());
    }
    Ok(())
}

fn fill(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let content = noise(FILE_BYTES);
    (0..FILES).try_for_each(|index| fs::write(file(directory, index), &content))
}

fn file(directory: &Path, index: u64) -> PathBuf {
    directory.join(format!("f{index:03}"))
}

impl AgainTask {
    /// Looks until all passes are done or the cap is reached.
    pub(super) fn perform(&self, cap: Duration) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let mut count = 0;
        for _ in 0..self.passes {
            self.pass()
                .with_context(|| format!("{:?} in {}", self.look, self.directory.display()))?;
            count += FILES;
            if start.elapsed() > cap {
                break;
            }
        }
        Ok(Outcome {
            count,
            seconds: start.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }

    fn pass(&self) -> anyhow::Result<()> {
        if let Look::List = self.look {
            let entries = fs::read_dir(&self.directory)?.collect::<Result<Vec<_>, _>>()?;
            ensure!(
                entries.len() as u64 == FILES,
                "{} entries instead of {FILES}",
                entries.len()
            );
            return Ok(());
        }
        let mut buffer = [0; 2 * FILE_BYTES];
        for index in 0..FILES {
            let path = file(&self.directory, index);
            match self.look {
                Look::Stat => {
                    fs::metadata(path)?;
                }
                Look::StatAbsent => {
                    ensure!(!path.with_extension("absent").try_exists()?, "it is there");
                }
                Look::Open => drop(File::open(path)?),
                Look::Read => {
                    let count = File::open(path)?.read(&mut buffer)?;
                    ensure!(count == FILE_BYTES, "{count} bytes were read");
                }
                Look::List => {}
            }
        }
        Ok(())
    }
}
