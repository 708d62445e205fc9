//! Two mounts at work in one file at once, each in ranges of its own: what either reads of them is
//! what it wrote there, by whatever call, and in the end both see both.
//!
//! The ranges of one lie between those of the other, and meet anywhere: within blocks, within pages.
//! Pages are what mappings are made of, so what is stored through one is whole pages of a range.
//!
//! `POCKET_RANGES_SEED` sets the seed, which a failure tells: ranges and operations follow from it.
//! `POCKET_RANGES_OPERATIONS` sets how many each mount makes.

#![allow(clippy::unwrap_used)]

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use pocket_tests::{Map, Sharing, with_cluster, within};
use rand::{Rng, SeedableRng, rngs::StdRng};

const PAGE: usize = 4096;
/// Eight blocks.
const FILE_BYTES: usize = 128 * PAGE;
/// How long a range is, bytes: each has a whole page, and some have a whole block.
const RANGE_BYTES: Range<usize> = 2 * PAGE..34 * PAGE;
/// Operations of each mount.
const OPERATIONS: usize = 20_000;
/// The longest of them, bytes.
const LENGTH_MAX: usize = 20 * PAGE;
const DEADLINE: Duration = Duration::from_secs(300);

/// The number that an environment variable sets.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("it is a number"))
}

/// Which ranges are whose: by turns.
fn split(dice: &mut StdRng) -> [Vec<Range<usize>>; 2] {
    let (mut owned, mut start) = ([Vec::new(), Vec::new()], 0);
    for turn in 0.. {
        let end = start + dice.random_range(RANGE_BYTES);
        // The last one is not too short, either.
        let end = match end + RANGE_BYTES.start > FILE_BYTES {
            true => FILE_BYTES,
            false => end,
        };
        owned[turn % 2].push(start..end);
        start = end;
        if start == FILE_BYTES {
            break;
        }
    }
    owned
}

fn open(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).open(path).unwrap()
}

/// A mount's descriptor of the file, and what it knows to be in its ranges.
struct Worker<'a> {
    path: &'a Path,
    file: File,
    dice: StdRng,
    ranges: &'a [Range<usize>],
    /// As long as the file; of the other's ranges it knows nothing.
    expected: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(path: &'a Path, ranges: &'a [Range<usize>], dice: StdRng) -> Self {
        Worker {
            path,
            file: open(path),
            dice,
            ranges,
            expected: vec![0; FILE_BYTES],
        }
    }

    /// Some bytes of some range, often few.
    fn piece(&mut self) -> Range<usize> {
        let range = self.ranges[self.dice.random_range(0..self.ranges.len())].clone();
        let start = self.dice.random_range(range.clone());
        let most = [100, PAGE + 1, LENGTH_MAX][self.dice.random_range(0..3)];
        start..range.end.min(start + self.dice.random_range(1..=most))
    }

    /// A place in a range for as much, apart from it.
    fn place_for(&mut self, piece: &Range<usize>) -> Option<Range<usize>> {
        let range = self.ranges[self.dice.random_range(0..self.ranges.len())].clone();
        let last = range.end.checked_sub(piece.len())?;
        let start = (range.start <= last).then(|| self.dice.random_range(range.start..=last))?;
        let place = start..start + piece.len();
        (place.start >= piece.end || place.end <= piece.start).then_some(place)
    }

    #[track_caller]
    fn compare(&self, what: &str, at: &Range<usize>, found: &[u8]) {
        let expected = &self.expected[at.clone()];
        if let Some(first) = (0..at.len()).find(|&byte| found[byte] != expected[byte]) {
            let (found, expected) = (found[first], expected[first]);
            let (path, byte) = (self.path.display(), at.start + first);
            panic!("{what} {at:?} of {path}: byte {byte} is {found}, not {expected}");
        }
    }

    fn map(&self) -> Map {
        Map::new(&self.file, FILE_BYTES, Sharing::Shared).unwrap()
    }

    /// One operation on the file, and on what is expected of it.
    fn operate(&mut self) {
        let at = self.piece();
        let (offset, length) = (at.start as i64, at.len() as i64);
        let content = vec![self.dice.random::<u8>() | 1; at.len()];
        match self.dice.random_range(0..40) {
            0..12 => {
                self.file.write_all_at(&content, at.start as u64).unwrap();
                self.expected[at].copy_from_slice(&content);
            }
            12..24 => {
                let mut found = vec![0; at.len()];
                self.file
                    .read_exact_at(&mut found, at.start as u64)
                    .unwrap();
                self.compare("what was read at", &at, &found);
            }
            kind @ 24..29 => {
                let mode = match kind {
                    24..27 => {
                        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE
                    }
                    _ => FallocateFlags::FALLOC_FL_ZERO_RANGE,
                };
                fallocate(&self.file, mode, offset, length).unwrap();
                self.expected[at].fill(0);
            }
            29 => fallocate(&self.file, FallocateFlags::empty(), offset, length).unwrap(),
            30..33 => {
                if let Some(place) = self.place_for(&at) {
                    self.copy(&at, &place);
                    self.expected.copy_within(at, place.start);
                }
            }
            33..35 => {
                let pages = at.start.next_multiple_of(PAGE)..at.end / PAGE * PAGE;
                if !pages.is_empty() {
                    let mut map = self.map();
                    map.write(pages.start, &content[..pages.len()]);
                    map.sync().unwrap();
                    self.expected[pages.clone()].copy_from_slice(&content[..pages.len()]);
                }
            }
            35..37 => {
                let map = self.map();
                map.forget().unwrap();
                let found = map.read(at.start, at.len());
                self.compare("what is mapped at", &at, &found);
            }
            37 => self.file.sync_all().unwrap(),
            _ => self.file = open(self.path),
        }
    }

    fn copy(&self, from: &Range<usize>, to: &Range<usize>) {
        let (mut source, mut target) = (from.start as i64, to.start as i64);
        while source < from.end as i64 {
            let left = (from.end as i64 - source) as usize;
            let (source, target) = (Some(&mut source), Some(&mut target));
            copy_file_range(&self.file, source, &self.file, target, left).unwrap();
        }
    }
}

#[test]
fn two_mounts_work_in_ranges_of_one_file_without_harm_to_each_other() {
    let seed = setting("POCKET_RANGES_SEED").unwrap_or_else(|| rand::random::<u64>() >> 32);
    let operations = setting("POCKET_RANGES_OPERATIONS").unwrap_or(OPERATIONS as u64);
    println!("POCKET_RANGES_SEED={seed} POCKET_RANGES_OPERATIONS={operations}");
    with_cluster(|cluster| {
        let first = cluster.mount_with("ranges", &["--block-size", "64KiB"]);
        let second = cluster.mount("ranges");
        let file = File::create(first.join("f")).unwrap();
        file.set_len(FILE_BYTES as u64).unwrap();
        drop(file);
        let paths: [PathBuf; 2] = [first.join("f"), second.join("f")];
        let ranges = split(&mut StdRng::seed_from_u64(seed));
        let (at, parts) = (paths.clone(), ranges.clone());
        let written = within(DEADLINE, "both mounts' operations", move || {
            thread::scope(|scope| {
                let [one, other] = [0, 1].map(|index: usize| {
                    let dice = StdRng::seed_from_u64(seed + 1 + index as u64);
                    let mut worker = Worker::new(&at[index], &parts[index], dice);
                    scope.spawn(move || {
                        (0..operations).for_each(|_| worker.operate());
                        worker.expected
                    })
                });
                [one.join().unwrap(), other.join().unwrap()]
            })
        });
        for path in &paths {
            let found = std::fs::read(path).unwrap();
            assert_eq!(found.len(), FILE_BYTES);
            for (ranges, expected) in ranges.iter().zip(&written) {
                for range in ranges {
                    let same = found[range.clone()] == expected[range.clone()];
                    assert!(same, "{} differs in {range:?}", path.display());
                }
            }
        }
        first.finish();
        second.finish();
    });
}
