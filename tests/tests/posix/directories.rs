//! Directories: making, removing and reading them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};
use pocket_tests::read_entries;

use crate::errno;

claims![
    a_new_directory_is_empty_and_has_two_links,
    a_subdirectory_is_a_link_to_its_parent,
    mkdir_refuses_a_name_that_is_taken,
    rmdir_refuses_what_is_not_an_empty_directory,
    a_removed_directory_takes_no_more_names,
    a_file_is_no_directory_on_a_path,
    readdir_tells_each_of_many_names_once,
    readdir_tells_kinds_and_inodes,
    an_offset_of_a_directory_outlives_removals_before_it,
    removing_while_reading_leaves_nothing,
    renaming_while_reading_meets_each_file_once,
    a_name_made_anew_while_reading_is_told_once,
    entries_change_the_directorys_times,
    a_new_entry_belongs_to_the_group_of_a_set_group_id_directory,
];

fn a_new_directory_is_empty_and_has_two_links(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    let status = fs::metadata(&path).unwrap();
    assert!(status.is_dir());
    assert_eq!(status.nlink(), 2);
}

fn a_subdirectory_is_a_link_to_its_parent(root: &Path) {
    let path = root.join("d");
    fs::create_dir_all(path.join("a")).unwrap();
    fs::create_dir(path.join("b")).unwrap();
    File::create(path.join("file")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 4);
    fs::remove_dir(path.join("a")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 3);
    fs::rename(path.join("b"), root.join("b")).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 2);
}

fn mkdir_refuses_a_name_that_is_taken(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    File::create(root.join("f")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("l")).unwrap();
    for name in ["d", "f", "l"] {
        assert_eq!(
            errno(fs::create_dir(root.join(name))),
            Errno::EEXIST,
            "{name}"
        );
    }
    assert_eq!(errno(fs::create_dir(root.join("missing/d"))), Errno::ENOENT);
}

fn rmdir_refuses_what_is_not_an_empty_directory(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    File::create(root.join("d/f")).unwrap();
    assert_eq!(errno(fs::remove_dir(root.join("d"))), Errno::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(root.join("d/f"))), Errno::ENOTDIR);
    assert_eq!(errno(fs::remove_file(root.join("d"))), Errno::EISDIR);
    assert_eq!(errno(fs::remove_dir(root.join("missing"))), Errno::ENOENT);
    fs::remove_file(root.join("d/f")).unwrap();
    fs::remove_dir(root.join("d")).unwrap();
    assert_eq!(errno(fs::metadata(root.join("d"))), Errno::ENOENT);
}

fn a_removed_directory_takes_no_more_names(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    let open = File::open(&path).unwrap();
    fs::remove_dir(&path).unwrap();
    let through =
        Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&open).to_string());
    assert_eq!(errno(File::create(through.join("f"))), Errno::ENOENT);
    assert_eq!(open.metadata().unwrap().nlink(), 0);
}

fn a_file_is_no_directory_on_a_path(root: &Path) {
    File::create(root.join("f")).unwrap();
    assert_eq!(errno(File::create(root.join("f/x"))), Errno::ENOTDIR);
    assert_eq!(errno(fs::metadata(root.join("f/x"))), Errno::ENOTDIR);
    assert_eq!(errno(fs::read_dir(root.join("f"))), Errno::ENOTDIR);
}

fn readdir_tells_each_of_many_names_once(root: &Path) {
    let expected: BTreeSet<_> = (0..3000).map(|index| format!("name-{index}")).collect();
    for name in &expected {
        File::create(root.join(name)).unwrap();
    }
    let found: Vec<_> = names(root);
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
}

fn readdir_tells_kinds_and_inodes(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    File::create(root.join("f")).unwrap();
    std::os::unix::fs::symlink("f", root.join("l")).unwrap();
    for entry in fs::read_dir(root).unwrap() {
        use std::os::unix::fs::DirEntryExt;
        let entry = entry.unwrap();
        let status = fs::symlink_metadata(entry.path()).unwrap();
        assert_eq!(entry.file_type().unwrap(), status.file_type());
        assert_eq!(entry.ino(), status.ino());
    }
    let raw = read_entries(File::open(root).unwrap(), 4096).unwrap();
    let told: BTreeSet<_> = raw.into_iter().map(|entry| entry.name).collect();
    let expected: [&[u8]; 5] = [b".", b"..", b"d", b"f", b"l"];
    assert_eq!(told, expected.map(<[u8]>::to_vec).into());
}

fn an_offset_of_a_directory_outlives_removals_before_it(root: &Path) {
    for index in 0..500 {
        File::create(root.join(format!("name-{index}"))).unwrap();
    }
    let directory = File::open(root).unwrap();
    let mut before = Vec::new();
    while before.len() < 200 {
        before.extend(read_entries(&directory, 1024).unwrap());
    }
    let offset = before.last().unwrap().next;
    let mut rest = rest_of(&directory);
    for entry in &before {
        let name = str::from_utf8(&entry.name).unwrap();
        if !name.starts_with('.') {
            fs::remove_file(root.join(name)).unwrap();
        }
    }
    lseek(&directory, offset, Whence::SeekSet).unwrap();
    let mut again = rest_of(&directory);
    rest.sort();
    again.sort();
    assert_eq!(again, rest);
}

fn rest_of(directory: &File) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    loop {
        let entries = read_entries(directory, 1024).unwrap();
        if entries.is_empty() {
            return names;
        }
        names.extend(entries.into_iter().map(|entry| entry.name));
    }
}

fn removing_while_reading_leaves_nothing(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    for index in 0..1000 {
        File::create(path.join(index.to_string())).unwrap();
    }
    // As rm -r does: one pass, each name removed as it comes.
    for entry in fs::read_dir(&path).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::remove_dir(&path).unwrap();
}

/// Far more than are read at once.
const FILES: usize = 2000;

fn renaming_while_reading_meets_each_file_once(root: &Path) {
    for index in 0..FILES {
        File::create(root.join(index.to_string())).unwrap();
    }
    let mut renamed = 0;
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        fs::rename(&path, path.with_extension("new")).unwrap();
        renamed += 1;
        assert!(renamed <= FILES, "{} is met again", path.display());
    }
    assert_eq!(renamed, FILES);
}

fn a_name_made_anew_while_reading_is_told_once(root: &Path) {
    for index in 0..FILES {
        File::create(root.join(index.to_string())).unwrap();
    }
    let mut told = BTreeSet::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        fs::remove_file(&path).unwrap();
        File::create(&path).unwrap();
        assert!(told.insert(path.clone()), "{} twice", path.display());
    }
    assert_eq!(told.len(), FILES);
}

fn entries_change_the_directorys_times(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    let set_old = || {
        let times = fs::FileTimes::new().set_modified(old);
        File::open(&path).unwrap().set_times(times).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), old);
    };
    let is_new = |what: &str| {
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        assert!(modified > old, "{what} left the directory's time alone");
    };
    set_old();
    File::create(path.join("f")).unwrap();
    is_new("create");
    set_old();
    fs::rename(path.join("f"), path.join("g")).unwrap();
    is_new("rename");
    set_old();
    fs::remove_file(path.join("g")).unwrap();
    is_new("unlink");
}

fn a_new_entry_belongs_to_the_group_of_a_set_group_id_directory(root: &Path) {
    if !pocket_tests::is_root() {
        return; // Only root may give a directory to a group that it is not in.
    }
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, None, Some(4321)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2775)).unwrap();
    File::create(path.join("f")).unwrap();
    fs::create_dir(path.join("sub")).unwrap();
    assert_eq!(fs::metadata(path.join("f")).unwrap().gid(), 4321);
    let sub = fs::metadata(path.join("sub")).unwrap();
    assert_eq!((sub.gid(), sub.mode() & 0o2000), (4321, 0o2000));
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect()
}
