//! Hard links and symlinks.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use crate::errno;

claims![
    a_hard_link_is_the_same_file,
    unlinking_one_name_keeps_the_others,
    a_directory_has_no_second_name,
    link_refuses_a_taken_name,
    a_symlink_is_followed_and_read,
    a_dangling_symlink_is_there_and_leads_nowhere,
    a_loop_of_symlinks_is_an_error,
    a_symlink_may_be_as_long_as_a_path,
    a_symlink_counts_its_targets_bytes,
];

fn a_hard_link_is_the_same_file(root: &Path) {
    fs::write(root.join("a"), "one").unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    let (a, b) = (fs::metadata(root.join("a")), fs::metadata(root.join("b")));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::write(root.join("b"), "changed").unwrap();
    assert_eq!(fs::read(root.join("a")).unwrap(), b"changed");
}

fn unlinking_one_name_keeps_the_others(root: &Path) {
    fs::write(root.join("a"), "data").unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    fs::remove_file(root.join("a")).unwrap();
    assert_eq!(fs::read(root.join("b")).unwrap(), b"data");
    assert_eq!(fs::metadata(root.join("b")).unwrap().nlink(), 1);
}

fn a_directory_has_no_second_name(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    let linked = fs::hard_link(root.join("d"), root.join("e"));
    assert_eq!(errno(linked), Errno::EPERM);
}

fn link_refuses_a_taken_name(root: &Path) {
    File::create(root.join("a")).unwrap();
    File::create(root.join("b")).unwrap();
    let linked = fs::hard_link(root.join("a"), root.join("b"));
    assert_eq!(errno(linked), Errno::EEXIST);
    assert_eq!(fs::metadata(root.join("a")).unwrap().nlink(), 1);
}

fn a_symlink_is_followed_and_read(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "data").unwrap();
    symlink("d/f", root.join("l")).unwrap();
    symlink("d", root.join("e")).unwrap();
    assert_eq!(fs::read(root.join("l")).unwrap(), b"data");
    assert_eq!(fs::read(root.join("e/f")).unwrap(), b"data");
    assert_eq!(fs::read_link(root.join("l")).unwrap(), PathBuf::from("d/f"));
    let not_a_link = fs::read_link(root.join("d/f"));
    assert_eq!(errno(not_a_link), Errno::EINVAL);
    assert_eq!(errno(symlink("x", root.join("l"))), Errno::EEXIST);
}

fn a_dangling_symlink_is_there_and_leads_nowhere(root: &Path) {
    symlink("missing", root.join("l")).unwrap();
    assert!(fs::symlink_metadata(root.join("l")).unwrap().is_symlink());
    assert_eq!(errno(File::open(root.join("l"))), Errno::ENOENT);
    fs::write(root.join("l"), "made through the link").unwrap();
    assert!(root.join("missing").is_file());
}

fn a_loop_of_symlinks_is_an_error(root: &Path) {
    symlink("b", root.join("a")).unwrap();
    symlink("a", root.join("b")).unwrap();
    assert_eq!(errno(fs::metadata(root.join("a"))), Errno::ELOOP);
    assert_eq!(errno(File::create(root.join("a/f"))), Errno::ELOOP);
}

fn a_symlink_may_be_as_long_as_a_path(root: &Path) {
    let longest = "x/".repeat(2047) + "x";
    symlink(&longest, root.join("l")).unwrap();
    assert_eq!(
        fs::read_link(root.join("l")).unwrap(),
        PathBuf::from(&longest)
    );
    let longer = symlink(longest + "y", root.join("m"));
    assert_eq!(errno(longer), Errno::ENAMETOOLONG);
}

fn a_symlink_counts_its_targets_bytes(root: &Path) {
    symlink("twelve bytes", root.join("l")).unwrap();
    let status = fs::symlink_metadata(root.join("l")).unwrap();
    assert_eq!((status.size(), status.mode() & 0o777), (12, 0o777));
}
