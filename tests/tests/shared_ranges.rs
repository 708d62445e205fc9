//! Two mounts at work in one file at once, each in a range of its own: what either reads of its
//! range is what it wrote there, by whatever call, and in the end both see both.
//!
//! The ranges meet within a block, at the border of a page: pages are what mappings are made of.

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
const FILE_BYTES: usize = 128 * PAGE;
/// In the middle of a block of 64 KiB.
const BORDER: usize = 67 * PAGE;
/// Operations of each mount.
const OPERATIONS: usize = 3000;
/// The longest of them, bytes.
const LENGTH_MAX: usize = 5 * PAGE;
const DEADLINE: Duration = Duration::from_secs(120);

fn open(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).open(path).unwrap()
}

/// Some bytes of a range.
fn piece(dice: &mut StdRng, range: &Range<usize>) -> Range<usize> {
    let start = dice.random_range(range.clone());
    let length = dice.random_range(1..=LENGTH_MAX);
    start..range.end.min(start + length)
}

/// One operation on the file and on the shadow of it.
fn operate(dice: &mut StdRng, file: &mut File, path: &Path, range: &Range<usize>, all: &mut [u8]) {
    let at = piece(dice, range);
    let (offset, length) = (at.start as i64, at.len() as i64);
    let content = vec![dice.random::<u8>() | 1; at.len()];
    match dice.random_range(0..20) {
        0..5 => {
            file.write_all_at(&content, at.start as u64).unwrap();
            all[at].copy_from_slice(&content);
        }
        5..10 => {
            let mut found = vec![0; at.len()];
            file.read_exact_at(&mut found, at.start as u64).unwrap();
            assert!(found == all[at.clone()], "what was read at {at:?} is wrong");
        }
        10..12 => {
            let kinds = [
                FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                FallocateFlags::FALLOC_FL_ZERO_RANGE,
            ];
            fallocate(&*file, kinds[dice.random_range(0..2)], offset, length).unwrap();
            all[at].fill(0);
        }
        12 => fallocate(&*file, FallocateFlags::empty(), offset, length).unwrap(),
        13..15 => {
            let to = dice.random_range(range.start..=range.end - at.len());
            if to >= at.end || to + at.len() <= at.start {
                let (mut from, mut into) = (offset, to as i64);
                while from < at.end as i64 {
                    let left = (at.end as i64 - from) as usize;
                    copy_file_range(&*file, Some(&mut from), &*file, Some(&mut into), left)
                        .unwrap();
                }
                all.copy_within(at, to);
            }
        }
        15..17 => {
            let mut map = Map::new(&*file, FILE_BYTES, Sharing::Shared).unwrap();
            map.write(at.start, &content);
            map.sync().unwrap();
            all[at].copy_from_slice(&content);
        }
        17 => {
            let map = Map::new(&*file, FILE_BYTES, Sharing::Shared).unwrap();
            map.forget().unwrap();
            let found = map.read(at.start, at.len());
            assert!(
                found == all[at.clone()],
                "what is mapped at {at:?} is wrong"
            );
        }
        18 => file.sync_all().unwrap(),
        _ => *file = open(path),
    }
}

/// All operations of one mount; what the file holds by them, seen from this mount.
fn work(path: &Path, range: &Range<usize>, seed: u64) -> Vec<u8> {
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut file, mut all) = (open(path), vec![0; FILE_BYTES]);
    (0..OPERATIONS).for_each(|_| operate(&mut dice, &mut file, path, range, &mut all));
    all
}

#[test]
fn two_mounts_work_in_ranges_of_one_file_without_harm_to_each_other() {
    with_cluster(|cluster| {
        let first = cluster.mount_with("ranges", &["--block-size", "64KiB"]);
        let second = cluster.mount("ranges");
        let file = File::create(first.join("f")).unwrap();
        file.set_len(FILE_BYTES as u64).unwrap();
        drop(file);
        let paths: [PathBuf; 2] = [first.join("f"), second.join("f")];
        let ranges = [0..BORDER, BORDER..FILE_BYTES];
        let (at, parts) = (paths.clone(), ranges.clone());
        let written = within(DEADLINE, "both mounts' operations", move || {
            thread::scope(|scope| {
                let [one, other] = [0, 1].map(|index: usize| {
                    let (path, range) = (&at[index], &parts[index]);
                    scope.spawn(move || work(path, range, 42 + index as u64))
                });
                [one.join().unwrap(), other.join().unwrap()]
            })
        });
        for path in &paths {
            let found = std::fs::read(path).unwrap();
            assert_eq!(found.len(), FILE_BYTES);
            for (range, expected) in ranges.iter().zip(&written) {
                let same = found[range.clone()] == expected[range.clone()];
                assert!(same, "{} differs in {range:?}", path.display());
            }
        }
        first.finish();
        second.finish();
    });
}
