//! Extended attributes.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use nix::errno::Errno;
use pocket_tests::{
    get_xattr, get_xattr_into, is_root, list_xattr, list_xattr_into, remove_xattr, set_xattr,
};

use crate::{shell, shell_as};

claims![
    an_attribute_is_set_read_listed_and_removed,
    create_and_replace_are_obeyed,
    an_attribute_may_be_empty_or_large,
    attributes_belong_to_the_inode,
    directories_have_attributes,
    several_values_may_be_as_large_as_can_be,
    too_small_a_buffer_is_erange,
    a_list_longer_than_the_kernel_passes_on_is_e2big,
    a_name_without_a_namespace_is_refused,
    to_create_and_to_replace_at_once_fails,
    users_attributes_are_for_files_and_directories,
    trusted_attributes_are_for_the_privileged,
    security_attributes_are_read_by_all_and_set_by_the_privileged,
    a_write_takes_a_files_capabilities_away,
    capabilities_set_behind_a_write_stay,
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

fn several_values_may_be_as_large_as_can_be(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    for (name, byte) in [("user.a", 1), ("user.b", 2), ("user.c", 3)] {
        let value = vec![byte; 64 << 10];
        assert_eq!(set_xattr(&path, name, &value, 0), Ok(()));
        assert_eq!(get_xattr(&path, name), Ok(value));
    }
    assert_eq!(list_xattr(&path).map(|names| names.len()), Ok(3));
}

fn too_small_a_buffer_is_erange(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    set_xattr(&path, "user.a", b"value", 0).unwrap();
    assert_eq!(get_xattr_into(&path, "user.a", 4), Err(Errno::ERANGE));
    assert_eq!(get_xattr_into(&path, "user.a", 5), Ok(5));
    assert_eq!(get_xattr_into(&path, "user.a", 0), Ok(5));
    assert_eq!(get_xattr_into(&path, "user.b", 0), Err(Errno::ENODATA));
    assert_eq!(list_xattr_into(&path, 6), Err(Errno::ERANGE));
    assert_eq!(list_xattr_into(&path, 7), Ok(7));
    assert_eq!(list_xattr_into(&path, 0), Ok(7));
}

fn a_list_longer_than_the_kernel_passes_on_is_e2big(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    // 256 bytes each, with its NUL.
    let name = |index: usize| format!("user.{index:0>250}");
    for index in 0..256 {
        set_xattr(&path, &name(index), b"", 0).unwrap();
    }
    assert_eq!(list_xattr(&path).map(|names| names.len()), Ok(256));
    set_xattr(&path, &name(256), b"", 0).unwrap();
    assert_eq!(list_xattr(&path), Err(Errno::E2BIG));
    assert_eq!(get_xattr(&path, &name(256)), Ok(vec![]));
    remove_xattr(&path, &name(0)).unwrap();
    assert_eq!(list_xattr(&path).map(|names| names.len()), Ok(256));
}

fn a_name_without_a_namespace_is_refused(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    for name in ["plain", "other.name", "user", "system.other"] {
        assert_eq!(set_xattr(&path, name, b"1", 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(get_xattr(&path, name), Err(Errno::EOPNOTSUPP), "{name}");
        assert_eq!(remove_xattr(&path, name), Err(Errno::EOPNOTSUPP), "{name}");
    }
    assert_eq!(set_xattr(&path, "user.", b"1", 0), Err(Errno::EINVAL));
    assert_eq!(set_xattr(&path, "", b"1", 0), Err(Errno::ERANGE));
}

fn to_create_and_to_replace_at_once_fails(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    let both = libc::XATTR_CREATE | libc::XATTR_REPLACE;
    assert_eq!(set_xattr(&path, "user.a", b"1", both), Err(Errno::ENODATA));
    set_xattr(&path, "user.a", b"1", 0).unwrap();
    assert_eq!(set_xattr(&path, "user.a", b"2", both), Err(Errno::EEXIST));
    assert_eq!(set_xattr(&path, "user.a", b"2", 4), Err(Errno::EINVAL));
    assert_eq!(get_xattr(&path, "user.a"), Ok(b"1".to_vec()));
}

fn users_attributes_are_for_files_and_directories(root: &Path) {
    shell(root, "mkfifo fifo; ln -s fifo link");
    for name in ["fifo", "link"] {
        let path = root.join(name);
        assert_eq!(set_xattr(&path, "user.a", b"1", 0), Err(Errno::EPERM));
        assert_eq!(get_xattr(&path, "user.a"), Err(Errno::ENODATA));
        if is_root() {
            assert_eq!(set_xattr(&path, "trusted.a", b"1", 0), Ok(()));
            assert_eq!(list_xattr(&path), Ok(vec!["trusted.a".to_owned()]));
        }
    }
}

/// What a shell of another user says; whether it succeeded comes first.
fn as_other(root: &Path, script: &str) -> (bool, String) {
    let output = shell_as(root, script, Some(4242));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

fn trusted_attributes_are_for_the_privileged(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    if !is_root() {
        let refused = set_xattr(&path, "trusted.a", b"1", 0);
        return assert_eq!(refused, Err(Errno::EPERM));
    }
    shell(root, "chmod 777 . f");
    set_xattr(&path, "trusted.a", b"secret", 0).unwrap();
    set_xattr(&path, "user.a", b"plain", 0).unwrap();
    assert_eq!(get_xattr(&path, "trusted.a"), Ok(b"secret".to_vec()));
    let both = ["trusted.a", "user.a"].map(str::to_owned).to_vec();
    assert_eq!(list_xattr(&path), Ok(both));
    let (_, shown) = as_other(root, "getfattr -d -m - f");
    assert!(
        shown.contains("user.a=\"plain\"") && !shown.contains("trusted"),
        "{shown}"
    );
    assert!(!as_other(root, "getfattr -n trusted.a f").0);
    assert!(!as_other(root, "setfattr -n trusted.a -v 1 f").0);
    assert!(!as_other(root, "setfattr -x trusted.a f").0);
    assert_eq!(get_xattr(&path, "trusted.a"), Ok(b"secret".to_vec()));
}

fn security_attributes_are_read_by_all_and_set_by_the_privileged(root: &Path) {
    let path = root.join("f");
    File::create(&path).unwrap();
    if !is_root() {
        let refused = set_xattr(&path, "security.a", b"1", 0);
        return assert_eq!(refused, Err(Errno::EPERM));
    }
    shell(root, "chmod 777 . f");
    set_xattr(&path, "security.a", b"label", 0).unwrap();
    let (_, shown) = as_other(root, "getfattr --only-values -n security.a f");
    assert_eq!(shown, "label");
    assert!(!as_other(root, "setfattr -n security.a -v 1 f").0);
    assert_eq!(get_xattr(&path, "security.a"), Ok(b"label".to_vec()));
}

/// struct vfs_cap_data of revision 2, effective, of CAP_NET_RAW alone (linux/capability.h).
fn net_raw() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn a_write_takes_a_files_capabilities_away(root: &Path) {
    if !is_root() {
        return;
    }
    let path = root.join("f");
    let capability = "security.capability";
    let change: [&dyn Fn(); 3] = [
        &|| {
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .write_all_at(b"x", 0)
                .unwrap()
        },
        &|| {
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(1)
                .unwrap()
        },
        &|| std::os::unix::fs::chown(&path, Some(4242), None).unwrap(),
    ];
    for change in change {
        fs::write(&path, "data").unwrap();
        set_xattr(&path, capability, &net_raw(), 0).unwrap();
        assert_eq!(get_xattr(&path, capability), Ok(net_raw()));
        change();
        assert_eq!(get_xattr(&path, capability), Err(Errno::ENODATA));
    }
}

fn capabilities_set_behind_a_write_stay(root: &Path) {
    if !is_root() {
        return;
    }
    let path = root.join("f");
    let file = File::create(&path).unwrap();
    file.write_all_at(b"program", 0).unwrap();
    set_xattr(&path, "security.capability", &net_raw(), 0).unwrap();
    drop(file);
    assert_eq!(get_xattr(&path, "security.capability"), Ok(net_raw()));
}
