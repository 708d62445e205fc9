//! A job's space: what does not fit is refused by the write, and deleting makes room.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use pocket_tests::{Shape, errno_of, until, with_cluster, with_shape};

const MIB: usize = 1 << 20;
const CAPACITY: usize = 16 * MIB;
/// A job that is not to outgrow its capacity.
const SIZED: [&str; 4] = ["--capacity", "16MiB", "--max-capacity", "16MiB"];

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
        let mount = cluster.mount_with("sized", &SIZED);
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
        let mount = cluster.mount_with("full", &SIZED);
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
fn a_job_that_outgrows_its_hint_is_given_more_before_anything_fails() {
    with_cluster(|cluster| {
        let limits = ["--capacity", "16MiB", "--max-capacity", "80MiB"];
        let mount = cluster.mount_with("outgrows", &limits);
        for index in 0..72 {
            write_all(&mount.join(format!("f{index}")), index, MIB).unwrap();
        }
        let space = statvfs(mount.path()).unwrap();
        let capacity = space.blocks() * space.fragment_size();
        assert!(capacity >= 72 * MIB as u64, "{capacity} in all");
        // What its user said it must not outgrow it does not.
        let (more, errno) = fill(mount.path(), "more", MIB);
        assert_eq!(errno, Errno::EDQUOT);
        assert!((6..=8).contains(&more), "{more}");
        for index in 0..72 {
            let found = fs::read(mount.join(format!("f{index}"))).unwrap();
            assert!(found == content(index, MIB), "f{index}");
        }
        mount.finish();
    });
}

#[test]
fn deleting_makes_room_within_a_second() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("room", &SIZED);
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
        let mount = cluster.mount_with("cut", &SIZED);
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
        let mount = cluster.mount_with("again", &SIZED);
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
        let first = cluster.mount_with("both", &SIZED);
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
        let mount = cluster.mount_with("small", &SIZED);
        let (written, _) = fill(mount.path(), "f", 1000);
        assert!(written >= 8_000, "{written} files of 1000 bytes in 16 MiB");
        mount.finish();
    });
}

#[test]
fn holes_take_no_space() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("holes", &SIZED);
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
        ..Shape::default()
    };
    with_shape(shape, |cluster| {
        let mount =
            cluster.mount_with("spill", &["--capacity", "64MiB", "--max-capacity", "64MiB"]);
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

fn allocate(file: &File, flags: FallocateFlags, offset: usize, length: usize) -> Result<(), Errno> {
    fallocate(file, flags, offset as i64, length as i64)
}

#[test]
fn an_allocation_that_does_not_fit_is_refused_before_anything_is_done() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("allocate", &SIZED);
        write_all(&mount.join("f"), 1, MIB).unwrap();
        let file = OpenOptions::new()
            .write(true)
            .open(mount.join("f"))
            .unwrap();
        let before = file.metadata().unwrap();
        for flags in [
            FallocateFlags::empty(),
            FallocateFlags::FALLOC_FL_KEEP_SIZE,
            FallocateFlags::FALLOC_FL_ZERO_RANGE,
        ] {
            for length in [17 * MIB, 1 << 40, 1 << 61] {
                let refused = allocate(&file, flags, 0, length).unwrap_err();
                assert!(is_full(refused), "{refused}");
            }
        }
        let after = file.metadata().unwrap();
        assert_eq!(after.len(), before.len());
        assert_eq!(after.blocks(), before.blocks());
        assert!(fs::read(mount.join("f")).unwrap() == content(1, MIB));
        // What is there already is not asked for once more.
        allocate(&file, FallocateFlags::empty(), 0, 15 * MIB).unwrap();
        allocate(&file, FallocateFlags::empty(), 0, 15 * MIB).unwrap();
        allocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE, 0, 15 * MIB).unwrap();
        drop(file);
        mount.finish();
    });
}

#[test]
fn allocated_space_is_there_when_the_job_is_full() {
    with_cluster(|cluster| {
        for (name, flags) in [
            ("grown", FallocateFlags::empty()),
            ("kept", FallocateFlags::FALLOC_FL_KEEP_SIZE),
        ] {
            let mount = cluster.mount_with(name, &SIZED);
            let file = File::create(mount.join("f")).unwrap();
            allocate(&file, flags, 0, 8 * MIB).unwrap();
            let (_, errno) = fill(mount.path(), "other", MIB / 4);
            assert!(is_full(errno), "{errno}");
            for index in 0..8 {
                file.write_all_at(&content(index, MIB), (index * MIB) as u64)
                    .unwrap();
            }
            nix::unistd::close(file).unwrap();
            let found = fs::read(mount.join("f")).unwrap();
            assert!((0..8).all(|index| found[index * MIB] == index as u8 | 1));
            mount.finish();
        }
    });
}

#[test]
fn punching_and_removing_give_allocated_space_back() {
    with_cluster(|cluster| {
        let mount = cluster.mount_with("punch", &SIZED);
        let file = File::create(mount.join("f")).unwrap();
        for round in 0..5 {
            // What was removed a moment ago makes room within a second.
            let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            until(Duration::from_secs(1), "room to allocate", || {
                allocate(&file, keep, round * MIB, 12 * MIB).is_ok()
            });
            assert!(write_all(&mount.join("other"), 1, 8 * MIB).is_err());
            let _ = fs::remove_file(mount.join("other"));
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            allocate(&file, punch, 0, 100 * MIB).unwrap();
            until(Duration::from_secs(1), "room for the other file", || {
                write_all(&mount.join("other"), 1, 12 * MIB).is_ok()
            });
            fs::remove_file(mount.join("other")).unwrap();
        }
        until(Duration::from_secs(1), "room to allocate", || {
            allocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 12 * MIB).is_ok()
        });
        drop(file);
        fs::remove_file(mount.join("f")).unwrap();
        until(Duration::from_secs(1), "room for the other file", || {
            write_all(&mount.join("other"), 1, 15 * MIB).is_ok()
        });
        mount.finish();
    });
}

#[test]
fn full_storage_servers_send_allocated_blocks_elsewhere() {
    let shape = Shape {
        storage_servers: 3,
        storage_capacity: "24MiB",
        ..Shape::default()
    };
    with_shape(shape, |cluster| {
        let mount =
            cluster.mount_with("spill", &["--capacity", "64MiB", "--max-capacity", "64MiB"]);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(mount.join("f"))
            .unwrap();
        file.write_all_at(&content(3, 1000), 0).unwrap();
        allocate(&file, FallocateFlags::empty(), 0, 60 * MIB).unwrap();
        let mut found = vec![1; 60 * MIB];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found[..1000] == content(3, 1000) && found[1000..].iter().all(|byte| *byte == 0));
        file.write_all_at(&content(5, 60 * MIB), 0).unwrap();
        nix::unistd::close(file).unwrap();
        assert!(fs::read(mount.join("f")).unwrap() == content(5, 60 * MIB));
        mount.finish();
    });
}

#[test]
fn a_file_without_a_name_gives_its_space_back_when_it_is_closed_or_its_mount_dies() {
    with_cluster(|cluster| {
        let mut mount = cluster.mount_with("unnamed", &SIZED);
        let other = cluster.mount("unnamed");
        let used = || {
            let space = statvfs(other.path()).unwrap();
            (space.blocks() - space.blocks_available()) * space.fragment_size()
        };
        let unnamed = || {
            let flags = libc::O_TMPFILE;
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).custom_flags(flags);
            let file = options.open(mount.path()).unwrap();
            file.write_all_at(&content(1, 8 * MIB), 0).unwrap();
            file.sync_all().unwrap();
            file
        };
        let file = unnamed();
        assert!(used() >= 8 * MIB as u64);
        drop(file);
        let second = Duration::from_secs(1);
        until(second, "the closed file's space", || used() < MIB as u64);
        let file = unnamed();
        mount.process().kill();
        drop(file);
        // The lease time, and what it takes to notice.
        let lease = Duration::from_secs(10);
        until(lease, "the dead mount's space", || used() < MIB as u64);
        drop(mount);
        other.finish();
    });
}
