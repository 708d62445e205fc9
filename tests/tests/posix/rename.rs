//! rename(2) and renameat2(2).

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

use crate::errno;

claims![
    rename_moves_a_file_with_its_inode,
    rename_replaces_a_file,
    rename_over_an_open_file_keeps_its_data_for_who_has_it_open,
    rename_replaces_an_empty_directory_only,
    rename_keeps_kinds_apart,
    rename_refuses_to_put_a_directory_into_itself,
    rename_of_links_to_one_inode_does_nothing,
    rename_of_a_directory_takes_its_tree_along,
    rename_without_replacing_refuses_a_taken_name,
    rename_exchanges_two_names_of_any_kind,
    rename_leaves_a_whiteout_where_it_is_asked_to,
    rename_leaves_no_whiteout_where_it_fails,
];

fn rename_moves_a_file_with_its_inode(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("a"), "data").unwrap();
    let inode = fs::metadata(root.join("a")).unwrap().ino();
    fs::rename(root.join("a"), root.join("d/b")).unwrap();
    assert_eq!(errno(fs::metadata(root.join("a"))), Errno::ENOENT);
    assert_eq!(fs::metadata(root.join("d/b")).unwrap().ino(), inode);
    assert_eq!(fs::read(root.join("d/b")).unwrap(), b"data");
    let missing = fs::rename(root.join("a"), root.join("c"));
    assert_eq!(errno(missing), Errno::ENOENT);
}

fn rename_replaces_a_file(root: &Path) {
    fs::write(root.join("new"), "new").unwrap();
    fs::write(root.join("old"), "old data").unwrap();
    fs::rename(root.join("new"), root.join("old")).unwrap();
    assert_eq!(fs::read(root.join("old")).unwrap(), b"new");
    assert_eq!(fs::read_dir(root).unwrap().count(), 1);
}

fn rename_over_an_open_file_keeps_its_data_for_who_has_it_open(root: &Path) {
    fs::write(root.join("old"), "old data").unwrap();
    fs::write(root.join("new"), "new").unwrap();
    let mut open = File::open(root.join("old")).unwrap();
    fs::rename(root.join("new"), root.join("old")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    let mut data = String::new();
    open.read_to_string(&mut data).unwrap();
    assert_eq!(data, "old data");
    assert_eq!(fs::read(root.join("old")).unwrap(), b"new");
}

fn rename_replaces_an_empty_directory_only(root: &Path) {
    for name in ["a", "b", "full"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    File::create(root.join("a/f")).unwrap();
    File::create(root.join("full/g")).unwrap();
    let onto_full = fs::rename(root.join("a"), root.join("full"));
    assert_eq!(errno(onto_full), Errno::ENOTEMPTY);
    fs::rename(root.join("a"), root.join("b")).unwrap();
    assert!(root.join("b/f").exists());
    assert!(!root.join("a").exists());
}

fn rename_keeps_kinds_apart(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    File::create(root.join("f")).unwrap();
    let file_onto_directory = fs::rename(root.join("f"), root.join("d"));
    assert_eq!(errno(file_onto_directory), Errno::EISDIR);
    let directory_onto_file = fs::rename(root.join("d"), root.join("f"));
    assert_eq!(errno(directory_onto_file), Errno::ENOTDIR);
}

fn rename_refuses_to_put_a_directory_into_itself(root: &Path) {
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    for target in ["a/x", "a/b/x", "a/b/c/x"] {
        let renamed = fs::rename(root.join("a"), root.join(target));
        assert_eq!(errno(renamed), Errno::EINVAL, "{target}");
    }
    fs::rename(root.join("a/b"), root.join("b")).unwrap();
    fs::rename(root.join("a"), root.join("b/c/a")).unwrap();
    assert!(root.join("b/c/a").is_dir());
}

fn rename_of_links_to_one_inode_does_nothing(root: &Path) {
    fs::write(root.join("a"), "data").unwrap();
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    fs::rename(root.join("a"), root.join("b")).unwrap();
    assert!(root.join("a").exists() && root.join("b").exists());
    assert_eq!(fs::metadata(root.join("a")).unwrap().nlink(), 2);
}

fn rename_of_a_directory_takes_its_tree_along(root: &Path) {
    fs::create_dir_all(root.join("from/a/b")).unwrap();
    fs::write(root.join("from/a/b/f"), "deep").unwrap();
    fs::create_dir(root.join("other")).unwrap();
    fs::rename(root.join("from"), root.join("other/to")).unwrap();
    assert_eq!(fs::read(root.join("other/to/a/b/f")).unwrap(), b"deep");
    let up = fs::canonicalize(root.join("other/to/..")).unwrap();
    assert_eq!(up, fs::canonicalize(root.join("other")).unwrap());
}

fn rename_without_replacing_refuses_a_taken_name(root: &Path) {
    fs::write(root.join("a"), "a").unwrap();
    fs::write(root.join("b"), "b").unwrap();
    let rename = |from: &str, to: &str| {
        let (from, to) = (root.join(from), root.join(to));
        renameat2(
            AT_FDCWD,
            &from,
            AT_FDCWD,
            &to,
            RenameFlags::RENAME_NOREPLACE,
        )
    };
    assert_eq!(rename("a", "b"), Err(Errno::EEXIST));
    assert_eq!(fs::read(root.join("b")).unwrap(), b"b");
    assert_eq!(rename("a", "c"), Ok(()));
    assert_eq!(fs::read(root.join("c")).unwrap(), b"a");
}

fn rename_exchanges_two_names_of_any_kind(root: &Path) {
    fs::write(root.join("f"), "file").unwrap();
    fs::create_dir_all(root.join("x/d")).unwrap();
    fs::write(root.join("x/d/inner"), "").unwrap();
    let exchange = |one: &str, other: &str| {
        let (one, other) = (root.join(one), root.join(other));
        renameat2(
            AT_FDCWD,
            &one,
            AT_FDCWD,
            &other,
            RenameFlags::RENAME_EXCHANGE,
        )
    };
    assert_eq!(exchange("f", "x/d"), Ok(()));
    assert!(root.join("f/inner").exists());
    assert_eq!(fs::read(root.join("x/d")).unwrap(), b"file");
    assert_eq!(fs::metadata(root.join("x")).unwrap().nlink(), 2);
    assert_eq!(exchange("f", "missing"), Err(Errno::ENOENT));
}

fn rename_leaves_a_whiteout_where_it_is_asked_to(root: &Path) {
    let whiteout = RenameFlags::RENAME_WHITEOUT;
    for name in ["a", "over"] {
        fs::write(root.join(name), name).unwrap();
    }
    fs::create_dir_all(root.join("d/below")).unwrap();
    fs::create_dir(root.join("e")).unwrap();
    let rename = |from: &str, to: &str, flags| {
        let (from, to) = (root.join(from), root.join(to));
        renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags)
    };
    rename("a", "over", whiteout).unwrap();
    rename("over", "e/free", whiteout | RenameFlags::RENAME_NOREPLACE).unwrap();
    rename("d", "e/d", whiteout).unwrap();
    assert_eq!(fs::read(root.join("e/free")).unwrap(), b"a");
    assert!(root.join("e/d/below").is_dir());
    for name in ["a", "over", "d"] {
        let status = fs::symlink_metadata(root.join(name)).unwrap();
        assert!(status.file_type().is_char_device(), "{name}");
        assert_eq!((status.rdev(), status.mode() & 0o7777), (0, 0), "{name}");
        assert_eq!(status.nlink(), 1);
    }
    assert_eq!(fs::metadata(root).unwrap().nlink(), 3, "d has moved");
    assert_eq!(fs::read_dir(root).unwrap().count(), 4);
    // A whiteout is a node as any other.
    rename("a", "over", RenameFlags::empty()).unwrap();
    fs::remove_file(root.join("over")).unwrap();
    fs::remove_file(root.join("d")).unwrap();
    assert_eq!(fs::read_dir(root).unwrap().count(), 1);
}

fn rename_leaves_no_whiteout_where_it_fails(root: &Path) {
    let whiteout = RenameFlags::RENAME_WHITEOUT;
    fs::write(root.join("a"), "a").unwrap();
    fs::write(root.join("b"), "b").unwrap();
    fs::hard_link(root.join("a"), root.join("same")).unwrap();
    let rename = |from: &str, to: &str, flags| {
        let (from, to) = (root.join(from), root.join(to));
        renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags)
    };
    let kept = rename("a", "b", whiteout | RenameFlags::RENAME_NOREPLACE);
    assert_eq!(kept, Err(Errno::EEXIST));
    let exchanged = rename("a", "b", whiteout | RenameFlags::RENAME_EXCHANGE);
    assert_eq!(exchanged, Err(Errno::EINVAL));
    assert_eq!(rename("none", "b", whiteout), Err(Errno::ENOENT));
    // Two names of one file: nothing happens.
    assert_eq!(rename("a", "same", whiteout), Ok(()));
    assert_eq!(fs::read(root.join("a")).unwrap(), b"a");
    assert_eq!(fs::read_dir(root).unwrap().count(), 3);
}
