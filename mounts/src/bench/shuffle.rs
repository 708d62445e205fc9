//! Section f: mappers write a partition for every reducer, reducers read theirs from every mapper.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::scene::{Phase, Scene};
use super::sections::Row;
use super::sections::Unit::{MebibytesPerSecond, Seconds};
use super::sequential::noise;
use super::worker::{Outcome, Task};

pub(super) const ROWS: &[Row] = &[
    Row::new("map_s", "map", Seconds),
    Row::new("reduce_s", "reduce", Seconds),
    Row::new("total_s", "map and reduce", Seconds),
    Row::new("agg_MiBs", "written and read", MebibytesPerSecond),
    Row::new("shuffle2_reduce_s", "reduce on the second mount", Seconds),
    Row::new(
        "shuffle2_total_s",
        "map, reduce on the second mount",
        Seconds,
    ),
];

/// Mappers, and reducers.
const SIDE: u64 = 32;

/// Processes that take mappers or reducers one after the other.
const PROCESSES: usize = 4;

/// Size of what one mapper has for one reducer.
const PIECE_BYTES: usize = 256 * 1024;

/// One mapper or reducer. Counts bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ShuffleTask {
    directory: PathBuf,
    index: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Stage {
    Map,
    Reduce,
}

/// Plays the section; once more with the reducers on the second mount where there is one.
pub(super) fn play(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let playground = scene.playground()?;
    let place = playground.path();
    let (map, reduce) = shuffle(scene, place, place)?;
    let total_s = (map.elapsed + reduce.elapsed).as_secs_f64();
    scene.record("map_s", map.elapsed.as_secs_f64());
    scene.record("reduce_s", reduce.elapsed.as_secs_f64());
    scene.record("total_s", total_s);
    scene.record(
        "agg_MiBs",
        (map.count() + reduce.count()) as f64 / f64::from(1 << 20) / total_s,
    );
    drop(playground);

    if let Some(second) = scene.second_mount() {
        second.check()?;
        let playground = scene.playground()?;
        let (map, reduce) = shuffle(scene, playground.path(), &playground.seen_from(second))?;
        scene.record("shuffle2_reduce_s", reduce.elapsed.as_secs_f64());
        scene.record(
            "shuffle2_total_s",
            (map.elapsed + reduce.elapsed).as_secs_f64(),
        );
    }
    Ok(())
}

/// Maps in one directory, reduces from what may be the same directory seen through another mount.
fn shuffle(scene: &Scene<'_>, map_in: &Path, reduce_from: &Path) -> anyhow::Result<(Phase, Phase)> {
    let mut crew = scene.crew(PROCESSES)?;
    let tasks = |directory: &Path, stage| {
        let task = |index| {
            Task::Shuffle(ShuffleTask {
                directory: directory.to_owned(),
                index,
                stage,
            })
        };
        (0..SIDE).map(task).collect()
    };
    let map = scene.warm(&mut crew, tasks(map_in, Stage::Map))?;
    let reduce = scene.warm(&mut crew, tasks(reduce_from, Stage::Reduce))?;
    let (written, read) = (map.count(), reduce.count());
    ensure!(
        written == read,
        "the mappers wrote {written} bytes, the reducers read {read}"
    );
    Ok((map, reduce))
}

impl ShuffleTask {
    /// Maps or reduces.
    pub(super) fn perform(&self) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let count = match self.stage {
            Stage::Map => self.map(),
            Stage::Reduce => self.reduce(),
        }
        .with_context(|| {
            format!(
                "{:?} {} in {}",
                self.stage,
                self.index,
                self.directory.display()
            )
        })?;
        Ok(Outcome {
            count,
            seconds: start.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }

    fn map(&self) -> anyhow::Result<u64> {
        let piece = noise(PIECE_BYTES);
        fs::create_dir(self.directory.join(format!("m{:02}", self.index)))?;
        for reducer in 0..SIDE {
            File::create(self.piece(self.index, reducer))?.write_all(&piece)?;
        }
        Ok(SIDE * PIECE_BYTES as u64)
    }

    fn reduce(&self) -> anyhow::Result<u64> {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut read = 0;
        for mapper in 0..SIDE {
            let mut file = File::open(self.piece(mapper, self.index))?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    count => read += count as u64,
                }
            }
        }
        Ok(read)
    }

    fn piece(&self, mapper: u64, reducer: u64) -> PathBuf {
        self.directory.join(format!("m{mapper:02}/p{reducer:02}"))
    }
}
