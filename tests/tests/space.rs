//! A job's space: what does not fit is refused by the write, and deleting makes room.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use nix::{errno::Errno, sys::statvfs::statvfs};
use pocket_tests::{Shape, errno_of, until, with_cluster, with_shape};

const MIB: usize = 1 << 20;
const CAPACITY: usize = 16 * MIB;

/// Writes files of `size` bytes until one does not fit; how many did, and the errno.
fn fill(root: &Path, prefix: &str, size: usize) -> (usize, Errno) {
    for index in 0..10 * CAPACITY / size {
        if let Err(error) = write_all(&root.join(format!("{prefix}{index}")), index, size) {
            return (index, errno_of(&error));
        }
    }
    panic!("{prefix} never filled the job");
}

fn content(index: usize, size: usize) -> Vec<u8> {
    vec![index as u8 | 1; size]
}

/// Every step's error counts: the write's, and the close's.
fn write_all(path: &Path, index: usize, size: usize) -> io::Result<()> {
    let file = File::create(path)?;
    file.write_all_at(&content(index, size), 0)?;
    nix::unistd::close(file).map_err(io::Error::from)
}

fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::EDQUOT | Errno::ENOSPC)
}

#[test]
fn df_shows_the_jobs_allocation() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("sized", &["--capacity", "16MiB"]);
        let bytes = || {
            let space = statvfs(mount.path()).unwrap();
            let unit = space.fragment_size();
            (space.blocks() * unit, space.blocks_available() * unit)
        };
        assert_eq!(bytes(), (CAPACITY as u64, CAPACITY as u64));
        write_all(&mount.join("f"), 1, 4 * MIB).unwrap();
        let (total, free) = bytes();
        assert_eq!(total, CAPACITY as u64);
        assert!(free <= 12 * MIB as u64, "{free} free");
        fs::remove_file(mount.join("f")).unwrap();
        until(Duration::from_secs(1), "the space to be free again", || {
            bytes().1 + MIB as u64 > CAPACITY as u64
        });
        mount.finish();
    });
}

#[test]
fn a_full_job_refuses_the_write_and_keeps_the_rest() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("full", &["--capacity", "16MiB"]);
        let (written, errno) = fill(mount.path(), "f", MIB);
        assert!(is_full(errno), "{errno}");
        assert!(written >= 14, "only {written} MiB of 16 could be used");
        let second = cluster.mount("full");
        for root in [mount.path(), second.path()] {
            for index in 0..written {
                let found = fs::read(root.join(format!("f{index}"))).unwrap();
                assert!(found == content(index, MIB), "f{index}");
            }
        }
        mount.finish();
        second.finish();
    });
}

#[test]
fn deleting_makes_room_within_a_second() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("room", &["--capacity", "16MiB"]);
        for round in 0..5 {
            let (written, errno) = fill(mount.path(), "f", MIB);
            assert!(is_full(errno), "{errno}");
            assert!(written >= 14, "round {round}: only {written} MiB of 16");
            for index in 0..=written {
                let _ = fs::remove_file(mount.join(format!("f{index}")));
            }
            until(Duration::from_secs(1), "room for a file", || {
                write_all(&mount.join("f0"), 0, 4 * MIB).is_ok()
            });
            fs::remove_file(mount.join("f0")).unwrap();
        }
        mount.finish();
    });
}

#[test]
fn truncating_makes_room() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("cut", &["--capacity", "16MiB"]);
        write_all(&mount.join("large"), 1, 12 * MIB).unwrap();
        assert!(write_all(&mount.join("other"), 2, 8 * MIB).is_err());
        let _ = fs::remove_file(mount.join("other"));
        OpenOptions::new()
            .write(true)
            .open(mount.join("large"))
            .unwrap()
            .set_len(5)
            .unwrap();
        until(Duration::from_secs(1), "room for the other file", || {
            write_all(&mount.join("other"), 2, 8 * MIB).is_ok()
        });
        assert_eq!(fs::read(mount.join("large")).unwrap(), content(1, 5));
        mount.finish();
    });
}

#[test]
fn a_full_job_is_still_overwritten_in_place() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("again", &["--capacity", "16MiB"]);
        write_all(&mount.join("first"), 1, 4 * MIB).unwrap();
        let (_, errno) = fill(mount.path(), "f", MIB);
        assert!(is_full(errno), "{errno}");
        let file = OpenOptions::new()
            .write(true)
            .open(mount.join("first"))
            .unwrap();
        file.write_all_at(&content(8, 4 * MIB), 0).unwrap();
        nix::unistd::close(file).unwrap();
        assert!(fs::read(mount.join("first")).unwrap() == content(8, 4 * MIB));
        mount.finish();
    });
}

#[test]
fn space_that_one_mount_leaves_is_used_by_another() {
    with_cluster(|cluster| {
        let first = cluster.mount_with("both", &["--capacity", "16MiB"]);
        let second = cluster.mount("both");
        // A mount asks for more space than it needs at once; that must not keep it from others.
        write_all(&first.join("small"), 1, 1000).unwrap();
        let (written, errno) = fill(second.path(), "f", MIB);
        assert!(is_full(errno), "{errno}");
        assert!(
            written >= 12,
            "only {written} MiB of 16 were left for the second mount"
        );
        first.finish();
        second.finish();
    });
}

#[test]
fn small_files_take_about_their_size() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("small", &["--capacity", "16MiB"]);
        let (written, _) = fill(mount.path(), "f", 1000);
        assert!(written >= 8_000, "{written} files of 1000 bytes in 16 MiB");
        mount.finish();
    });
}

#[test]
fn holes_take_no_space() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("holes", &["--capacity", "16MiB"]);
        let file = File::create(mount.join("sparse")).unwrap();
        file.set_len(50_000_000_000).unwrap();
        file.write_all_at(b"end", 49_999_999_997).unwrap();
        nix::unistd::close(file).unwrap();
        write_all(&mount.join("rest"), 1, 12 * MIB).unwrap();
        mount.finish();
    });
}

#[test]
fn full_storage_servers_send_blocks_elsewhere() {
    let shape = Shape {
        storage_servers: 3,
        storage_capacity: "24MiB",
    };
    with_shape(shape, |cluster| {
        let mount = cluster.mount_with("spill", &["--capacity", "64MiB"]);
        // The weights are even, but hashing fills one server before the others.
        let mut written = 0;
        while write_all(&mount.join(format!("f{written}")), written, MIB).is_ok() {
            written += 1;
        }
        assert!(written >= 60, "{written} MiB of 64");
        for index in 0..written {
            let found = fs::read(mount.join(format!("f{index}"))).unwrap();
            assert!(found == content(index, MIB), "f{index}");
        }
        mount.finish();
    });
}

#[test]
fn a_job_that_can_never_fit_is_refused_with_what_would() {
    with_cluster(|cluster| {
        let folder = cluster.folder("never");
        let controller = cluster.controller_endpoint().to_owned();
        let arguments = ["--controller", &controller, "--capacity", "100TiB"];
        let output = pocket_tests::mount_command("huge", &folder, &arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            errors.contains("100TiB") && errors.contains("2GiB"),
            "{errors}"
        );
        assert_eq!(
            pocket_tests::mounts_below(&folder),
            Vec::<std::path::PathBuf>::new()
        );
    });
}
