//! What ends by itself and what does not: times to live, files that are read once, jobs that persist,
//! and trees that are removed by one request.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use nix::errno::Errno;
use pocket_tests::{
    Map, ProcessCluster, Sharing, get_xattr, is_root, remove_xattr, set_xattr, until, with_cluster,
    with_mount,
};

/// Longer than any time to live here, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const TTL: &str = "user.pocket.ttl";
const READ_ONCE: &str = "user.pocket.delete_after_read";

#[track_caller]
fn gone(path: &Path) {
    let what = format!("{} to be gone", path.display());
    until(DEADLINE, &what, || !path.exists());
}

/// A command that must succeed, and what it says.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A command that must fail, and why it did.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{command:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_time_to_live_is_inherited_read_and_removed_and_makes_sense() {
    with_mount(|root| {
        let below = root.join("d/below");
        fs::create_dir(root.join("d")).unwrap();
        set_xattr(&root.join("d"), TTL, b"10m", 0).unwrap();
        fs::create_dir(&below).unwrap();
        fs::write(below.join("f"), "x").unwrap();
        let file = below.join("f");
        assert_eq!(get_xattr(&file, TTL), Ok(b"10m".to_vec()));
        remove_xattr(&file, TTL).unwrap();
        assert_eq!(get_xattr(&file, TTL), Err(Errno::ENODATA));
        for wrong in ["", "0", "-5s", "1w", "soon"] {
            let set = set_xattr(&file, TTL, wrong.as_bytes(), 0);
            assert_eq!(set, Err(Errno::EINVAL), "{wrong}");
        }
        assert_eq!(set_xattr(&file, READ_ONCE, b"0", 0), Err(Errno::EINVAL));
    });
}

#[test]
fn a_file_goes_on_all_mounts_when_its_time_is_over_and_lives_while_it_is_open() {
    with_cluster(|cluster| {
        let (one, two) = (cluster.mount("ttl"), cluster.mount("ttl"));
        fs::create_dir(one.join("d")).unwrap();
        // The directory is this mount's alone, and what is made there is told, not asked.
        fs::write(one.join("d/before"), "x").unwrap();
        set_xattr(&one.join("d"), TTL, b"2s", 0).unwrap();
        fs::write(one.join("d/f"), "content").unwrap();
        fs::write(one.join("d/g"), "content").unwrap();
        let mut open = File::open(two.join("d/f")).unwrap();
        gone(&two.join("d/f"));
        gone(&one.join("d/f"));
        gone(&two.join("d/g"));
        let mut read = String::new();
        open.read_to_string(&mut read).unwrap();
        assert_eq!(read, "content");
        drop(open);
        // It has no time to live of its own, and keeps its directory.
        assert!(two.join("d/before").exists());
        fs::remove_file(two.join("d/before")).unwrap();
        gone(&one.join("d"));
        one.finish();
        two.finish();
    });
}

#[test]
fn a_file_read_to_the_end_on_one_mount_goes_on_all() {
    with_cluster(|cluster| {
        let one = cluster.mount_with("once", &["--delete-after-read"]);
        let two = cluster.mount("once");
        for name in ["whole", "part", "twice", "pieces"] {
            fs::write(one.join(name), "content").unwrap();
            assert!(two.join(name).exists());
        }
        // In two handles, each a part: that does not add up.
        let (first, second) = (
            File::open(two.join("part")).unwrap(),
            File::open(two.join("part")).unwrap(),
        );
        first.read_exact_at(&mut [0; 4], 0).unwrap();
        second.read_exact_at(&mut [0; 3], 4).unwrap();
        drop((first, second));
        // In one handle, whatever the order.
        let pieces = File::open(two.join("pieces")).unwrap();
        pieces.read_exact_at(&mut [0; 3], 4).unwrap();
        pieces.read_exact_at(&mut [0; 4], 0).unwrap();
        drop(pieces);
        gone(&one.join("pieces"));
        // Open elsewhere, it stays until it is closed there.
        let held = File::open(one.join("twice")).unwrap();
        assert_eq!(fs::read(two.join("twice")).unwrap(), b"content");
        assert_eq!(fs::read(two.join("whole")).unwrap(), b"content");
        gone(&one.join("whole"));
        assert!(one.join("twice").exists());
        drop(held);
        gone(&two.join("twice"));
        assert!(two.join("part").exists());
        one.finish();
        two.finish();
    });
}

#[test]
fn who_may_write_a_file_does_not_use_it_up_and_who_maps_it_does() {
    with_mount(|root| {
        let directory = root.join("d");
        fs::create_dir(&directory).unwrap();
        set_xattr(&directory, READ_ONCE, b"1", 0).unwrap();
        for name in ["written", "mapped", "read"] {
            fs::write(directory.join(name), vec![7; 10_000]).unwrap();
        }
        let mut both = File::options();
        both.read(true).write(true);
        let mut written = both.open(directory.join("written")).unwrap();
        written.read_to_end(&mut Vec::new()).unwrap();
        drop(written);
        let file = File::open(directory.join("mapped")).unwrap();
        let map = Map::new(&file, 10_000, Sharing::Private).unwrap();
        drop(file);
        assert!(map.read(0, 10_000).iter().all(|byte| *byte == 7));
        fs::read(directory.join("read")).unwrap();
        gone(&directory.join("read"));
        // The map has it open still.
        assert!(directory.join("mapped").exists());
        drop(map);
        gone(&directory.join("mapped"));
        assert!(directory.join("written").exists());
    });
}

#[test]
fn a_killed_mount_has_read_nothing_to_the_end() {
    with_cluster(|cluster| {
        let one = cluster.mount_with("once", &["--delete-after-read"]);
        let mut two = cluster.mount("once");
        for name in ["f", "held"] {
            fs::write(one.join(name), "content").unwrap();
        }
        let (mut reading, held) = (
            File::open(two.join("f")).unwrap(),
            File::open(two.join("held")).unwrap(),
        );
        reading.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(fs::read(one.join("held")).unwrap(), b"content");
        two.process().kill();
        drop((reading, held));
        // What another has used up goes when the killed mount's session has ended.
        gone(&one.join("held"));
        assert_eq!(fs::read(one.join("f")).unwrap(), b"content");
        gone(&one.join("f"));
        one.finish();
    });
}

/// A tree of some size on a mount.
fn plant(root: &Path) {
    for directory in ["tree/a/deep", "tree/b"] {
        fs::create_dir_all(root.join(directory)).unwrap();
        for file in 0..300 {
            fs::write(root.join(directory).join(file.to_string()), "x").unwrap();
        }
    }
}

fn remove(cluster: &ProcessCluster, arguments: &[&str]) -> Command {
    cluster.command(&[&["rm"], arguments].concat())
}

#[test]
fn a_tree_is_removed_by_one_request_on_all_mounts() {
    with_cluster(|cluster| {
        let (one, two) = (cluster.mount("tree"), cluster.mount("tree"));
        plant(one.path());
        fs::write(one.join("other"), "stays").unwrap();
        let mut open = File::open(two.join("tree/b/7")).unwrap();
        let tree = two.join("tree");
        let path = tree.to_str().unwrap();
        let flat = refused(&mut remove(cluster, &[path]));
        assert!(flat.contains("give -r"), "{flat}");
        if is_root() {
            let said = run(&mut remove(cluster, &["-r", path]));
            assert_eq!(said, "604 names removed\n");
        } else {
            run(&mut remove(cluster, &["-r", "tree/tree"]));
        }
        assert!(!one.join("tree").exists() && !two.join("tree").exists());
        let mut read = String::new();
        open.read_to_string(&mut read).unwrap();
        assert_eq!(read, "x");
        drop(open);
        plant(two.path());
        run(&mut remove(cluster, &["-r", "tree/tree"]));
        assert!(!one.join("tree").exists());
        assert_eq!(fs::read(two.join("other")).unwrap(), b"stays");
        one.finish();
        two.finish();
    });
}

#[test]
fn neither_a_job_nor_what_is_no_jobs_is_removed_as_a_tree() {
    with_cluster(|cluster| {
        let mount = cluster.mount("tree");
        let outside = cluster.folder("outside");
        fs::write(outside.join("f"), "x").unwrap();
        let root = mount.path().to_str().unwrap().to_owned();
        for (path, says) in [
            (root.as_str(), "is the root of a mount"),
            ("tree", "pocket job deregister"),
            ("tree/", "pocket job deregister"),
            ("tree/..", "'..' is not followed"),
            (outside.to_str().unwrap(), "not on a mount of a job"),
            ("/", "has no name"),
        ] {
            let error = refused(&mut remove(cluster, &["-r", path]));
            assert!(error.contains(says), "{path}: {error}");
        }
        assert!(outside.join("f").exists());
        mount.finish();
    });
}

#[test]
fn a_persistent_job_is_found_again_listed_and_removed() {
    with_cluster(|cluster| {
        let first = cluster.mount_with("results", &["--persist", "--ttl", "1h"]);
        fs::write(first.join("f"), "result").unwrap();
        first.finish();
        let listed = |cluster: &ProcessCluster| run(&mut cluster.command(&["jobs"]));
        until(DEADLINE, "the job to be kept", || {
            let jobs = listed(cluster);
            let mut lines = jobs.lines().filter(|line| line.contains("results"));
            lines.any(|line| line.contains("kept, in ") && line.contains("unless mounted"))
        });
        for arguments in [&["--attach"][..], &["--persist"], &[]] {
            let again = cluster.mount_with("results", arguments);
            assert_eq!(fs::read(again.join("f")).unwrap(), b"result");
            fs::write(again.join("g"), "more").unwrap();
            again.finish();
        }
        run(&mut cluster.command(&["job", "deregister", "results"]));
        assert!(!listed(cluster).contains("results"));
    });
}
