//! How long, how many, how large.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use crate::errno;

claims![
    names_of_255_bytes_in_any_encoding_work,
    a_name_of_256_bytes_is_too_long,
    paths_of_path_max_work,
    a_sparse_file_of_50_gb_works,
    a_file_reaches_to_the_largest_offset,
    a_directory_holds_100_000_files,
];

fn names_of_255_bytes_in_any_encoding_work(root: &Path) {
    let every_byte: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let names = [
        vec![b'n'; 255],
        vec![0xff; 255],
        every_byte,
        "é".repeat(127).into_bytes(),
        b"new\nline \\ \" ' * ?".to_vec(),
        b"-rf".to_vec(),
        b"...".to_vec(),
    ];
    for name in &names {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let found: HashSet<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .collect();
    assert_eq!(found, names.iter().cloned().collect());
    for name in &names {
        let path = root.join(OsStr::from_bytes(name));
        assert_eq!(&fs::read(&path).unwrap(), name);
        fs::remove_file(path).unwrap();
    }
}

fn a_name_of_256_bytes_is_too_long(root: &Path) {
    let folder = root.join("folder");
    fs::create_dir(&folder).unwrap();
    for root in [root, &folder] {
        let long = root.join("n".repeat(256));
        assert_eq!(errno(fs::metadata(&long)), Errno::ENAMETOOLONG);
        assert_eq!(errno(File::create(&long)), Errno::ENAMETOOLONG);
        assert_eq!(errno(fs::remove_file(&long)), Errno::ENAMETOOLONG);
        File::create(root.join("f")).unwrap();
        let renamed = fs::rename(root.join("f"), &long);
        assert_eq!(errno(renamed), Errno::ENAMETOOLONG);
    }
}

fn paths_of_path_max_work(root: &Path) {
    // 4095 bytes and the NUL; the last name takes what is left.
    let mut path = root.as_os_str().as_bytes().to_vec();
    while path.len() < 4095 - 205 {
        path.extend_from_slice(b"/");
        path.extend_from_slice(&[b'd'; 199]);
        fs::create_dir(PathBuf::from(OsStr::from_bytes(&path))).unwrap();
    }
    path.push(b'/');
    path.resize(4095, b'f');
    let longest = PathBuf::from(OsStr::from_bytes(&path));
    fs::write(&longest, "deep").unwrap();
    assert_eq!(fs::read(&longest).unwrap(), b"deep");
    path.push(b'f');
    let longer = PathBuf::from(OsStr::from_bytes(&path));
    assert_eq!(errno(File::create(longer)), Errno::ENAMETOOLONG);
}

fn a_sparse_file_of_50_gb_works(root: &Path) {
    const SIZE: u64 = 50_000_000_000;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(root.join("f"))
        .unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"last", SIZE - 4).unwrap();
    file.write_all_at(b"middle", SIZE / 2).unwrap();
    file.sync_all().unwrap();
    let status = fs::metadata(root.join("f")).unwrap();
    assert_eq!(status.len(), SIZE);
    assert!(status.blocks() * 512 < 16 << 20);
    let mut found = [1; 10];
    file.read_exact_at(&mut found, SIZE - 10).unwrap();
    assert_eq!(&found, b"\0\0\0\0\0\0last");
    file.read_exact_at(&mut found, SIZE / 4).unwrap();
    assert_eq!(found, [0; 10]);
    file.set_len(10).unwrap();
    file.set_len(SIZE).unwrap();
    file.read_exact_at(&mut found, SIZE / 2).unwrap();
    assert_eq!(found, [0; 10]);
}

fn a_file_reaches_to_the_largest_offset(root: &Path) {
    const LARGEST: u64 = i64::MAX as u64;
    let mut options = File::options();
    options.read(true).write(true).create(true);
    let file = options.open(root.join("f")).unwrap();
    file.write_all_at(b"last", LARGEST - 4).unwrap();
    assert_eq!(file.metadata().unwrap().len(), LARGEST);
    assert!(file.metadata().unwrap().blocks() < 10_000);
    let mut read = [1; 8];
    file.read_exact_at(&mut read, LARGEST - 8).unwrap();
    assert_eq!(&read, b"\0\0\0\0last");
    file.set_len(LARGEST - 2).unwrap();
    file.set_len(LARGEST).unwrap();
    file.read_exact_at(&mut read, LARGEST - 8).unwrap();
    assert_eq!(&read, b"\0\0\0\0la\0\0");
    file.set_len(1).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1);
}

fn a_directory_holds_100_000_files(root: &Path) {
    const FILES: usize = 100_000;
    let folder = root.join("many");
    fs::create_dir(&folder).unwrap();
    for index in 0..FILES {
        File::create(folder.join(index.to_string())).unwrap();
    }
    let names: HashSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), FILES);
    assert!(folder.join("99999").exists() && !folder.join("100000").exists());
    fs::remove_dir_all(&folder).unwrap();
    assert!(!folder.exists());
}
