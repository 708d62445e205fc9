//! Memory maps.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use pocket_tests::{Map, Sharing};

use crate::data;

claims![
    a_map_shows_the_file,
    stores_to_a_shared_map_reach_the_file,
    stores_to_a_private_map_do_not,
    two_shared_maps_are_one,
    a_map_sees_what_is_written_to_the_file,
    a_map_outlives_the_descriptor_and_the_name,
    stores_that_were_never_synced_are_in_the_file_after_unmapping,
];

const LENGTH: usize = (2 << 20) + 5000;

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn a_map_shows_the_file(root: &Path) {
    fs::write(root.join("f"), data(LENGTH)).unwrap();
    for sharing in [Sharing::Shared, Sharing::Private] {
        let map = Map::new(open(&root.join("f")), LENGTH, sharing).unwrap();
        assert!(map.read(0, LENGTH) == data(LENGTH), "{sharing:?}");
    }
}

fn stores_to_a_shared_map_reach_the_file(root: &Path) {
    let path = root.join("f");
    fs::write(&path, data(LENGTH)).unwrap();
    let mut map = Map::new(open(&path), LENGTH, Sharing::Shared).unwrap();
    let mut expected = data(LENGTH);
    for offset in [0, 4090, (1 << 20) - 3, LENGTH - 10] {
        map.write(offset, b"0123456789");
        expected[offset..offset + 10].copy_from_slice(b"0123456789");
    }
    map.sync().unwrap();
    assert!(fs::read(&path).unwrap() == expected);
    drop(map);
    assert!(fs::read(&path).unwrap() == expected);
    assert_eq!(fs::metadata(&path).unwrap().len(), LENGTH as u64);
}

fn stores_to_a_private_map_do_not(root: &Path) {
    let path = root.join("f");
    fs::write(&path, data(LENGTH)).unwrap();
    let mut map = Map::new(open(&path), LENGTH, Sharing::Private).unwrap();
    map.write(100, b"private");
    assert_eq!(map.read(100, 7), b"private");
    drop(map);
    assert!(fs::read(&path).unwrap() == data(LENGTH));
}

fn two_shared_maps_are_one(root: &Path) {
    let path = root.join("f");
    fs::write(&path, data(LENGTH)).unwrap();
    let mut one = Map::new(open(&path), LENGTH, Sharing::Shared).unwrap();
    let other = Map::new(open(&path), LENGTH, Sharing::Shared).unwrap();
    one.write(1 << 20, b"seen at once");
    assert_eq!(other.read(1 << 20, 12), b"seen at once");
}

fn a_map_sees_what_is_written_to_the_file(root: &Path) {
    let path = root.join("f");
    fs::write(&path, data(LENGTH)).unwrap();
    let file = open(&path);
    let mut map = Map::new(&file, LENGTH, Sharing::Shared).unwrap();
    assert_eq!(map.read(0, 100), data(100));
    file.write_all_at(b"written", 50).unwrap();
    assert_eq!(map.read(50, 7), b"written");
    map.write(60, b"stored");
    let mut found = [0; 6];
    file.read_exact_at(&mut found, 60).unwrap();
    assert_eq!(&found, b"stored");
}

fn a_map_outlives_the_descriptor_and_the_name(root: &Path) {
    let path = root.join("f");
    fs::write(&path, data(LENGTH)).unwrap();
    let map = Map::new(open(&path), LENGTH, Sharing::Shared).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(map.read(0, LENGTH) == data(LENGTH));
}

fn stores_that_were_never_synced_are_in_the_file_after_unmapping(root: &Path) {
    let path = root.join("f");
    fs::write(&path, data(LENGTH)).unwrap();
    let mut map = Map::new(open(&path), LENGTH, Sharing::Shared).unwrap();
    map.write(12_345, b"lazily");
    drop(map);
    let mut found = [0; 6];
    open(&path).read_exact_at(&mut found, 12_345).unwrap();
    assert_eq!(&found, b"lazily");
}
