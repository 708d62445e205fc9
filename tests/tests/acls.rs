//! Access control lists across the mounts of a job, and mounts without.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pocket_tests::{
    acl, acl_text, get_xattr, list_xattr, may, may_not, remove_xattr, set_xattr, shell_as, until,
    with_cluster, with_mount_and,
};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
/// Someone without any rights.
const ONE: u32 = 65_501;

fn on_two_mounts(claim: impl FnOnce(&Path, &Path)) {
    with_cluster(|cluster| {
        let (first, second) = (cluster.mount("lists"), cluster.mount("lists"));
        claim(first.path(), second.path());
        first.finish();
        second.finish();
    });
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn list(path: &Path, name: &str) -> Option<String> {
    let bytes = get_xattr(path, name);
    assert!(bytes.is_ok() || bytes == Err(Errno::ENODATA), "{bytes:?}");
    bytes.ok().map(|bytes| acl_text(&bytes))
}

#[test]
fn a_list_set_on_one_mount_is_obeyed_on_the_other_at_once() {
    on_two_mounts(|a, b| {
        fs::create_dir(a.join("d")).unwrap();
        fs::write(a.join("d/f"), "x").unwrap();
        let owners = fs::Permissions::from_mode(0o700);
        for round in 0..8 {
            let (setter, user) = if round % 2 == 0 { (a, b) } else { (b, a) };
            // Of the file and of the directory it is in, by turns.
            let name = if round % 4 < 2 { "d/f" } else { "d" };
            let other = if round % 4 < 2 { "d" } else { "d/f" };
            fs::set_permissions(setter.join(other), fs::Permissions::from_mode(0o777)).unwrap();
            remove_xattr(&setter.join(name), ACCESS).unwrap();
            fs::set_permissions(setter.join(name), owners.clone()).unwrap();
            may_not(user, ONE, "cat d/f");
            assert_eq!(list(&user.join(name), ACCESS), None);
            let text = format!("u::rwx,u:{ONE}:rwx,g::---,m::rwx,o::---");
            set_xattr(&setter.join(name), ACCESS, &acl(&text), 0).unwrap();
            assert_eq!(list(&user.join(name), ACCESS), Some(text), "round {round}");
            may(user, ONE, "cat d/f; echo x > d/f");
            assert_eq!(mode(&user.join(name)), 0o770);
            fs::set_permissions(setter.join(name), owners.clone()).unwrap();
            may_not(user, ONE, "cat d/f");
        }
    });
}

#[test]
fn a_list_that_was_read_long_ago_is_read_anew() {
    on_two_mounts(|a, b| {
        fs::create_dir(a.join("d")).unwrap();
        for bits in ["rwx", "r-x", "--x"] {
            let text = format!("u::rwx,u:{ONE}:{bits},g::r-x,m::rwx,o::---");
            set_xattr(&a.join("d"), ACCESS, &acl(&text), 0).unwrap();
            assert_eq!(list(&b.join("d"), ACCESS), Some(text));
            // Attributes of a directory are leased for a second; what lapses is not recalled.
            let read = Instant::now();
            let lapsed = || read.elapsed() > Duration::from_millis(1500);
            until(Duration::from_secs(5), "the lease to lapse", lapsed);
        }
    });
}

#[test]
fn a_default_list_set_on_one_mount_counts_on_the_other_at_once() {
    on_two_mounts(|a, b| {
        let make = |mount: &Path, name: &str| {
            let script = format!("umask 027; echo x > d/{name}; mkdir d/{name}.d");
            assert!(shell_as(mount, &script, None).status.success());
        };
        fs::create_dir(a.join("d")).unwrap();
        for round in 0..6 {
            let (setter, maker) = if round % 2 == 0 { (b, a) } else { (a, b) };
            // The maker has the directory to itself, perhaps.
            for number in 0..5 {
                make(maker, &format!("{round}.{number}"));
            }
            let text = "u::rwx,u:10:r-x,g::rwx,m::rwx,o::---";
            set_xattr(&setter.join("d"), DEFAULT, &acl(text), 0).unwrap();
            make(maker, &format!("{round}.with"));
            remove_xattr(&setter.join("d"), DEFAULT).unwrap();
            make(maker, &format!("{round}.without"));
            for mount in [a, b] {
                let at = |name: &str| mount.join("d").join(format!("{round}.{name}"));
                let file = "u::rw-,u:10:r-x,g::rwx,m::rw-,o::---";
                assert_eq!(list(&at("with"), ACCESS).as_deref(), Some(file));
                assert_eq!(list(&at("with.d"), DEFAULT).as_deref(), Some(text));
                assert_eq!((mode(&at("with")), mode(&at("with.d"))), (0o660, 0o770));
                assert_eq!(list(&at("without"), ACCESS), None);
                let without = (mode(&at("without")), mode(&at("without.d")));
                assert_eq!(without, (0o640, 0o750));
            }
        }
    });
}

#[test]
fn what_many_files_inherit_is_the_same_on_every_mount() {
    on_two_mounts(|a, b| {
        fs::create_dir(a.join("d")).unwrap();
        let text = "u::rwx,u:10:r-x,g::rwx,g:20:rw-,m::rwx,o::---";
        set_xattr(&a.join("d"), DEFAULT, &acl(text), 0).unwrap();
        let script = "umask 0; cd d; for i in $(seq 200); do echo x > $i; done; chmod 604 1*";
        assert!(shell_as(a, script, None).status.success());
        for number in 1..=200 {
            let name = format!("d/{number}");
            let (own, others) = (list(&a.join(&name), ACCESS), list(&b.join(&name), ACCESS));
            assert!(own.is_some() && own == others, "{own:?} {others:?}");
            assert_eq!(mode(&a.join(&name)), mode(&b.join(&name)));
        }
    });
}

#[test]
fn a_mount_may_do_without_lists() {
    for options in ["noacl", "uid=7"] {
        with_mount_and(&["-o", options], |root| {
            fs::create_dir(root.join("d")).unwrap();
            let text = acl("u::rwx,u:10:rwx,g::rwx,m::rwx,o::rwx");
            for name in [ACCESS, DEFAULT] {
                let refused = set_xattr(&root.join("d"), name, &text, 0);
                assert_eq!(refused, Err(Errno::EOPNOTSUPP), "{options}");
                assert_eq!(get_xattr(&root.join("d"), name), Err(Errno::EOPNOTSUPP));
            }
            assert_eq!(list_xattr(&root.join("d")), Ok(vec![]));
            let script = "umask 027; mkdir e; test $(stat -c %a e) = 750";
            assert!(shell_as(root, script, None).status.success());
        });
    }
}
