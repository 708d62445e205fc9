//! Reading and writing.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    thread,
};

use nix::errno::Errno;

use crate::{data, errno};

claims![
    what_is_written_is_read_back_at_every_size,
    a_range_written_in_place_leaves_the_rest,
    a_hole_reads_as_zeros,
    a_file_cut_and_grown_has_zeros_behind_the_cut,
    a_write_behind_the_end_grows_the_file,
    reading_at_and_behind_the_end_gives_nothing,
    appends_go_to_the_end_wherever_it_is,
    appends_of_many_threads_are_all_there,
    two_handles_see_each_others_writes,
    threads_write_ranges_of_one_file,
    an_empty_file_is_a_file,
    a_large_file_comes_back_byte_for_byte,
    fsync_and_fdatasync_succeed,
    a_file_is_copied_within_the_kernel,
    negative_offsets_and_huge_sizes_are_refused,
];

const MIB: usize = 1 << 20;

fn what_is_written_is_read_back_at_every_size(root: &Path) {
    let sizes = [
        0,
        1,
        511,
        4095,
        4096,
        4097,
        128 << 10,
        MIB - 1,
        MIB,
        MIB + 1,
        3 * MIB + 17,
    ];
    for size in sizes {
        let path = root.join(size.to_string());
        fs::write(&path, data(size)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), size as u64);
        assert!(fs::read(&path).unwrap() == data(size), "{size} bytes");
    }
}

fn a_range_written_in_place_leaves_the_rest(root: &Path) {
    let path = root.join("f");
    let mut expected = data(2 * MIB + 100);
    fs::write(&path, &expected).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    for (offset, length) in [
        (0, 10),
        (4090, 20),
        (MIB - 5, 10),
        (2 * MIB, 300),
        (77, 8192),
    ] {
        let patch = vec![0xee; length];
        file.write_all_at(&patch, offset as u64).unwrap();
        let end = offset + length;
        expected.resize(expected.len().max(end), 0);
        expected[offset..end].copy_from_slice(&patch);
    }
    drop(file);
    assert!(fs::read(&path).unwrap() == expected);
}

fn a_hole_reads_as_zeros(root: &Path) {
    let path = root.join("f");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"start", 0).unwrap();
    file.write_all_at(b"end", 5 * MIB as u64).unwrap();
    drop(file);
    let mut expected = vec![0; 5 * MIB + 3];
    expected[..5].copy_from_slice(b"start");
    expected[5 * MIB..].copy_from_slice(b"end");
    assert!(fs::read(&path).unwrap() == expected);
}

fn a_file_cut_and_grown_has_zeros_behind_the_cut(root: &Path) {
    let path = root.join("f");
    for cut in [0, 1, 4000, 4096, MIB - 1, MIB, MIB + 5000] {
        fs::write(&path, data(2 * MIB)).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(cut as u64).unwrap();
        file.set_len(2 * MIB as u64 + 9).unwrap();
        drop(file);
        let mut expected = data(2 * MIB);
        expected[cut..].fill(0);
        expected.resize(2 * MIB + 9, 0);
        assert!(fs::read(&path).unwrap() == expected, "cut at {cut}");
    }
}

fn a_write_behind_the_end_grows_the_file(root: &Path) {
    let path = root.join("f");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"x", 9_999).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10_000);
    assert_eq!(fs::metadata(&path).unwrap().len(), 10_000);
}

fn reading_at_and_behind_the_end_gives_nothing(root: &Path) {
    fs::write(root.join("f"), "12345").unwrap();
    let file = File::open(root.join("f")).unwrap();
    let mut room = [0; 10];
    assert_eq!(file.read_at(&mut room, 3).unwrap(), 2);
    assert_eq!(file.read_at(&mut room, 5).unwrap(), 0);
    assert_eq!(file.read_at(&mut room, 1 << 40).unwrap(), 0);
}

fn appends_go_to_the_end_wherever_it_is(root: &Path) {
    let path = root.join("f");
    let mut append = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap();
    append.write_all(b"one ").unwrap();
    append.seek(SeekFrom::Start(0)).unwrap();
    append.write_all(b"two ").unwrap();
    let other = OpenOptions::new().write(true).open(&path).unwrap();
    other.write_all_at(b"three ", 8).unwrap();
    append.write_all(b"four").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one two three four");
    other.set_len(3).unwrap();
    append.write_all(b"!").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one!");
}

fn appends_of_many_threads_are_all_there(root: &Path) {
    let path = root.join("f");
    let append = |thread: usize| {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        for index in 0..100 {
            file.write_all(format!("{thread:03} {index:03}\n").as_bytes())
                .unwrap();
        }
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || append(thread));
        }
    });
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 400);
}

fn two_handles_see_each_others_writes(root: &Path) {
    let path = root.join("f");
    let writer = File::create(&path).unwrap();
    let reader = File::open(&path).unwrap();
    for index in 0..50_u64 {
        let text = format!("{index:04}");
        writer.write_all_at(text.as_bytes(), index * 4).unwrap();
        let mut seen = [0; 4];
        reader.read_exact_at(&mut seen, index * 4).unwrap();
        assert_eq!(seen, text.as_bytes());
        assert_eq!(reader.metadata().unwrap().len(), index * 4 + 4);
    }
}

fn threads_write_ranges_of_one_file(root: &Path) {
    let path = root.join("f");
    let file = File::create(&path).unwrap();
    let expected = data(4 * MIB);
    thread::scope(|scope| {
        for part in 0..4 {
            let (file, expected) = (&file, &expected);
            // Odd pieces, so that neighbours share pages and blocks.
            scope.spawn(move || {
                for (index, piece) in expected.chunks(70_001).enumerate() {
                    if index % 4 == part {
                        file.write_all_at(piece, index as u64 * 70_001).unwrap();
                    }
                }
            });
        }
    });
    assert!(fs::read(&path).unwrap() == expected);
}

fn an_empty_file_is_a_file(root: &Path) {
    File::create(root.join("f")).unwrap();
    let status = fs::metadata(root.join("f")).unwrap();
    assert_eq!((status.len(), status.blocks()), (0, 0));
    assert_eq!(fs::read(root.join("f")).unwrap(), b"");
}

fn a_large_file_comes_back_byte_for_byte(root: &Path) {
    let path = root.join("f");
    let piece = data(MIB + 1);
    let mut file = File::create(&path).unwrap();
    for _ in 0..64 {
        file.write_all(&piece).unwrap();
    }
    drop(file);
    let mut file = File::open(&path).unwrap();
    let mut found = vec![0; piece.len()];
    for index in 0..64 {
        file.read_exact(&mut found).unwrap();
        assert!(found == piece, "piece {index}");
    }
    assert_eq!(file.read(&mut found).unwrap(), 0);
}

fn fsync_and_fdatasync_succeed(root: &Path) {
    let mut file = File::create(root.join("f")).unwrap();
    file.write_all(b"data").unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    File::open(root).unwrap().sync_all().unwrap();
}

fn a_file_is_copied_within_the_kernel(root: &Path) {
    fs::write(root.join("a"), data(MIB + 77)).unwrap();
    // copy_file_range(2), or sendfile(2) where that is not offered.
    fs::copy(root.join("a"), root.join("b")).unwrap();
    assert!(fs::read(root.join("b")).unwrap() == data(MIB + 77));
}

fn negative_offsets_and_huge_sizes_are_refused(root: &Path) {
    let file = File::create(root.join("f")).unwrap();
    let cut = nix::unistd::ftruncate(&file, -1);
    assert_eq!(cut, Err(Errno::EINVAL));
    let beyond = file.write_at(b"x", i64::MAX as u64);
    assert!(matches!(errno(beyond), Errno::EFBIG | Errno::EINVAL));
    assert_eq!(file.metadata().unwrap().len(), 0);
}
