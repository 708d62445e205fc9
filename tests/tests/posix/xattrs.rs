//! Extended attributes.

use std::{
    fs::{self, File},
    path::Path,
};

use nix::errno::Errno;
use pocket_tests::{get_xattr, list_xattr, remove_xattr, set_xattr};

claims![
    an_attribute_is_set_read_listed_and_removed,
    create_and_replace_are_obeyed,
    an_attribute_may_be_empty_or_large,
    attributes_belong_to_the_inode,
    directories_have_attributes,
];

fn an_attribute_is_set_read_listed_and_removed(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    assert_eq!(list_xattr(&path), Ok(vec![]));
    assert_eq!(get_xattr(&path, "user.a"), Err(Errno::ENODATA));
    assert_eq!(set_xattr(&path, "user.a", b"one", 0), Ok(()));
    assert_eq!(set_xattr(&path, "user.b", b"\0\xff", 0), Ok(()));
    assert_eq!(get_xattr(&path, "user.a"), Ok(b"one".to_vec()));
    assert_eq!(get_xattr(&path, "user.b"), Ok(b"\0\xff".to_vec()));
    let names = ["user.a", "user.b"].map(str::to_owned).to_vec();
    assert_eq!(list_xattr(&path), Ok(names));
    assert_eq!(set_xattr(&path, "user.a", b"changed", 0), Ok(()));
    assert_eq!(get_xattr(&path, "user.a"), Ok(b"changed".to_vec()));
    assert_eq!(remove_xattr(&path, "user.a"), Ok(()));
    assert_eq!(remove_xattr(&path, "user.a"), Err(Errno::ENODATA));
    assert_eq!(list_xattr(&path), Ok(vec!["user.b".to_owned()]));
}

fn create_and_replace_are_obeyed(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    let (create, replace) = (libc::XATTR_CREATE, libc::XATTR_REPLACE);
    assert_eq!(
        set_xattr(&path, "user.a", b"1", replace),
        Err(Errno::ENODATA)
    );
    assert_eq!(set_xattr(&path, "user.a", b"1", create), Ok(()));
    assert_eq!(set_xattr(&path, "user.a", b"2", create), Err(Errno::EEXIST));
    assert_eq!(set_xattr(&path, "user.a", b"3", replace), Ok(()));
    assert_eq!(get_xattr(&path, "user.a"), Ok(b"3".to_vec()));
}

fn an_attribute_may_be_empty_or_large(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    let large = vec![b'x'; 60_000];
    assert_eq!(set_xattr(&path, "user.empty", b"", 0), Ok(()));
    assert_eq!(set_xattr(&path, "user.large", &large, 0), Ok(()));
    assert_eq!(get_xattr(&path, "user.empty"), Ok(vec![]));
    assert_eq!(get_xattr(&path, "user.large"), Ok(large));
    let huge = vec![b'x'; (64 << 10) + 1];
    assert_eq!(set_xattr(&path, "user.huge", &huge, 0), Err(Errno::E2BIG));
    let long = format!("user.{}", "n".repeat(250));
    assert_eq!(set_xattr(&path, &long, b"1", 0), Ok(()));
    let longer = format!("{long}n");
    assert_eq!(set_xattr(&path, &longer, b"1", 0), Err(Errno::ERANGE));
}

fn attributes_belong_to_the_inode(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    set_xattr(&path, "user.a", b"value", 0).unwrap();
    fs::hard_link(&path, root.join("g")).unwrap();
    fs::rename(&path, root.join("h")).unwrap();
    for name in ["g", "h"] {
        assert_eq!(get_xattr(&root.join(name), "user.a"), Ok(b"value".to_vec()));
    }
}

fn directories_have_attributes(root: &Path) {
    let path = root.join("d");
    fs::create_dir(&path).unwrap();
    set_xattr(&path, "user.a", b"value", 0).unwrap();
    assert_eq!(get_xattr(&path, "user.a"), Ok(b"value".to_vec()));
    std::os::unix::fs::symlink("d", root.join("l")).unwrap();
    let on_link = set_xattr(&root.join("l"), "user.a", b"value", 0);
    assert_eq!(
        on_link,
        Err(Errno::EPERM),
        "users' attributes are not for symlinks"
    );
}
