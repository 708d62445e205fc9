//! The life of a mount, for real: it returns when it serves, and ends in every orderly way.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{PermissionsExt, symlink},
            net::UnixStream,
        },
    },
    process::Stdio,
};

use common::{
    Folder, POCKET_MOUNT, can_mount, command, is_mounted, pocket_mount, processes_naming, run,
    signal, until,
};
use nix::sys::signal::Signal;

const SMALL: [&str; 2] = ["--capacity", "64MiB"];

/// Mounts job `job` in the background with a cluster inside.
fn mount_embedded(folder: &Folder, job: &str, arguments: &[&str]) {
    let ran = pocket_mount(&[&[job, folder.text()], &SMALL[..], arguments].concat());
    ran.assert_code(0);
}

fn the_process(folder: &Folder) -> i32 {
    let processes = processes_naming(folder.text());
    assert_eq!(processes.len(), 1, "{processes:?}");
    processes[0]
}

fn until_gone(folder: &Folder) {
    until("the mount is gone", || !is_mounted(folder.path()));
    until("its process is gone", || {
        processes_naming(folder.text()).is_empty()
    });
}

#[test]
fn a_mount_in_use_ends_by_signal_too() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    mount_embedded(&folder, "busy", &[]);
    let open = fs::File::create(folder.join("file")).unwrap();
    signal(the_process(&folder), Signal::SIGTERM);
    until_gone(&folder);
    drop(open);
}

#[test]
fn hang_up_is_ignored_and_usr2_changes_the_log_level() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    let logs = Folder::new();
    let log = logs.join("log");
    mount_embedded(&folder, "signals", &["--log-file", log.to_str().unwrap()]);
    let process = the_process(&folder);
    signal(process, Signal::SIGHUP);
    signal(process, Signal::SIGUSR2);
    until("the log tells of its level", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        said.contains("the log level is info")
    });
    assert!(is_mounted(folder.path()));
    signal(process, Signal::SIGTERM);
    until_gone(&folder);
}

#[test]
fn a_foreground_mount_says_that_it_serves_and_exits_with_0() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    let arguments = [&["fore", folder.text(), "-f"], &SMALL[..]].concat();
    let mut child = command(POCKET_MOUNT, &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it is mounted", || is_mounted(folder.path()));
    until("its root answers", || fs::read_dir(folder.path()).is_ok());
    run("umount", &[folder.text()]).assert_code(0);
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let mut complained = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complained)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{complained}");
    assert!(said.contains("Ctrl-C unmounts it"), "{said}");
    assert_eq!(complained, "");
}

#[test]
fn a_killed_mount_is_replaced_by_the_next() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    mount_embedded(&folder, "killed", &[]);
    signal(the_process(&folder), Signal::SIGKILL);
    until("it is dead", || processes_naming(folder.text()).is_empty());
    assert!(
        is_mounted(folder.path()),
        "a dead mount is what this is about"
    );
    let ran = pocket_mount(&[&["killed", folder.text()], &SMALL[..]].concat());
    ran.assert_code(0);
    assert!(
        ran.stdout.contains("a dead mount was in the way"),
        "{ran:?}"
    );
    fs::write(folder.join("file"), "works").unwrap();
    run("umount", &[folder.text()]).assert_code(0);
    until_gone(&folder);
}

#[test]
fn an_active_mount_is_not_mounted_over() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    mount_embedded(&folder, "active", &[]);
    let ran = pocket_mount(&["other", folder.text()]);
    ran.assert_code(32);
    assert!(ran.stderr.contains("job 'active' is mounted on"), "{ran:?}");
    assert_eq!(processes_naming(folder.text()).len(), 1);
    run("umount", &[folder.text()]).assert_code(0);
    until_gone(&folder);
}

#[test]
fn a_mount_whose_command_was_killed_takes_itself_down() {
    if !can_mount() {
        return;
    }
    // As soon as the second process exists, and as late as can be.
    for is_late in [false, true] {
        let folder = Folder::new();
        let arguments = [&["orphan", folder.text()], &SMALL[..]].concat();
        // The command prints notices before it hears that the mount is ready: here it cannot.
        let (_unread, full) = full_pipe();
        let mut child = command(POCKET_MOUNT, &arguments)
            .stdout(Stdio::from(OwnedFd::from(full)))
            .spawn()
            .unwrap();
        until("a second process works on it", || {
            processes_naming(folder.text()).len() == 2
        });
        if is_late {
            until("it is mounted", || is_mounted(folder.path()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        until_gone(&folder);
    }
}

/// A stream whose second end takes nothing more: whoever writes there waits.
fn full_pipe() -> (UnixStream, UnixStream) {
    let (unread, mut full) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    for size in [4096, 1] {
        while full.write(&vec![0; size]).is_ok() {}
    }
    full.set_nonblocking(false).unwrap();
    (unread, full)
}

#[test]
fn options_reach_the_kernel() {
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    let helpers = Folder::new();
    let helper = helpers.join("mount.pocket");
    symlink(POCKET_MOUNT, &helper).unwrap();
    let options = "ro,noexec,noatime,fsname=from,capacity=64MiB,_netdev";
    let arguments = ["options", folder.text(), "-n", "-o", options];
    run(helper.to_str().unwrap(), &arguments).assert_code(0);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(folder.text()))
        .unwrap();
    for part in [
        "ro,",
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "fuse.pocket from",
        "allow_other",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let error = fs::write(folder.join("file"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EROFS));
    run("umount", &[folder.text()]).assert_code(0);
    until_gone(&folder);
}

#[test]
fn files_are_shown_as_asked_for() {
    use std::os::unix::fs::MetadataExt;
    if !can_mount() {
        return;
    }
    let folder = Folder::new();
    mount_embedded(&folder, "shown", &["-o", "uid=7,gid=8,umask=077"]);
    fs::write(folder.join("file"), "x").unwrap();
    fs::set_permissions(folder.join("file"), PermissionsExt::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let found = fs::metadata(folder.join("file")).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o777),
            (7, 8, 0o700)
        );
    }
    run("umount", &[folder.text()]).assert_code(0);
    until_gone(&folder);
}
