//! Files without a name that are still open.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use nix::errno::Errno;

use crate::{data, errno};

claims![
    an_unlinked_file_is_read_and_written_while_open,
    an_unlinked_file_leaves_no_trace_in_its_directory,
    a_new_file_of_the_same_name_is_another_file,
    an_unlinked_file_is_cut_and_described,
];

fn an_unlinked_file_is_read_and_written_while_open(root: &Path) {
    let path = root.join("f");
    let expected = data(3 << 20);
    fs::write(&path, &expected).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(errno(File::open(&path)), Errno::ENOENT);
    let mut found = vec![0; expected.len()];
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found == expected);
    file.write_all_at(b"more", 5 << 20).unwrap();
    let mut found = [0; 4];
    file.read_exact_at(&mut found, 5 << 20).unwrap();
    assert_eq!(&found, b"more");
    file.sync_all().unwrap();
}

fn an_unlinked_file_leaves_no_trace_in_its_directory(root: &Path) {
    let folder = root.join("d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("f"), "data").unwrap();
    let file = File::open(folder.join("f")).unwrap();
    fs::remove_file(folder.join("f")).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    fs::remove_dir(&folder).unwrap();
    let mut found = [0; 4];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"data");
}

fn a_new_file_of_the_same_name_is_another_file(root: &Path) {
    let path = root.join("f");
    fs::write(&path, "old").unwrap();
    let old = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "new data").unwrap();
    assert_ne!(
        old.metadata().unwrap().ino(),
        fs::metadata(&path).unwrap().ino()
    );
    let mut found = [0; 3];
    old.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"old");
    assert_eq!(fs::read(&path).unwrap(), b"new data");
}

fn an_unlinked_file_is_cut_and_described(root: &Path) {
    let path = root.join("f");
    let file = File::create(&path).unwrap();
    file.write_all_at(&data(10_000), 0).unwrap();
    fs::remove_file(&path).unwrap();
    file.set_len(5).unwrap();
    let status = file.metadata().unwrap();
    assert_eq!((status.len(), status.nlink()), (5, 0));
}
