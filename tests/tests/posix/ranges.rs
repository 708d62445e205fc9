//! Ranges of files: fallocate(2), holes, copy_file_range(2).

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, copy_file_range, fallocate},
    unistd::{Whence, lseek},
};
use pocket_tests::{Map, Sharing, until};

use crate::{data, shell};

claims![
    allocating_grows_a_file_with_zeros,
    allocating_keeps_what_is_there,
    allocating_with_keep_size_leaves_the_size,
    space_allocated_behind_the_end_goes_with_a_truncation,
    a_punched_hole_reads_as_zeros_and_gives_space_back,
    a_punched_hole_leaves_what_is_beside_it,
    a_hole_behind_the_end_changes_nothing,
    a_zeroed_range_reads_as_zeros,
    written_data_are_punched_before_they_are_synced,
    a_map_sees_a_punched_hole,
    ranges_that_make_no_sense_are_refused,
    only_writers_of_files_allocate,
    allocating_and_punching_change_the_times,
    data_and_holes_are_told_apart,
    data_not_yet_synced_are_no_hole,
    stores_to_a_map_are_no_hole,
    there_is_nothing_to_seek_behind_the_end,
    ranges_are_copied_between_files,
    ranges_are_copied_within_a_file,
    a_copy_of_overlapping_ranges_is_refused,
    a_copy_ends_with_the_source,
    a_copy_takes_what_is_not_yet_synced,
    a_copy_of_a_hole_replaces_data,
    copies_that_make_no_sense_are_refused,
    cp_keeps_a_sparse_file,
];

const MIB: usize = 1 << 20;
const KEEP: FallocateFlags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
const PUNCH: FallocateFlags = FallocateFlags::FALLOC_FL_PUNCH_HOLE.union(KEEP);
const ZERO: FallocateFlags = FallocateFlags::FALLOC_FL_ZERO_RANGE;
const PLAIN: FallocateFlags = FallocateFlags::empty();

fn open(root: &Path, name: &str) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(root.join(name))
        .unwrap()
}

fn holding(root: &Path, name: &str, content: &[u8]) -> File {
    let file = open(root, name);
    file.write_all_at(content, 0).unwrap();
    file
}

fn allocate(
    file: impl AsFd,
    flags: FallocateFlags,
    offset: usize,
    length: usize,
) -> Result<(), Errno> {
    fallocate(file, flags, offset as i64, length as i64)
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![1; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn held(file: &File) -> u64 {
    file.sync_all().unwrap();
    file.metadata().unwrap().blocks() * 512
}

#[track_caller]
fn assert_holds(file: &File, expected: &[u8]) {
    let found = content(file);
    assert_eq!(found.len(), expected.len());
    let wrong = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(wrong, None, "first wrong byte");
}

fn allocating_grows_a_file_with_zeros(root: &Path) {
    let file = open(root, "f");
    allocate(&file, PLAIN, 0, 3 * MIB + 17).unwrap();
    assert_holds(&file, &vec![0; 3 * MIB + 17]);
    assert!(held(&file) >= (3 * MIB + 17) as u64);
    allocate(&file, PLAIN, 5 * MIB, 10).unwrap();
    assert_holds(&file, &vec![0; 5 * MIB + 10]);
    assert!(held(&file) < 5 * MIB as u64);
    drop(file);
    let again = open(root, "f");
    assert_holds(&again, &vec![0; 5 * MIB + 10]);
}

fn allocating_keeps_what_is_there(root: &Path) {
    let file = holding(root, "f", &data(MIB + 100));
    let mut expected = data(MIB + 100);
    allocate(&file, PLAIN, 50, MIB + 20).unwrap();
    assert_holds(&file, &expected);
    allocate(&file, PLAIN, 10, 2 * MIB).unwrap();
    expected.resize(2 * MIB + 10, 0);
    assert_holds(&file, &expected);
    file.write_all_at(b"written", 2 * MIB as u64).unwrap();
    expected[2 * MIB..2 * MIB + 7].copy_from_slice(b"written");
    assert_holds(&file, &expected);
}

fn allocating_with_keep_size_leaves_the_size(root: &Path) {
    let file = holding(root, "f", b"some");
    allocate(&file, KEEP, 0, 2 * MIB).unwrap();
    assert_holds(&file, b"some");
    assert!(held(&file) >= 2 * MIB as u64);
    file.write_all_at(b"end", MIB as u64).unwrap();
    let mut expected = vec![0; MIB + 3];
    expected[..4].copy_from_slice(b"some");
    expected[MIB..].copy_from_slice(b"end");
    assert_holds(&file, &expected);
}

fn space_allocated_behind_the_end_goes_with_a_truncation(root: &Path) {
    let file = holding(root, "f", b"some");
    allocate(&file, KEEP, 0, 4 * MIB).unwrap();
    file.set_len(2).unwrap();
    assert!(held(&file) <= 4096);
    allocate(&file, KEEP, 2 * MIB, 4 * MIB).unwrap();
    file.set_len(0).unwrap();
    assert_eq!(held(&file), 0);
}

fn a_punched_hole_reads_as_zeros_and_gives_space_back(root: &Path) {
    let file = holding(root, "f", &data(4 * MIB));
    let before = held(&file);
    allocate(&file, PUNCH, MIB, 2 * MIB).unwrap();
    let mut expected = data(4 * MIB);
    expected[MIB..3 * MIB].fill(0);
    assert_holds(&file, &expected);
    assert_eq!(before - held(&file), 2 * MIB as u64);
    allocate(&file, PUNCH, 0, 10 * MIB).unwrap();
    assert_holds(&file, &vec![0; 4 * MIB]);
    assert_eq!(held(&file), 0);
    drop(file);
    assert_holds(&open(root, "f"), &vec![0; 4 * MIB]);
}

fn a_punched_hole_leaves_what_is_beside_it(root: &Path) {
    let ranges = [
        (1, 1),
        (4095, 2),
        (100, MIB),
        (MIB - 1, 2),
        (MIB - 7, MIB + 14),
        (2 * MIB + 5, MIB),
        (3 * MIB, 500),
    ];
    for (offset, length) in ranges {
        let mut expected = data(3 * MIB + 500);
        let file = holding(root, &format!("{offset}"), &expected);
        allocate(&file, PUNCH, offset, length).unwrap();
        let end = expected.len().min(offset + length);
        expected[offset..end].fill(0);
        assert_holds(&file, &expected);
        file.write_all_at(b"again", offset as u64).unwrap();
        expected.resize(expected.len().max(offset + 5), 0);
        expected[offset..offset + 5].copy_from_slice(b"again");
        assert_holds(&file, &expected);
    }
}

fn a_hole_behind_the_end_changes_nothing(root: &Path) {
    let file = holding(root, "f", &data(1000));
    allocate(&file, PUNCH, 1000, 5 * MIB).unwrap();
    allocate(&file, PUNCH, 1 << 40, 1 << 50).unwrap();
    assert_holds(&file, &data(1000));
}

/// tmpfs does not offer it.
fn a_zeroed_range_reads_as_zeros(root: &Path) {
    let file = holding(root, "f", &data(3 * MIB));
    let before = held(&file);
    match allocate(&file, ZERO | KEEP, 100, 2 * MIB) {
        Err(Errno::EOPNOTSUPP) => return assert!(before > 0),
        zeroed => zeroed.unwrap(),
    }
    let mut expected = data(3 * MIB);
    expected[100..100 + 2 * MIB].fill(0);
    assert_holds(&file, &expected);
    assert_eq!(held(&file), before);
    allocate(&file, ZERO | KEEP, 3 * MIB - 1, 2 * MIB).unwrap();
    expected[3 * MIB - 1] = 0;
    assert_holds(&file, &expected);
    assert!(held(&file) >= 5 * MIB as u64 - 1);
    allocate(&file, ZERO, 3 * MIB - 5, MIB).unwrap();
    expected.resize(4 * MIB - 5, 0);
    expected[3 * MIB - 5..].fill(0);
    assert_holds(&file, &expected);
}

fn written_data_are_punched_before_they_are_synced(root: &Path) {
    let file = open(root, "f");
    let mut expected = data(2 * MIB + 9);
    for round in 0..5 {
        file.write_all_at(&data(2 * MIB + 9), 0).unwrap();
        expected.copy_from_slice(&data(2 * MIB + 9));
        let offset = round * 300_000;
        allocate(&file, PUNCH, offset, 400_000).unwrap();
        file.write_all_at(b"after", offset as u64 + 7).unwrap();
        expected[offset..offset + 400_000].fill(0);
        expected[offset + 7..offset + 12].copy_from_slice(b"after");
        assert_holds(&file, &expected);
    }
}

fn a_map_sees_a_punched_hole(root: &Path) {
    let file = holding(root, "f", &data(2 * MIB));
    let mut map = Map::new(&file, 2 * MIB, Sharing::Shared).unwrap();
    assert!(map.read(0, 2 * MIB) == data(2 * MIB));
    map.write(5000, b"stored");
    allocate(&file, PUNCH, 4096, MIB).unwrap();
    let mut expected = data(2 * MIB);
    expected[4096..4096 + MIB].fill(0);
    assert!(map.read(0, 2 * MIB) == expected);
    assert_holds(&file, &expected);
}

fn ranges_that_make_no_sense_are_refused(root: &Path) {
    let file = holding(root, "f", b"some");
    for flags in [PLAIN, KEEP, PUNCH] {
        assert_eq!(allocate(&file, flags, 0, 0), Err(Errno::EINVAL));
        assert_eq!(fallocate(&file, flags, -1, 10), Err(Errno::EINVAL));
        assert_eq!(fallocate(&file, flags, 0, -10), Err(Errno::EINVAL));
        let beyond = fallocate(&file, flags, i64::MAX - 10, 100);
        assert_eq!(beyond, Err(Errno::EFBIG));
    }
    for flags in [
        FallocateFlags::FALLOC_FL_PUNCH_HOLE,
        FallocateFlags::FALLOC_FL_COLLAPSE_RANGE,
        FallocateFlags::FALLOC_FL_INSERT_RANGE,
    ] {
        let refused = allocate(&file, flags, 0, 4096);
        assert_eq!(refused, Err(Errno::EOPNOTSUPP), "{flags:?}");
    }
    assert_holds(&file, b"some");
}

fn only_writers_of_files_allocate(root: &Path) {
    fs::write(root.join("f"), "some").unwrap();
    let reader = File::open(root.join("f")).unwrap();
    assert_eq!(allocate(&reader, PLAIN, 0, 10), Err(Errno::EBADF));
    let directory = File::open(root).unwrap();
    assert_eq!(allocate(&directory, PLAIN, 0, 10), Err(Errno::EBADF));
    shell(root, "mkfifo p");
    let fifo = open(root, "p");
    assert_eq!(allocate(&fifo, PLAIN, 0, 10), Err(Errno::ESPIPE));
    assert_holds(&open(root, "f"), b"some");
}

fn allocating_and_punching_change_the_times(root: &Path) {
    let file = holding(root, "f", &data(8192));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (flags, offset) in [(PLAIN, 8192), (PUNCH, 0)] {
        file.set_modified(long_ago).unwrap();
        let changed = || {
            let status = file.metadata().unwrap();
            (status.ctime(), status.ctime_nsec())
        };
        let before = changed();
        // The clock of some file systems is coarse.
        until(Duration::from_secs(1), "a later time of change", || {
            allocate(&file, flags, offset, 4096).unwrap();
            changed() > before
        });
    }
}

fn seek(file: &File, offset: u64, whence: Whence) -> Result<u64, Errno> {
    lseek(file, offset as i64, whence).map(|found| found as u64)
}

/// Data and holes of a file, in turns from the start: (from, to) of the data.
fn map_of(file: &File) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(file, at, Whence::SeekData) {
        at = seek(file, start, Whence::SeekHole).unwrap();
        assert!(at > start);
        runs.push((start, at));
    }
    runs
}

fn data_and_holes_are_told_apart(root: &Path) {
    const M: u64 = MIB as u64;
    let file = open(root, "f");
    file.set_len(100 * M).unwrap();
    assert_eq!(map_of(&file), []);
    for (at, length) in [(3, 2), (40, 1), (90, 3)] {
        file.write_all_at(&data(length * MIB), at * M).unwrap();
    }
    let expected = [(3 * M, 5 * M), (40 * M, 41 * M), (90 * M, 93 * M)];
    assert_eq!(map_of(&file), expected);
    file.sync_all().unwrap();
    assert_eq!(map_of(&file), expected);
    assert_eq!(seek(&file, 4 * M + 5, Whence::SeekData), Ok(4 * M + 5));
    assert_eq!(seek(&file, 4 * M + 5, Whence::SeekHole), Ok(5 * M));
    assert_eq!(seek(&file, 7 * M + 5, Whence::SeekHole), Ok(7 * M + 5));
    assert_eq!(seek(&file, 7 * M + 5, Whence::SeekData), Ok(40 * M));
    allocate(&file, PUNCH, 90 * MIB, MIB).unwrap();
    file.set_len(92 * M + 100).unwrap();
    let expected = [(3 * M, 5 * M), (40 * M, 41 * M), (91 * M, 92 * M + 100)];
    assert_eq!(map_of(&file), expected);
    drop(file);
    let again = open(root, "f");
    assert_eq!(map_of(&again), expected);
    assert_eq!(
        seek(&again, 92 * M + 99, Whence::SeekHole),
        Ok(92 * M + 100)
    );
}

fn data_not_yet_synced_are_no_hole(root: &Path) {
    let mut file = open(root, "f");
    file.write_all(b"first").unwrap();
    assert_eq!(map_of(&file), [(0, 5)]);
    file.set_len(10 * MIB as u64).unwrap();
    file.write_all_at(b"later", 9 * MIB as u64).unwrap();
    let found = seek(&file, MIB as u64, Whence::SeekData).unwrap();
    assert!((8 * MIB as u64..=9 * MIB as u64).contains(&found));
    assert!(seek(&file, found, Whence::SeekHole).unwrap() > 9 * MIB as u64);
}

fn stores_to_a_map_are_no_hole(root: &Path) {
    let file = open(root, "f");
    file.set_len(4 * MIB as u64).unwrap();
    let mut map = Map::new(&file, 4 * MIB, Sharing::Shared).unwrap();
    map.write(2 * MIB + 100, b"stored");
    let found = seek(&file, 0, Whence::SeekData).unwrap();
    assert!((MIB as u64..=(2 * MIB + 100) as u64).contains(&found));
    let end = seek(&file, found, Whence::SeekHole).unwrap();
    assert!(end >= (2 * MIB + 106) as u64);
}

fn there_is_nothing_to_seek_behind_the_end(root: &Path) {
    let file = holding(root, "f", &data(5000));
    for whence in [Whence::SeekData, Whence::SeekHole] {
        for offset in [5000, 5001, 1 << 40] {
            assert_eq!(seek(&file, offset, whence), Err(Errno::ENXIO));
        }
    }
    assert_eq!(seek(&file, 4999, Whence::SeekHole), Ok(5000));
    assert_eq!(seek(&file, 4999, Whence::SeekData), Ok(4999));
    file.set_len(10 * MIB as u64).unwrap();
    let nothing = seek(&file, 5 * MIB as u64, Whence::SeekData);
    assert_eq!(nothing, Err(Errno::ENXIO));
    let empty = open(root, "empty");
    assert_eq!(seek(&empty, 0, Whence::SeekHole), Err(Errno::ENXIO));
    assert_eq!(lseek(&file, -1, Whence::SeekData), Err(Errno::ENXIO));
}

/// Copies all of a range, however many calls that takes.
fn copy(from: &File, start: usize, to: &File, target: usize, length: usize) -> Result<(), Errno> {
    let (mut start, mut target) = (start as i64, target as i64);
    let mut left = length;
    while left > 0 {
        let copied = copy_file_range(from, Some(&mut start), to, Some(&mut target), left)?;
        assert!((1..=left).contains(&copied));
        left -= copied;
    }
    Ok(())
}

fn ranges_are_copied_between_files(root: &Path) {
    const LENGTH: usize = 9 * MIB + 77;
    let from = holding(root, "from", &data(LENGTH));
    let ranges = [
        (0, 0, LENGTH),
        (MIB, 3 * MIB, 2 * MIB),
        (5, MIB + 5, 3 * MIB),
        (1, 2, 2 * MIB),
        (LENGTH - 10, 7 * MIB - 5, 10),
        (8 * MIB, 20 * MIB, MIB + 77),
    ];
    for (start, target, length) in ranges {
        let mut expected = vec![0xee; 6 * MIB];
        let to = holding(root, &format!("{start}-{target}"), &expected);
        copy(&from, start, &to, target, length).unwrap();
        expected.resize(expected.len().max(target + length), 0);
        expected[target..target + length].copy_from_slice(&data(LENGTH)[start..start + length]);
        assert_holds(&to, &expected);
        drop(to);
        assert_holds(&open(root, &format!("{start}-{target}")), &expected);
    }
    assert_holds(&from, &data(LENGTH));
}

fn ranges_are_copied_within_a_file(root: &Path) {
    let mut expected = data(6 * MIB);
    let file = holding(root, "f", &expected);
    for (start, target, length) in [(0, 3 * MIB, 2 * MIB), (100, 5 * MIB, MIB), (4 * MIB, 0, 5)] {
        copy(&file, start, &file, target, length).unwrap();
        expected.copy_within(start..start + length, target);
        assert_holds(&file, &expected);
    }
}

fn a_copy_of_overlapping_ranges_is_refused(root: &Path) {
    let file = holding(root, "f", &data(2 * MIB));
    for (start, target, length) in [(0, 10, 11), (10, 0, 11), (0, 0, 1), (MIB, MIB + 1, MIB)] {
        let refused = copy(&file, start, &file, target, length);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    // Behind the end there is nothing that could overlap.
    copy(&file, 0, &file, MIB, MIB).unwrap();
}

fn a_copy_ends_with_the_source(root: &Path) {
    let from = holding(root, "from", &data(1000));
    let to = open(root, "to");
    let copied = copy_file_range(&from, Some(&mut 400), &to, Some(&mut 0), 5 * MIB);
    assert_eq!(copied, Ok(600));
    assert_holds(&to, &data(1000)[400..]);
    for start in [1000, 1 << 40] {
        let mut start = start;
        let nothing = copy_file_range(&from, Some(&mut start), &to, Some(&mut 0), MIB);
        assert_eq!(nothing, Ok(0));
    }
}

fn a_copy_takes_what_is_not_yet_synced(root: &Path) {
    let (from, to) = (open(root, "from"), open(root, "to"));
    let mut expected = data(3 * MIB);
    from.write_all_at(&expected, 0).unwrap();
    to.write_all_at(b"old", 0).unwrap();
    copy(&from, 0, &to, 0, 3 * MIB).unwrap();
    to.write_all_at(b"new", 10).unwrap();
    from.write_all_at(b"changed", 0).unwrap();
    expected[10..13].copy_from_slice(b"new");
    assert_holds(&to, &expected);
    let mut map = Map::new(&from, 3 * MIB, Sharing::Shared).unwrap();
    map.write(MIB + 5, b"stored");
    copy(&from, MIB, &to, 0, MIB).unwrap();
    let copied = content(&to);
    assert_eq!(&copied[5..11], b"stored");
}

fn a_copy_of_a_hole_replaces_data(root: &Path) {
    let from = open(root, "from");
    from.set_len(3 * MIB as u64).unwrap();
    from.write_all_at(b"in the middle", MIB as u64 + 5).unwrap();
    let to = holding(root, "to", &data(4 * MIB));
    copy(&from, 0, &to, 0, 3 * MIB).unwrap();
    let mut expected = data(4 * MIB);
    expected[..3 * MIB].fill(0);
    expected[MIB + 5..MIB + 18].copy_from_slice(b"in the middle");
    assert_holds(&to, &expected);
}

fn copies_that_make_no_sense_are_refused(root: &Path) {
    let from = holding(root, "from", &data(1000));
    let try_copy = |to: &File| copy_file_range(&from, Some(&mut 0), to, Some(&mut 0), 10);
    fs::write(root.join("to"), "some").unwrap();
    let reader = File::open(root.join("to")).unwrap();
    assert_eq!(try_copy(&reader), Err(Errno::EBADF));
    let appending = OpenOptions::new().append(true).open(root.join("to"));
    assert_eq!(try_copy(&appending.unwrap()), Err(Errno::EBADF));
    let writer = OpenOptions::new()
        .write(true)
        .open(root.join("to"))
        .unwrap();
    let from_writer = copy_file_range(&writer, Some(&mut 0), &from, Some(&mut 0), 10);
    assert_eq!(from_writer, Err(Errno::EBADF));
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(root)
        .unwrap();
    let of_directory = copy_file_range(&directory, Some(&mut 0), &writer, Some(&mut 0), 10);
    assert_eq!(of_directory, Err(Errno::EISDIR));
    let mut last = i64::MAX;
    let beyond = copy_file_range(&from, Some(&mut 0), &writer, Some(&mut last), 10);
    assert!(matches!(beyond, Err(Errno::EFBIG | Errno::EOVERFLOW)));
    assert_eq!(fs::read(root.join("to")).unwrap(), b"some");
}

fn cp_keeps_a_sparse_file(root: &Path) {
    let file = open(root, "f");
    file.set_len(200 * MIB as u64).unwrap();
    file.write_all_at(&data(MIB), 100 * MIB as u64).unwrap();
    drop(file);
    shell(root, "cp f g && cmp f g");
    let status = fs::metadata(root.join("g")).unwrap();
    assert_eq!(status.len(), 200 * MIB as u64);
    assert!(
        status.blocks() * 512 <= 4 * MIB as u64,
        "{}",
        status.blocks()
    );
}
