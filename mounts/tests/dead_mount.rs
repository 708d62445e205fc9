//! Mounts whose process is gone, made for real: a mount point in that state must become usable.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs::OpenOptions, io, os::fd::AsRawFd, path::Path};

use common::{Folder, POCKET_MOUNT, can_mount, is_mounted, pocket_mount, run};
use nix::mount::{MsFlags, mount};

/// Mounts a FUSE file system that nobody serves any more.
fn leave_dead_mount(path: &Path) {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        device.as_raw_fd()
    );
    let kind = Some("fuse.pocket");
    mount(
        Some("dead"),
        path,
        kind,
        MsFlags::empty(),
        Some(data.as_str()),
    )
    .unwrap();
    drop(device);
    let error = std::fs::metadata(path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::ENOTCONN), "{error}");
}

#[test]
fn a_dead_mount_is_removed_before_mounting() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    // One upon the other, as happens to supervisors that try again.
    leave_dead_mount(folder.path());
    let ran = pocket_mount(&["job", folder.text(), "--controller", "127.0.0.1:1"]);
    ran.assert_code(32);
    assert!(
        ran.stdout.contains("a dead mount was in the way"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("cannot reach the controller"),
        "{ran:?}"
    );
    assert!(!is_mounted(folder.path()), "never exit over a dead mount");
    assert!(std::fs::read_dir(folder.path()).is_ok());
}

#[test]
fn a_dead_mount_is_found_behind_a_symbolic_link() -> io::Result<()> {
    if !can_mount() {
        return Ok(());
    }
    let folder = Folder::new();
    let links = Folder::new();
    let link = links.join("link");
    std::os::unix::fs::symlink(folder.path(), &link)?;
    leave_dead_mount(folder.path());
    let helper = links.join("mount.pocket");
    std::os::unix::fs::symlink(POCKET_MOUNT, &helper)?;
    // mount(8)'s fake mount does everything but mount.
    let ran = run(
        helper.to_str().unwrap(),
        &["job", link.to_str().unwrap(), "-f"],
    );
    ran.assert_code(0);
    assert!(!is_mounted(folder.path()));
    Ok(())
}

#[test]
fn a_living_mount_is_left_alone() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    mount(
        Some("some"),
        folder.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=1m"),
    )
    .unwrap();
    let ran = pocket_mount(&["job", folder.text()]);
    ran.assert_code(32);
    assert!(ran.stderr.contains("is occupied: some (tmpfs)"), "{ran:?}");
    assert!(is_mounted(folder.path()));
}
