//! Command lines through real runs of the programs: exit codes and sentences, no cluster needed.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, os::unix::fs::symlink};

use common::{POCKET_MOUNT, Run, pocket, pocket_mount, run};

/// Nothing listens there: port 1 is reserved.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn help_teaches_by_examples() {
    for (ran, part) in [
        (
            pocket_mount(&["--help"]),
            "pocket-mount sort-42 /pocket/sort-42",
        ),
        (pocket(&["--help"]), "pocket up --storage-servers 2"),
        (pocket(&["put", "--help"]), "JOB/PATH"),
    ] {
        ran.assert_code(0);
        assert!(ran.stdout.contains("Usage:"), "{ran:?}");
        assert!(ran.stdout.contains(part), "{ran:?}");
    }
}

#[test]
fn wrong_usage_of_pocket_mount_exits_with_1() {
    for (arguments, part) in [
        (&[][..], "Usage:"),
        (&["job"], "MOUNTPOINT"),
        (
            &["job", "/mnt", "--capacity", "lots"],
            "write a number and a unit",
        ),
        (
            &["job", "/mnt", "-o", "bogus"],
            "unknown mount option 'bogus'",
        ),
        (&["job", "/mnt", "--max-tasks", "0"], "at least 1 task"),
    ] {
        let ran = pocket_mount(arguments);
        ran.assert_code(1);
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
}

#[test]
fn unusable_mount_points_exit_with_32() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for (mountpoint, part) in [
        (
            folder.path().join("absent"),
            "does not exist: create the directory first",
        ),
        (file, "is not a directory"),
        ("/proc".into(), "is occupied: proc"),
    ] {
        for foreground in [&[][..], &["-f"]] {
            let mountpoint = mountpoint.to_str().unwrap();
            let ran = pocket_mount(&[&["job", mountpoint], foreground].concat());
            ran.assert_code(32);
            assert!(ran.stderr.contains(part), "{ran:?}");
        }
    }
}

#[test]
fn an_unreachable_controller_fails_the_mount_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mountpoint = folder.path().to_str().unwrap();
    for foreground in [&[][..], &["-f"]] {
        let arguments = ["job", mountpoint, "--controller", NOBODY];
        let ran = pocket_mount(&[&arguments, foreground].concat());
        ran.assert_code(32);
        assert!(ran.stderr.contains(NOBODY), "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
        assert!(!common::is_mounted(folder.path()));
        assert_eq!(common::processes_naming(mountpoint), Vec::<i32>::new());
    }
}

#[test]
fn the_mount_helper_goes_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("mount.pocket");
    symlink(POCKET_MOUNT, &helper).unwrap();
    let mountpoint = folder.path().to_str().unwrap();
    let helper = |arguments: &[&str]| -> Run { run(helper.to_str().unwrap(), arguments) };

    let fake = helper(&["job", mountpoint, "-f", "-o", "rw,_netdev,capacity=1GiB"]);
    fake.assert_code(0);
    let sloppy = helper(&["job", mountpoint, "-sf", "-o", "bogus"]);
    sloppy.assert_code(0);
    let wrong = helper(&["job", mountpoint, "-o", "bogus"]);
    wrong.assert_code(1);
    let alone = helper(&["job"]);
    alone.assert_code(1);
    assert!(alone.stderr.contains("usage: mount.pocket"), "{alone:?}");
    let mounting = helper(&["job", mountpoint, "-o", &format!("controller={NOBODY}")]);
    mounting.assert_code(32);
    assert!(mounting.stderr.contains(NOBODY), "{mounting:?}");
}

#[test]
fn reading_commands_say_when_the_controller_is_away() {
    for command in [
        &["status"][..],
        &["nodes"],
        &["jobs", "--json"],
        &["job", "show", "x"],
        &["job", "deregister", "x"],
        &["ls", "x"],
        &["get", "x/y"],
        &["rm", "x/y"],
        &["put", "x/y", "/etc/passwd"],
    ] {
        let ran = pocket(&[command, &["--controller", NOBODY]].concat());
        ran.assert_code(1);
        assert!(
            ran.stderr.contains("cannot reach the controller"),
            "{ran:?}"
        );
        assert!(ran.stderr.contains(NOBODY), "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
    }
}

#[test]
fn objects_that_cannot_be_are_refused_before_anyone_is_asked() {
    for (arguments, code, part) in [
        (
            &["put", "job/x", "/no/such/file"][..],
            1,
            "cannot open /no/such/file",
        ),
        (&["put", "job/x", "/"], 1, "is a directory"),
        (&["put", "job/", "-"], 1, "name the object"),
        (&["rm", "-r", "job"], 1, "pocket job deregister job"),
        (&["get", "/x"], 2, "no job is named"),
        (&["ls", "job/../other"], 2, "'..' is not followed"),
        (&["put", "job/x"], 2, "FILE"),
    ] {
        let ran = pocket(arguments);
        ran.assert_code(code);
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
}

#[test]
fn servers_that_cannot_start_say_why() {
    for (arguments, part) in [
        (&["controller", "--listen", "nowhere"][..], "nowhere"),
        (&["storage", "--capacity", "0"], "more than 0"),
        (&["storage", "--tier", "tape"], "dram"),
        (
            &["controller", "--cluster-key-file", "/no/such/key"],
            "/no/such/key",
        ),
        (
            &["controller", "--listen", "127.0.0.1:0", "--parent", "1"],
            "process 1",
        ),
    ] {
        let ran = pocket(arguments);
        assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
}
