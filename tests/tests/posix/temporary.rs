//! Files that are made without a name (O_TMPFILE).

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{Gid, chown, linkat},
};

use crate::{data, errno};

claims![
    a_file_without_a_name_is_written_and_read,
    a_file_without_a_name_is_linked_by_its_descriptor,
    a_name_that_is_taken_leaves_the_file_without_one,
    an_unlinked_file_gets_no_new_name,
    a_file_made_with_o_excl_never_gets_a_name,
    a_file_without_a_name_takes_the_directorys_group,
    a_file_without_a_name_is_made_for_writing_in_a_directory_that_is_there,
];

/// Opens a file without a name in `folder`; `flags` besides O_TMPFILE.
pub(crate) fn unnamed(folder: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o666)
        .custom_flags(libc::O_TMPFILE | flags)
        .open(folder)
}

/// As open(2) advises whoever has no privilege.
pub(crate) fn link(file: &File, path: &Path) -> nix::Result<()> {
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    linkat(AT_FDCWD, descriptor.as_str(), AT_FDCWD, path, follow)
}

fn a_file_without_a_name_is_written_and_read(root: &Path) {
    let file = unnamed(root, 0).unwrap();
    let expected = data(3 << 20);
    file.write_all_at(&expected, 0).unwrap();
    file.sync_all().unwrap();
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let mut found = vec![0; expected.len()];
    again.read_exact_at(&mut found, 0).unwrap();
    assert!(found == expected);
    file.set_len(5).unwrap();
    let status = file.metadata().unwrap();
    assert_eq!((status.len(), status.nlink()), (5, 0));
    assert_eq!(status.permissions().mode() & 0o7777, 0o644, "the umask");
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

fn a_file_without_a_name_is_linked_by_its_descriptor(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    let expected = data(200_000);
    let file = unnamed(root, 0).unwrap();
    file.write_all_at(&expected, 0).unwrap();
    let (followed, direct) = (root.join("d/followed"), root.join("direct"));
    link(&file, &followed).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 1);
    linkat(&file, "", AT_FDCWD, &direct, AtFlags::AT_EMPTY_PATH).unwrap();
    file.write_all_at(b"later", 0).unwrap();
    for path in [&followed, &direct] {
        let status = fs::metadata(path).unwrap();
        assert_eq!((status.nlink(), status.len()), (2, 200_000));
        assert_eq!(status.ino(), file.metadata().unwrap().ino());
    }
    drop(file);
    let found = fs::read(&direct).unwrap();
    assert!(found[..5] == *b"later" && found[5..] == expected[5..]);
}

fn a_name_that_is_taken_leaves_the_file_without_one(root: &Path) {
    fs::write(root.join("taken"), "old").unwrap();
    let file = unnamed(root, 0).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    assert_eq!(link(&file, &root.join("taken")), Err(Errno::EEXIST));
    assert_eq!(fs::read(root.join("taken")).unwrap(), b"old");
    link(&file, &root.join("free")).unwrap();
    assert_eq!(fs::read(root.join("free")).unwrap(), b"new");
}

fn an_unlinked_file_gets_no_new_name(root: &Path) {
    let named = File::create(root.join("f")).unwrap();
    let linked = unnamed(root, 0).unwrap();
    link(&linked, &root.join("g")).unwrap();
    for (file, name) in [(named, "f"), (linked, "g")] {
        file.write_all_at(b"data", 0).unwrap();
        fs::remove_file(root.join(name)).unwrap();
        let again = root.join("again");
        assert_eq!(link(&file, &again), Err(Errno::ENOENT));
        let direct = linkat(&file, "", AT_FDCWD, &again, AtFlags::AT_EMPTY_PATH);
        assert_eq!(direct, Err(Errno::ENOENT));
        file.write_all_at(b"more", 4).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8);
    }
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

fn a_file_made_with_o_excl_never_gets_a_name(root: &Path) {
    let file = unnamed(root, libc::O_EXCL).unwrap();
    file.write_all_at(b"data", 0).unwrap();
    assert_eq!(link(&file, &root.join("f")), Err(Errno::ENOENT));
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
}

fn a_file_without_a_name_takes_the_directorys_group(root: &Path) {
    if !pocket_tests::is_root() {
        return;
    }
    let folder = root.join("d");
    fs::create_dir(&folder).unwrap();
    chown(&folder, None, Some(Gid::from_raw(4242))).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o2755)).unwrap();
    let file = unnamed(&folder, 0).unwrap();
    assert_eq!(file.metadata().unwrap().gid(), 4242);
    link(&file, &folder.join("f")).unwrap();
    assert_eq!(fs::metadata(folder.join("f")).unwrap().gid(), 4242);
}

fn a_file_without_a_name_is_made_for_writing_in_a_directory_that_is_there(root: &Path) {
    let to_read = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_TMPFILE)
        .open(root);
    assert_eq!(errno(to_read), Errno::EINVAL);
    File::create(root.join("f")).unwrap();
    assert_eq!(errno(unnamed(&root.join("f"), 0)), Errno::ENOTDIR);
    assert_eq!(errno(unnamed(&root.join("none"), 0)), Errno::ENOENT);
}
